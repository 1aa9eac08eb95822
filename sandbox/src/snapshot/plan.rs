//! What is different from a snapshot, and what has to be done about it.

mod files;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::diff::{are_same_permissions, changes, is_same_content};
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::store::Content;
use super::tree::{Entry, Kind, Node, Pair};
use super::values::{Change, ChangeType, SkipReason, Skipped};
use super::walk::Found;

/// What has to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Directories of which nothing is known but that they must not be there.
    pub(super) raze: Vec<Key>,
    /// What stands where it must not, what is deepest first.
    pub(super) remove: Vec<Key>,
    /// Directories that are missing, outer ones first.
    pub(super) make: Vec<&'a Key>,
    /// Files. Their other names become links to them, but that comes after the symbolic links.
    pub(super) write: Vec<Write<'a>>,
    pub(super) symlink: Vec<(&'a Key, &'a OsString)>,
    /// Files and links of which only mode, owner, attributes or time differ.
    pub(super) dress: Vec<&'a Key>,
}

/// A file whose content differs.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) key: &'a Key,
    /// All its other tracked names.
    pub(super) others: Vec<&'a Key>,
    pub(super) content: Content,
    /// Whether it is the file that the snapshot saw, with names that were not tracked and have to
    /// stay its own.
    pub(super) is_in_place: bool,
}

impl Plan<'_> {
    /// How many steps a restore takes.
    pub(super) fn steps(&self) -> usize {
        self.raze.len()
            + self.remove.len()
            + self.make.len()
            + self.write.iter().map(|write| 1 + write.others.len()).sum::<usize>()
            + self.symlink.len()
            + self.dress.len()
    }
}

/// A snapshot, and what is there now.
pub(super) struct Comparison<'a> {
    pub(super) target: &'a SnapshotManifest,
    pub(super) found: &'a Found,
    /// What may differ: what is there now is the old, and the snapshot the new.
    pub(super) pairs: Vec<Pair<'a>>,
    /// What stood there when the snapshot was made, is not in it, and may still be the same.
    kept: HashSet<&'a Path>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(target: &'a SnapshotManifest, found: &'a Found) -> Self {
        let mut kept = target.unread();
        kept.extend(target.special().filter(|path| !found.shows_other(path)));
        Self { target, found, pairs: found.tree.pairs(&target.tree).collect(), kept }
    }

    /// What a restore changes, for whoever asks.
    pub(super) fn changes(&self) -> Vec<Change> {
        let stays = |pair: &Pair<'_>| {
            pair.new.is_none() && pair.old.is_some_and(|node| self.is_kept(node.key.as_path()))
        };
        let pairs = self.pairs.iter().copied().filter(|pair| !stays(pair));
        let mut all = changes(pairs, self.target.is_complete);
        let strangers = self.strangers().map(|skipped| &*skipped.path);
        all.extend(strangers.chain(self.leftovers().map(Key::as_path)).map(|path| Change {
            path: path.to_owned(),
            change_type: ChangeType::Deleted,
            size_delta: None,
            old_hash: None,
            new_hash: None,
        }));
        for change in &mut all {
            change.size_delta = None;
        }
        all.sort_by_cached_key(|change| Key::new(&change.path));
        all
    }

    pub(super) fn plan(&self) -> Plan<'a> {
        let too_deep = self.strangers().filter(|one| one.reason == SkipReason::TooDeep);
        let raze = too_deep.map(|one| Key::new(&one.path)).collect();
        let mut plan = Plan { raze, remove: self.superfluous(), ..Plan::default() };
        for Pair { old, new } in &self.pairs {
            let Some(Node { key, entry }) = new else { continue };
            let there = old.map(|node| &node.entry);
            match &entry.kind {
                Kind::File { .. } | Kind::Unread => {}
                Kind::Directory if there.is_some_and(Entry::is_directory) => {}
                Kind::Directory => plan.make.push(key),
                Kind::Symlink { target } => match (there, target) {
                    (Some(there), _) if is_same_content(there, entry) => {
                        if target.is_some() && !is_same_dress(there, entry) {
                            plan.dress.push(key);
                        }
                    }
                    (_, Some(target)) => plan.symlink.push((key, target)),
                    // A snapshot that does not tell where its links led.
                    (_, None) => {}
                },
            }
        }
        self.plan_files(&mut plan);
        plan
    }

    /// Directories of which mode, owner, attributes or time differ.
    pub(super) fn dressed_otherwise(&self) -> impl Iterator<Item = &'a Key> {
        let wanted = self.pairs.iter().filter_map(|pair| Some((pair.old, pair.new?)));
        let differs = wanted.filter(|(there, node)| {
            let is_same = |there: &Node| {
                there.entry.is_directory() && is_same_dress(&there.entry, &node.entry)
            };
            node.entry.is_directory() && !there.is_some_and(is_same)
        });
        differs.map(|(_, node)| &node.key)
    }

    fn superfluous(&self) -> Vec<Key> {
        let is_in_the_way = |node: &Node, wanted: Option<&Node>| match wanted {
            Some(wanted) => wanted.entry.is_directory() != node.entry.is_directory(),
            None => self.target.is_complete || !node.entry.is_directory(),
        };
        let entries = self.pairs.iter().filter_map(|pair| Some((pair.old?, pair.new)));
        let entries = entries.filter(|(node, wanted)| is_in_the_way(node, *wanted));
        let entries = entries.map(|(node, _)| node.key.clone());
        let strangers = self.strangers().map(|skipped| Key::new(&skipped.path));
        let mut all: Vec<Key> = entries
            .filter(|key| !self.is_kept(key.as_path()))
            .chain(strangers)
            .chain(self.leftovers().cloned())
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }

    /// What was not there, and was not looked into: sockets, pipes and devices, files that may not
    /// be read, and directories whose paths are too long.
    fn strangers(&self) -> impl Iterator<Item = &'a Skipped> {
        let passed: HashSet<&PathBuf> = self.found.passed.iter().collect();
        // What is wanted in its place makes room for itself.
        let is_wanted = |path: &Path| self.target.tree.get(&Key::new(path)).is_some();
        let is_stranger = move |skipped: &&'a Skipped| match skipped.reason {
            SkipReason::Special => true,
            SkipReason::Unreadable | SkipReason::TooDeep => {
                !passed.contains(&skipped.path) && !is_wanted(&skipped.path)
            }
            SkipReason::Missing | SkipReason::Vanished | SkipReason::ChangedWhileRead => false,
        };
        let skipped = self.found.skipped.iter().filter(is_stranger);
        skipped.filter(|skipped| !self.is_kept(&skipped.path))
    }

    /// What an interrupted restore was writing.
    fn leftovers(&self) -> impl Iterator<Item = &'a Key> {
        self.found.leftovers.iter().filter(|key| !self.is_kept(key.as_path()))
    }

    /// Whether something is left alone, since it is not known what stood there.
    fn is_kept(&self, path: &Path) -> bool {
        is_within(&self.kept, path)
    }
}

/// Whether a path is one of those, or beneath one.
pub(super) fn is_within(paths: &HashSet<&Path>, path: &Path) -> bool {
    !paths.is_empty() && path.ancestors().any(|path| paths.contains(path))
}

/// Whether mode, owner, attributes and time are the same.
fn is_same_dress(there: &Entry, wanted: &Entry) -> bool {
    are_same_permissions(there, wanted) && there.mtime.agrees(wanted.mtime)
}
