//! What a snapshot was of, among what is tracked now.

use rayon::prelude::*;

use super::error::SnapshotError;
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::roots::{Root, find};
use super::shared::Shared;

impl SnapshotManifest {
    /// The paths that the snapshot was of, as far as the `tracked` ones cover them: nothing is
    /// known of what else is tracked, so nothing is done to it.
    ///
    /// # Errors
    ///
    /// If the snapshot reaches out of what is tracked, or was of another place of the same name.
    pub(super) fn scope(&self, tracked: &[Root]) -> Result<Vec<Root>, SnapshotError> {
        let scope = match &self.roots {
            Some(roots) => {
                roots.iter().try_for_each(|root| is_covered(root, tracked))?;
                roots.clone()
            }
            None => tracked.iter().filter(|root| self.seems_of(root, tracked)).cloned().collect(),
        };
        let strays = |node: &&Shared| find(&scope, &node.key).is_none();
        match self.tree.nodes().par_iter().find_any(strays) {
            Some(node) => Err(outside(&node.key)),
            None => Ok(scope),
        }
    }

    /// Whether a snapshot that does not tell was of `root`: it has that itself, or what it knows
    /// of are files and one is beneath.
    fn seems_of(&self, root: &Root, tracked: &[Root]) -> bool {
        if self.is_complete {
            let is_skipped = || self.skipped.iter().any(|one| one.path == root.key.as_path());
            return self.tree.get(&root.key).is_some() || is_skipped();
        }
        let nodes = self.tree.nodes();
        let first = nodes.get(nodes.partition_point(|node| node.key < root.key));
        let is_of = |node: &Shared| node.key == root.key || root.key.is_above(&node.key);
        tracked.len() == 1 || first.is_some_and(is_of)
    }
}

/// That a path is tracked, where it was when a snapshot was made.
fn is_covered(root: &Root, tracked: &[Root]) -> Result<(), SnapshotError> {
    let (outer, relative) = find(tracked, &root.key).ok_or_else(|| outside(&root.key))?;
    let is = outer.at(relative);
    if is == root.real {
        return Ok(());
    }
    let (path, was) = (root.key.as_path().to_owned(), root.real.clone());
    Err(SnapshotError::Elsewhere { path, was, is })
}

fn outside(key: &Key) -> SnapshotError {
    SnapshotError::Outside { path: key.as_path().to_owned() }
}

#[cfg(test)]
mod tests;
