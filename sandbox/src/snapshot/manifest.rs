//! One snapshot: every entry, under a root that commits to all of them.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use super::diff::changes;
use super::exclusion::ExclusionConfig;
use super::hash::ContentHash;
use super::key::Key;
use super::roots::Root;
use super::rules::Rules;
use super::shared::Shared;
use super::tree::{Kind, Node, Tree};
use super::values::{Change, FileState, SkipReason, Skipped};
use super::walk::Found;

/// How many hashes are worth giving to another thread.
const BATCH: usize = 512;

/// What was there when a snapshot was made.
#[derive(Clone, Debug)]
pub struct SnapshotManifest {
    /// Its number in the session, from 0.
    pub number: u32,
    /// When it was made: seconds since the epoch, in decimal digits.
    pub timestamp: String,
    /// The number of the snapshot before; `None` for a baseline.
    pub parent: Option<u32>,
    /// The Merkle root over paths and contents of all files.
    pub merkle_root: ContentHash,
    /// What is not in it, or not for certain as it was.
    pub skipped: Vec<Skipped>,
    /// What was left out; `None` in a snapshot that does not tell.
    pub exclusion: Option<ExclusionConfig>,
    pub(super) tree: Tree,
    /// What it is of; `None` in a snapshot that does not tell.
    pub(super) roots: Option<Vec<Root>>,
    /// The texts of `.gitignore` files that are not in it; `None` in a snapshot that does not tell.
    pub(super) rules: Option<Rules>,
    /// Whether it tells of directories, links and owners, and not of files alone.
    pub(super) is_complete: bool,
}

impl SnapshotManifest {
    /// A snapshot of what was found, which stands for itself. `previous` is an earlier one.
    pub(super) fn new(
        number: u32,
        seconds: i64,
        exclusion: ExclusionConfig,
        found: Found,
        previous: Option<&Self>,
    ) -> Self {
        let same = previous.filter(|previous| have_same_files(&previous.tree, &found.tree));
        let root = same.map(|previous| previous.merkle_root);
        Self {
            number,
            timestamp: seconds.to_string(),
            parent: None,
            merkle_root: root.unwrap_or_else(|| merkle_root(&found.tree)),
            skipped: found.skipped,
            exclusion: Some(exclusion),
            tree: found.tree,
            roots: None,
            rules: None,
            is_complete: true,
        }
    }

    /// What has changed since an earlier snapshot, as far as that tells.
    pub(super) fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        changes(earlier.tree.pairs(&self.tree), earlier.is_complete)
    }

    /// Whether all but number, time and parent is the same, as far as the two share their entries.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.is_complete
            && other.is_complete
            && self.merkle_root == other.merkle_root
            && self.skipped == other.skipped
            && self.exclusion == other.exclusion
            && self.roots == other.roots
            && self.rules == other.rules
            && other.tree.pairs(&self.tree).next().is_none()
    }

    /// What stood there when it was made and is not in it, whatever it was.
    pub(super) fn unread(&self) -> HashSet<&Path> {
        let is_told = |path: &Path| {
            let entry = self.tree.get(&Key::new(path));
            entry.is_some_and(|entry| !entry.is_directory())
        };
        let unread = self.skipped.iter().filter_map(Skipped::stays);
        // What changed while it was read is in it as it was read last.
        unread.filter(|path| !is_told(path)).collect()
    }

    /// The sockets, pipes and devices that stood there when it was made.
    pub(super) fn special(&self) -> impl Iterator<Item = &Path> {
        let special = self.skipped.iter().filter(|one| one.reason == SkipReason::Special);
        special.map(|skipped| &*skipped.path)
    }

    /// The files by path, in the order of their components.
    pub fn files(&self) -> impl Iterator<Item = (&Path, FileState)> {
        self.tree.nodes().iter().filter_map(|node| match node.entry.kind {
            Kind::File { hash, size, .. } => {
                let (mtime, permissions) = (node.entry.mtime.seconds, node.entry.mode);
                Some((node.key.as_path(), FileState { hash, size, mtime, permissions }))
            }
            _ => None,
        })
    }
}

/// Whether the same names have the same contents in both.
fn have_same_files(old: &Tree, new: &Tree) -> bool {
    let content = |node: Option<&Node>| match node?.entry.kind {
        Kind::File { hash, .. } => Some(hash),
        _ => None,
    };
    old.pairs(new).all(|pair| content(pair.old) == content(pair.new))
}

/// The root over all files whose names are text, which are those that the format has a place for.
pub(super) fn merkle_root(tree: &Tree) -> ContentHash {
    let leaf = |node: &Shared| match &node.entry.kind {
        Kind::File { hash, .. } if node.key.is_text() => {
            Some(ContentHash::of(&[&[0], node.key.as_bytes(), hash.as_bytes()]))
        }
        _ => None,
    };
    let nodes = tree.nodes().par_iter().with_min_len(BATCH);
    let mut level: Vec<_> = nodes.filter_map(leaf).collect();
    while level.len() > 1 {
        let pair = |pair: &[ContentHash]| match pair {
            [left, right] => ContentHash::of(&[&[1], left.as_bytes(), right.as_bytes()]),
            // The odd one goes up as it is.
            [alone, ..] => *alone,
            [] => ContentHash::of(&[]),
        };
        level = level.par_chunks(2).with_min_len(BATCH).map(pair).collect();
    }
    level.first().copied().unwrap_or_else(|| ContentHash::of(&[]))
}
