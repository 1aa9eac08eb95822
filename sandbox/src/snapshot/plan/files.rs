//! Which files have to be written, and which are only to be dressed.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use super::{Comparison, Plan, Write, is_same_dress};
use crate::snapshot::diff::is_same_content;
use crate::snapshot::key::Key;
use crate::snapshot::store::Content;
use crate::snapshot::tree::{Entry, Kind, Node};

/// How many tracked names a file has that may have several, by device and inode.
type Names = HashMap<(u64, u64), usize>;

/// What stands at the tracked names of one file.
struct There<'a> {
    /// What stands at the first of them, if all of them are its names and no others are.
    file: Option<&'a Entry>,
    /// Whether whatever is there holds what it should.
    has_content: bool,
}

impl<'a> Comparison<'a> {
    /// Files one by one, and those with several names together.
    pub(super) fn plan_files(&self, plan: &mut Plan<'a>) {
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
        let there = self.there(keys, entry, names);
        let is_alone = there.file.is_some_and(|file| !has_more_names(file, keys));
        let is_in_place = there.file.is_some_and(|file| is_still_shared(file, entry, keys));
        if let (Some(file), true) = (there.file, there.has_content) {
            if is_same_dress(file, entry) {
                return;
            }
            if is_alone || is_in_place {
                plan.dress.push(first);
                return;
            }
        }
        let (others, content) = (others.to_vec(), Content { hash, size });
        plan.write.push(Write { key: first, others, content, is_in_place });
    }

    fn there(&self, keys: &[&Key], wanted: &Entry, names: &Names) -> There<'a> {
        let all: Vec<_> = keys.iter().filter_map(|key| self.found.tree.get(key)).collect();
        let place = |entry: &Entry| Some(entry.identity?.place());
        let places: HashSet<_> = all.iter().map(|entry| place(entry)).collect();
        let shared = |entry: &Entry| match entry.kind {
            Kind::File { .. } | Kind::Unread => {
                place(entry).and_then(|at| names.get(&at)).map_or(1, |n| *n)
            }
            Kind::Directory | Kind::Symlink { .. } => 0,
        };
        let is_theirs = |entry: &&Entry| {
            all.len() == keys.len()
                && places.len() == 1
                && (!self.target.is_complete || shared(entry) == keys.len())
        };
        let has_content = all.iter().all(|entry| is_same_content(entry, wanted));
        There { file: all.first().copied().filter(is_theirs), has_content }
    }
}

/// Whether a file has other names than `keys`.
fn has_more_names(entry: &Entry, keys: &[&Key]) -> bool {
    entry.identity.is_some_and(|identity| identity.links > keys.len() as u64)
}

/// Whether what stands there is the file that the snapshot saw, and had and has other names than
/// `keys`. Without that it may be any file of which a program has put a name there since.
fn is_still_shared(there: &Entry, wanted: &Entry, keys: &[&Key]) -> bool {
    let is_same = there
        .identity
        .zip(wanted.identity)
        .is_some_and(|(there, wanted)| there.place() == wanted.place());
    is_same && has_more_names(there, keys) && has_more_names(wanted, keys)
}
