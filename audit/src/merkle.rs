//! A Merkle tree over the events of a log, from which one event can be proved without the others.
//!
//! A leaf is the hash of an event as it is, a node `SHA-256("nono.audit.merkle.alpha\n" ‖ left ‖
//! right)`. What has no partner in its row goes up to the next one as it is.

use serde::{Deserialize, Serialize};

use crate::error::whole_object;
use crate::hash::{Hash, domain};

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::of(&[domain::MERKLE, left.as_bytes(), right.as_bytes()])
}

/// The tree over leaves that come one by one: of each full subtree only the root is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    leaves: u64,
    /// The roots of the full subtrees, the largest first: one for each bit that `leaves` has.
    peaks: Vec<Hash>,
}

impl Tree {
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut root = leaf;
        for _ in 0..self.leaves.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                root = node(&left, &root);
            }
        }
        self.peaks.push(root);
        self.leaves += 1;
    }

    /// The root; of no leaves there is none.
    pub(crate) fn root(&self) -> Option<Hash> {
        let mut peaks = self.peaks.iter().rev();
        let smallest = *peaks.next()?;
        Some(peaks.fold(smallest, |right, left| node(left, &right)))
    }
}

/// On which side of the path to the root a hash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Before it.
    Left,
    /// Behind it.
    Right,
}

/// What a node on the path to the root is hashed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// On which side.
    pub direction: Side,
    /// Its hash.
    pub hash: Hash,
}

/// That a leaf is in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// Which leaf, from 0.
    pub leaf_index: u64,
    /// Of how many.
    pub leaf_count: u64,
    /// The leaf itself.
    pub leaf_hash: Hash,
    /// The root of the tree.
    pub merkle_root: Hash,
    /// From the leaf's to the root's.
    pub siblings: Vec<Sibling>,
}

impl InclusionProof {
    /// The proof for one of `leaves`; `None` if it has no such index.
    pub fn build(leaves: &[Hash], leaf_index: usize) -> Option<Self> {
        let leaf_hash = *leaves.get(leaf_index)?;
        let (mut row, mut at, mut siblings) = (leaves.to_vec(), leaf_index, Vec::new());
        while row.len() > 1 {
            let direction = if at % 2 == 1 { Side::Left } else { Side::Right };
            if let Some(hash) = row.get(at ^ 1) {
                siblings.push(Sibling { direction, hash: *hash });
            }
            row = row.chunks(2).map(pair).collect();
            at /= 2;
        }
        let (leaf_index, leaf_count) = (leaf_index as u64, leaves.len() as u64);
        let merkle_root = row.first().copied()?;
        Some(Self { leaf_index, leaf_count, leaf_hash, merkle_root, siblings })
    }

    /// Reads it from JSON.
    ///
    /// # Errors
    /// It is none; in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        whole_object(text)
    }

    /// Whether it leads from its leaf, at its index among that many, to its root.
    pub fn is_valid(&self) -> bool {
        if self.leaf_index >= self.leaf_count {
            return false;
        }
        let (mut at, mut last, mut hash) = (self.leaf_index, self.leaf_count - 1, self.leaf_hash);
        let mut siblings = self.siblings.iter();
        while last > 0 {
            // What has no partner goes up alone.
            if at % 2 == 1 || at < last {
                let expected = if at % 2 == 1 { Side::Left } else { Side::Right };
                match siblings.next() {
                    Some(sibling) if sibling.direction == expected => {
                        hash = match expected {
                            Side::Left => node(&sibling.hash, &hash),
                            Side::Right => node(&hash, &sibling.hash),
                        };
                    }
                    _ => return false,
                }
            }
            (at, last) = (at / 2, last / 2);
        }
        siblings.next().is_none() && hash == self.merkle_root
    }
}

fn pair(nodes: &[Hash]) -> Hash {
    match nodes {
        [left, right] => node(left, right),
        [alone] => *alone,
        _ => Hash::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{InclusionProof, Side, Tree};
    use crate::hash::Hash;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|at| Hash::of(&[&at.to_be_bytes()])).collect()
    }

    proptest! {
        #[test]
        fn every_leaf_is_proved_and_the_tree_grows_to_the_same_root(count in 1usize..200) {
            let leaves = leaves(count);
            let mut tree = Tree::default();
            for leaf in &leaves {
                tree.push(*leaf);
            }
            for at in 0..count {
                let proof = InclusionProof::build(&leaves, at).unwrap();
                prop_assert!(proof.is_valid());
                prop_assert_eq!(Some(proof.merkle_root), tree.root());
            }
            prop_assert_eq!(InclusionProof::build(&leaves, count), None);
        }

        #[test]
        fn a_proof_holds_for_nothing_else(count in 1usize..64, seed: prop::sample::Index, other in 0u64..80) {
            let leaves = leaves(count);
            let proof = InclusionProof::build(&leaves, seed.index(count)).unwrap();
            let changed = |change: &dyn Fn(&mut InclusionProof)| {
                let mut changed = proof.clone();
                change(&mut changed);
                changed == proof || !changed.is_valid()
            };
            prop_assert!(changed(&|proof| proof.leaf_index = other));
            prop_assert!(changed(&|proof| proof.leaf_hash = Hash::ZERO));
            prop_assert!(changed(&|proof| proof.merkle_root = Hash::ZERO));
            prop_assert!(changed(&|proof| proof.siblings.truncate(1)));
            prop_assert!(changed(&|proof| proof.siblings.reverse()));
            prop_assert!(changed(&|proof| proof.siblings.extend(proof.siblings.first().cloned())));
            let is_bound_to_sides = changed(&|proof| for sibling in &mut proof.siblings {
                let is_left = sibling.direction == Side::Left;
                sibling.direction = if is_left { Side::Right } else { Side::Left };
            });
            prop_assert!(is_bound_to_sides);
        }
    }
}
