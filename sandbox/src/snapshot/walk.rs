//! Looking at all that is tracked, on all processors.

use std::collections::HashMap;
use std::iter;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use super::collected::{Closed, Collected};
use super::doors::Doors;
use super::error::SnapshotError;
use super::exclusion::Exclusion;
use super::key::Key;
use super::progress::Meter;
use super::roots::Root;
use super::rules::IgnoreFiles;
use super::shared::Shared;
use super::store::Store;
use super::tree::{Entry, Kind, Node, Tree};
use super::values::{SkipReason, Skipped};
use super::visit::Visit;

/// What becomes of contents.
#[derive(Clone, Copy)]
pub(super) enum Contents<'a> {
    Keep(&'a Store),
    Hash,
}

/// A walk over all that is tracked.
pub(super) struct Walk<'a> {
    pub(super) roots: &'a [Root],
    pub(super) exclusion: &'a Exclusion,
    pub(super) ignore_files: IgnoreFiles<'a>,
    pub(super) contents: Contents<'a>,
    /// What was there when it was last looked at.
    pub(super) previous: Option<&'a Tree>,
    /// Lets the owner into directories that do not.
    pub(super) doors: Option<&'a Doors<'a>>,
    /// Device and inode of the session's own directory.
    pub(super) own: (u64, u64),
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
    pub(super) meter: Meter<'a>,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) tree: Tree,
    pub(super) skipped: Vec<Skipped>,
    /// Those of them that are excluded themselves.
    pub(super) passed: Vec<PathBuf>,
    /// Those of them that are directories, or in one, that shut out their owner.
    pub(super) closed: Vec<Closed>,
    /// What an interrupted restore has left.
    pub(super) leftovers: Vec<Key>,
    /// The texts of the `.gitignore` files that held.
    pub(super) rules: Vec<(Key, Vec<u8>)>,
}

impl Found {
    /// Whether something else than a socket, pipe or device is at `path`.
    pub(super) fn shows_other(&self, path: &Path) -> bool {
        let skipped = self.skipped.binary_search_by(|skipped| (*skipped.path).cmp(path)).ok();
        let reason = skipped.and_then(|index| self.skipped.get(index)).map(|one| one.reason);
        match reason {
            Some(SkipReason::Special) => false,
            Some(SkipReason::Unreadable | SkipReason::TooDeep) => true,
            _ => self.tree.get(&Key::new(path)).is_some(),
        }
    }
}

impl Walk<'_> {
    pub(super) fn run(&self) -> Result<Found, SnapshotError> {
        let visit = Visit::new(self, now() - 1);
        rayon::scope(|scope| self.roots.iter().for_each(|root| visit.root(root, scope)));
        self.meter.end()?;
        let (collected, is_kept) = visit.into_parts();
        let Collected {
            shared: nodes, mut skipped, passed, closed, leftovers, rules, error, ..
        } = collected;
        if let Some(error) = error {
            return Err(error);
        }
        skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let nothing = Tree::default();
        let previous = self.previous.unwrap_or(&nothing);
        let is_kept: Vec<_> = is_kept.into_iter().map(AtomicBool::into_inner).collect();
        let is_same = nodes.is_empty() && is_kept.iter().all(|kept| *kept);
        let mut tree = previous.revised(&is_kept, nodes);
        if !is_same {
            group_links(tree.nodes_mut());
        }
        Ok(Found { tree, skipped, passed, closed, leftovers, rules })
    }
}

/// Numbers the files that have several of the names found.
fn group_links(nodes: &mut [Shared]) {
    let mut places: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (index, Node { entry, .. }) in nodes.iter().map(Deref::deref).enumerate() {
        let identity = entry.identity.filter(|identity| identity.links > 1);
        if let (Kind::File { .. }, Some(identity)) = (&entry.kind, identity) {
            places.entry(identity.place()).or_default().push(index);
        }
    }
    let mut all: Vec<_> = places.into_values().collect();
    // By their first names: the nodes are in order.
    all.sort_unstable();
    let (groups, alone): (Vec<_>, Vec<_>) = all.into_iter().partition(|names| names.len() > 1);
    let numbered = (0..).map(Some).zip(groups).chain(iter::repeat(None).zip(alone));
    for (number, member) in numbered.flat_map(|(n, all)| all.into_iter().map(move |m| (n, m))) {
        let Some(node) = nodes.get_mut(member) else { continue };
        // What stays as it was stays shared.
        if let Kind::File { hash, size, group } = node.entry.kind
            && group != number
        {
            let kind = Kind::File { hash, size, group: number };
            *node =
                Node { key: node.key.clone(), entry: Entry { kind, ..node.entry.clone() } }.into();
        }
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
