//! Making what is tracked what it was: planned whole, checked whole, then done.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::diff::{Change, ChangeType, are_same_permissions, changes, is_same_content};
use super::error::SnapshotError;
use super::hash::ContentHash;
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::progress::{Callback, Meter, Phase};
use super::roots::{Place, Root, find};
use super::store::{Content, Store};
use super::tree::{Entry, Kind, Tree};
use super::walk::{Found, SkipReason, Skipped};

/// What has to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// What stands where it must not, what is deepest first.
    remove: Vec<Key>,
    /// Directories that are missing, outer ones first.
    make: Vec<&'a Key>,
    write: Vec<Write<'a>>,
    symlink: Vec<(&'a Key, &'a OsString)>,
    /// Names that files get besides, and the names that they have.
    link: Vec<(&'a Key, &'a Key)>,
    /// Files and links of which only mode, owner, attributes or time differ.
    dress: Vec<&'a Key>,
}

/// A file whose content differs.
#[derive(Debug)]
struct Write<'a> {
    key: &'a Key,
    content: Content,
    /// Whether it has names that are not tracked, which have to stay its own.
    is_in_place: bool,
}

/// A snapshot, and what is there now.
pub(super) struct Comparison<'a> {
    pub(super) target: &'a SnapshotManifest,
    pub(super) found: &'a Found,
    pub(super) roots: &'a [Root],
}

impl<'a> Comparison<'a> {
    /// What a restore changes, for whoever asks.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut now = Cow::Borrowed(&self.found.tree);
        if !self.target.is_complete {
            now.to_mut().retain(|_, entry| !entry.is_directory());
        }
        let mut all = changes(&now, &self.target.tree);
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

    /// Refuses a manifest that reaches out of what is tracked.
    pub(super) fn check_paths(&self) -> Result<(), SnapshotError> {
        match self.target.tree.keys().find(|key| find(self.roots, key).is_none()) {
            Some(key) => Err(SnapshotError::Outside { path: key.as_path().to_owned() }),
            None => Ok(()),
        }
    }

    pub(super) fn plan(&self) -> Plan<'a> {
        let mut plan = Plan { remove: self.superfluous(), ..Plan::default() };
        let now = &self.found.tree;
        for (key, entry) in &self.target.tree {
            let there = now.get(key);
            match &entry.kind {
                Kind::File { .. } => {}
                Kind::Directory if there.is_some_and(Entry::is_directory) => {}
                Kind::Directory => plan.make.push(key),
                Kind::Symlink { target } => match (there, target) {
                    (Some(there), _) if is_same_content(there, entry) => {
                        let is_same =
                            are_same_permissions(there, entry) && there.mtime.agrees(entry.mtime);
                        if target.is_some() && !is_same {
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

    fn superfluous(&self) -> Vec<Key> {
        let target = &self.target.tree;
        let is_in_the_way = |key: &Key, entry: &Entry| match target.get(key) {
            Some(wanted) => wanted.is_directory() != entry.is_directory(),
            None => self.target.is_complete || !entry.is_directory(),
        };
        let kept: HashSet<&Path> = self.target.skipped.iter().filter_map(Skipped::stays).collect();
        let is_kept = |key: &Key| key.as_path().ancestors().any(|path| kept.contains(path));
        let entries = self.found.tree.iter();
        let entries = entries.filter(|(key, entry)| is_in_the_way(key, entry));
        let entries = entries.map(|(key, _)| key.clone());
        let strangers = self.strangers().map(|skipped| Key::new(&skipped.path));
        let leftovers = self.found.leftovers.iter().cloned();
        let mut all: Vec<Key> = entries
            .filter(|key| kept.is_empty() || !is_kept(key))
            .chain(strangers)
            .chain(leftovers)
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }

    /// Sockets, pipes and devices that were not there.
    fn strangers(&self) -> impl Iterator<Item = &'a Skipped> {
        let known: HashSet<&PathBuf> = self.target.skipped.iter().map(|s| &s.path).collect();
        self.found.skipped.iter().filter(move |skipped| {
            skipped.reason == SkipReason::Special && !known.contains(&skipped.path)
        })
    }

    /// Files one by one, and those with several names together.
    fn plan_files(&self, plan: &mut Plan<'a>) {
        let mut groups: HashMap<u32, Vec<&'a Key>> = HashMap::new();
        let mut alone = Vec::new();
        for (key, entry) in &self.target.tree {
            match entry.kind {
                Kind::File { group: Some(group), .. } => groups.entry(group).or_default().push(key),
                Kind::File { group: None, .. } => alone.push([key]),
                Kind::Directory | Kind::Symlink { .. } => {}
            }
        }
        let names = names_by_place(&self.found.tree);
        for key in &alone {
            self.plan_file(key, &names, plan);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_unstable();
        for keys in &groups {
            self.plan_file(keys, &names, plan);
        }
    }

    /// `keys` are all the tracked names of one file.
    fn plan_file(&self, keys: &[&'a Key], names: &Names, plan: &mut Plan<'a>) {
        let Some((&first, others)) = keys.split_first() else { return };
        let Some(entry) = self.target.tree.get(first) else { return };
        let Kind::File { hash, size, .. } = entry.kind else { return };
        let there: Vec<_> = keys.iter().filter_map(|key| self.found.tree.get(*key)).collect();
        let place = |entry: &Entry| Some(entry.identity?.place());
        let places: HashSet<_> = there.iter().map(|entry| place(entry)).collect();
        let shared = there.first().and_then(|entry| names.get(&place(entry)?)).copied();
        let is_one_file = there.len() == keys.len()
            && places.len() == 1
            && (!self.target.is_complete || shared == Some(keys.len()));
        let has_content = there.iter().all(|entry| is_same_content(entry, self.wanted(first)));
        let links = there.first().and_then(|entry| entry.identity).map_or(1, |i| i.links);
        if is_one_file && has_content {
            let is_same = there.first().is_some_and(|there| {
                are_same_permissions(there, entry) && there.mtime.agrees(entry.mtime)
            });
            plan.dress.extend((!is_same).then_some(first));
            return;
        }
        let is_in_place = is_one_file && links > keys.len() as u64;
        plan.write.push(Write { key: first, content: Content { hash, size }, is_in_place });
        if !is_in_place {
            plan.link.extend(others.iter().map(|other| (*other, first)));
        }
    }

    fn wanted(&self, key: &Key) -> &'a Entry {
        // The key comes from this map.
        &self.target.tree[key]
    }
}

/// How many tracked names each file has.
type Names = HashMap<(u64, u64), usize>;

fn names_by_place(tree: &Tree) -> Names {
    let mut names = Names::new();
    let files = tree.values().filter(|entry| matches!(entry.kind, Kind::File { .. }));
    for identity in files.filter_map(|entry| entry.identity) {
        *names.entry(identity.place()).or_default() += 1;
    }
    names
}

/// A plan that is being carried out.
pub(super) struct Restore<'a> {
    pub(super) comparison: &'a Comparison<'a>,
    pub(super) store: &'a Store,
    pub(super) callback: Callback<'a>,
    /// Directories whose time or mode has to be set again.
    pub(super) stirred: Mutex<BTreeSet<Key>>,
}

impl Restore<'_> {
    /// Reads every object that the plan needs. Nothing has been changed yet.
    pub(super) fn check(&self, plan: &Plan<'_>) -> Result<(), SnapshotError> {
        let meter = Meter::new(self.callback, Phase::Check, Some(plan.write.len() as u64));
        let fault = |write: &Write<'_>| -> Result<Option<(ContentHash, String, PathBuf)>, _> {
            thread_local! {
                static BUFFER: std::cell::RefCell<Vec<u8>> =
                    const { std::cell::RefCell::new(Vec::new()) };
            }
            meter.step()?;
            let reason = BUFFER.with_borrow_mut(|b| self.store.fault(write.content, b));
            let path = write.key.as_path().to_owned();
            Ok(reason.map(|reason| (write.content.hash, reason, path)))
        };
        let faults: Result<Vec<_>, _> = plan.write.par_iter().map(fault).collect();
        let mut faults = faults?.into_iter().flatten();
        meter.end()?;
        let Some((hash, reason, path)) = faults.next() else { return Ok(()) };
        Err(SnapshotError::Objects { count: 1 + faults.count(), hash, reason, path })
    }

    pub(super) fn run(&self, plan: &Plan<'_>) -> Result<(), SnapshotError> {
        let total = plan.remove.len()
            + plan.make.len()
            + plan.write.len()
            + plan.symlink.len()
            + plan.link.len()
            + plan.dress.len();
        let meter = Meter::new(self.callback, Phase::Restore, Some(total as u64));
        let target = &self.comparison.target.tree;
        for key in &plan.remove {
            meter.step()?;
            self.at("remove", key, |place| Ok(place.remove()?))?;
        }
        for key in &plan.make {
            meter.step()?;
            self.at("make", key, |place| Ok(place.make_directory()?))?;
        }
        plan.write.par_iter().try_for_each(|write| {
            meter.step()?;
            let entry = self.comparison.wanted(write.key);
            self.at("write", write.key, |place| {
                if write.is_in_place {
                    return place.overwrite(self.store, &write.content.hash, entry);
                }
                place.write(self.store, &write.content.hash, entry)
            })
        })?;
        for (key, link) in &plan.symlink {
            meter.step()?;
            let entry = self.comparison.wanted(key);
            self.at("link", key, |place| Ok(place.symlink(link, entry)?))?;
        }
        for (key, leader) in &plan.link {
            meter.step()?;
            let leader = self.place("find", leader)?;
            self.at("link", key, |place| Ok(place.link(&leader)?))?;
        }
        for key in &plan.dress {
            meter.step()?;
            self.at("change", key, |place| Ok(place.dress(self.comparison.wanted(key))?))?;
        }
        self.settle(target)?;
        meter.end()
    }

    /// Directories last, and the inner ones first: whatever is done within changes their times.
    fn settle(&self, target: &Tree) -> Result<(), SnapshotError> {
        let stirred = self.stirred.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = &self.comparison.found.tree;
        for (key, entry) in target.iter().rev().filter(|(_, entry)| entry.is_directory()) {
            let is_same = now.get(key).is_some_and(|there| {
                there.is_directory()
                    && are_same_permissions(there, entry)
                    && there.mtime.agrees(entry.mtime)
            });
            if !is_same || stirred.contains(key) {
                let place = self.place("find", key)?;
                place.dress(entry).map_err(SnapshotError::io("change", key.as_path()))?;
            }
        }
        Ok(())
    }

    /// Does something in the directory of `key`; if that does not let its owner in, it is made to.
    fn at(
        &self,
        step: &'static str,
        key: &Key,
        change: impl Fn(&Place) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let parent = key.parent();
        if let Some(parent) = &parent {
            let mut stirred = self.stirred.lock().unwrap_or_else(PoisonError::into_inner);
            stirred.insert(parent.clone());
        }
        let outcome = change(&self.place(step, key)?);
        let outcome = match (outcome, &parent) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.let_in(parent)?;
                change(&self.place(step, key)?)
            }
            (outcome, _) => outcome,
        };
        outcome.map_err(SnapshotError::io(step, key.as_path()))
    }

    /// Lets the owner into a tracked directory.
    pub(super) fn let_in(&self, directory: &Key) -> Result<(), SnapshotError> {
        if find(self.comparison.roots, directory).is_none() {
            return Ok(());
        }
        let place = self.place("find", directory)?;
        place.let_in().map_err(SnapshotError::io("open", directory.as_path()))
    }

    fn place(&self, step: &'static str, key: &Key) -> Result<Place, SnapshotError> {
        let outside = || SnapshotError::Outside { path: key.as_path().to_owned() };
        let (root, relative) = find(self.comparison.roots, key).ok_or_else(outside)?;
        root.place(relative).map_err(SnapshotError::io(step, key.as_path()))
    }
}
