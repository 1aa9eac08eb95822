//! What is different from a snapshot, and what has to be done about it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::ops::Deref;
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
    /// Whether it has names that are not tracked, which have to stay its own.
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
}

impl<'a> Comparison<'a> {
    pub(super) fn new(target: &'a SnapshotManifest, found: &'a Found) -> Self {
        Self { target, found, pairs: found.tree.pairs(&target.tree).collect() }
    }

    /// What a restore changes, for whoever asks.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut all = changes(self.pairs.iter().copied(), self.target.is_complete);
        all.extend(self.strangers().map(|skipped| Change {
            path: skipped.path.clone(),
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
        let kept = self.target.kept();
        let entries = self.pairs.iter().filter_map(|pair| Some((pair.old?, pair.new)));
        let entries = entries.filter(|(node, wanted)| is_in_the_way(node, *wanted));
        let entries = entries.map(|(node, _)| node.key.clone());
        let strangers = self.strangers().map(|skipped| Key::new(&skipped.path));
        let leftovers = self.found.leftovers.iter().cloned();
        let mut all: Vec<Key> = entries
            .filter(|key| !is_within(&kept, key.as_path()))
            .chain(strangers)
            .chain(leftovers)
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }

    /// What was not there, and was not looked into: sockets, pipes and devices, files that may not
    /// be read, and directories whose paths are too long.
    fn strangers(&self) -> impl Iterator<Item = &'a Skipped> {
        let kept = self.target.kept();
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
        skipped.filter(move |skipped| !is_within(&kept, &skipped.path))
    }

    /// Files one by one, and those with several names together.
    fn plan_files(&self, plan: &mut Plan<'a>) {
        let names = self.names();
        let mut groups = HashSet::new();
        for node in self.pairs.iter().filter_map(|pair| pair.new) {
            match node.entry.kind {
                Kind::File { group: None, .. } => self.plan_file(&[&node.key], &names, plan),
                Kind::File { group: Some(group), .. } => _ = groups.insert(group),
                _ => {}
            }
        }
        if groups.is_empty() {
            return;
        }
        let mut members: HashMap<u32, Vec<&'a Key>> = HashMap::new();
        for node in self.target.tree.nodes() {
            if let Kind::File { group: Some(group), .. } = node.entry.kind
                && groups.contains(&group)
            {
                members.entry(group).or_default().push(&node.key);
            }
        }
        let mut members: Vec<_> = members.into_values().collect();
        members.sort_unstable();
        for keys in &members {
            self.plan_file(keys, &names, plan);
        }
    }

    /// How many tracked names each file has that may have several.
    fn names(&self) -> Names {
        let mut names = Names::new();
        for Node { entry, .. } in self.found.tree.nodes().iter().map(Deref::deref) {
            let identity = entry.identity.filter(|identity| identity.links > 1);
            if let (Kind::File { .. } | Kind::Unread, Some(identity)) = (&entry.kind, identity) {
                *names.entry(identity.place()).or_default() += 1;
            }
        }
        names
    }

    /// `keys` are all the tracked names of one file.
    fn plan_file(&self, keys: &[&'a Key], names: &Names, plan: &mut Plan<'a>) {
        let Some((&first, others)) = keys.split_first() else { return };
        let Some(entry) = self.target.tree.get(first) else { return };
        let Kind::File { hash, size, .. } = entry.kind else { return };
        let there: Vec<_> = keys.iter().filter_map(|key| self.found.tree.get(key)).collect();
        let place = |entry: &Entry| Some(entry.identity?.place());
        let places: HashSet<_> = there.iter().map(|entry| place(entry)).collect();
        let shared = there.first().map_or(0, |entry| match entry.kind {
            Kind::File { .. } | Kind::Unread => {
                place(entry).and_then(|at| names.get(&at)).map_or(1, |n| *n)
            }
            Kind::Directory | Kind::Symlink { .. } => 0,
        });
        let is_one_file = there.len() == keys.len()
            && places.len() == 1
            && (!self.target.is_complete || shared == keys.len());
        let has_content = there.iter().all(|there| is_same_content(there, entry));
        let links = there.first().and_then(|entry| entry.identity).map_or(1, |i| i.links);
        if is_one_file && has_content {
            let is_same = there.first().is_some_and(|there| is_same_dress(there, entry));
            plan.dress.extend((!is_same).then_some(first));
            return;
        }
        let is_in_place = is_one_file && links > keys.len() as u64;
        let (others, content) = (others.to_vec(), Content { hash, size });
        plan.write.push(Write { key: first, others, content, is_in_place });
    }
}

/// Whether a path is one of those, or beneath one.
pub(super) fn is_within(paths: &HashSet<&Path>, path: &Path) -> bool {
    !paths.is_empty() && path.ancestors().any(|path| paths.contains(path))
}

/// How many tracked names a file has; one, if it is not here.
type Names = HashMap<(u64, u64), usize>;

/// Whether mode, owner, attributes and time are the same.
fn is_same_dress(there: &Entry, wanted: &Entry) -> bool {
    are_same_permissions(there, wanted) && there.mtime.agrees(wanted.mtime)
}
