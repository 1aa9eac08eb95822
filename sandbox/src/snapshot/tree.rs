//! What stands in a directory tree, entry by entry, in memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::iter;
use std::ops::Deref;

use rayon::prelude::*;
use rustix::fs::{FileType, Stat};

use super::hash::ContentHash;
use super::key::Key;
use super::shared::Shared;

/// How many comparisons are worth giving to another thread.
const BATCH: usize = 2048;

/// An entry and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) key: Key,
    pub(super) entry: Entry,
}

/// All that is tracked, each directory before what is beneath it. One that was made from another
/// shares the nodes that are the same in both, so that comparing the two costs what differs.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(Vec<Shared>);

/// A name whose node is not the same one in two trees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'t> {
    pub(super) old: Option<&'t Node>,
    pub(super) new: Option<&'t Node>,
}

/// Extended attributes by name.
pub(super) type Attributes = BTreeMap<OsString, Vec<u8>>;

/// A file, directory or symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// `st_mode`, with the type of the file.
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
    /// User and group; `None` if the snapshot does not say.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) attributes: Attributes,
    /// Where it stood when it was looked at; `None` if that is not known.
    pub(super) identity: Option<Identity>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// Its target is `None` in a snapshot that does not tell.
    Symlink {
        target: Option<OsString>,
    },
    File {
        hash: ContentHash,
        size: u64,
        /// Files of one number are one file with several names.
        group: Option<u32>,
    },
    /// A file that cannot be what a snapshot has, so that a restore does not read it.
    Unread,
}

/// When a content was last changed. Nanoseconds are `None` in a snapshot that has only seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mtime {
    pub(super) seconds: i64,
    pub(super) nanos: Option<u32>,
}

impl Mtime {
    /// Whether both are the same as far as both are known.
    pub(super) fn agrees(self, other: Self) -> bool {
        let nanos = self.nanos.zip(other.nanos);
        self.seconds == other.seconds && nanos.is_none_or(|(a, b)| a == b)
    }
}

/// What tells without reading whether a file is the one that was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// `st_ctime`: changes with whatever changes in the file, and nobody can set it.
    pub(super) changed: (i64, u32),
    /// How many names it has, in what is tracked or out of it.
    pub(super) links: u64,
    /// Whether it had rested long enough, when it was read, for a later change to show.
    pub(super) is_settled: bool,
}

impl Identity {
    pub(super) fn place(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl Tree {
    /// A tree of `nodes` in any order. Of two with one name, as a directory may show them that
    /// changes while it is read, one stays.
    pub(super) fn new(mut nodes: Vec<Shared>) -> Self {
        let is_in_order = |pair: &[Shared]| pair.is_sorted_by(|a, b| a.key < b.key);
        if !nodes.par_windows(2).with_min_len(BATCH).all(is_in_order) {
            nodes.par_sort_by(|a, b| a.key.cmp(&b.key));
            nodes.dedup_by(|a, b| a.key == b.key);
        }
        Self(nodes)
    }

    /// This tree with `others` too, in any order; each is in the place of what has its name.
    pub(super) fn with(self, others: Vec<Shared>) -> Self {
        let Self(others) = Self::new(others);
        if self.0.is_empty() || others.is_empty() {
            return Self(if others.is_empty() { self.0 } else { others });
        }
        let mut all = Vec::with_capacity(self.0.len() + others.len());
        let mut rest = self.0.into_iter();
        for other in others {
            let before = rest.as_slice().partition_point(|node| node.key < other.key);
            all.extend(rest.by_ref().take(before));
            if rest.as_slice().first().is_some_and(|node| node.key == other.key) {
                rest.next();
            }
            all.push(other);
        }
        all.extend(rest);
        Self(all)
    }

    /// This tree with the nodes that are kept, place by place, and with new ones.
    pub(super) fn revised(&self, is_kept: &[bool], new: Vec<Shared>) -> Self {
        let kept = self.0.iter().zip(is_kept).filter(|(_, is_kept)| **is_kept);
        Self(kept.map(|(node, _)| node.clone()).collect()).with(new)
    }

    pub(super) fn nodes(&self) -> &[Shared] {
        &self.0
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        let index = self.0.binary_search_by(|node| node.key.cmp(key)).ok()?;
        self.0.get(index).map(|node| &node.entry)
    }

    pub(super) fn nodes_mut(&mut self) -> &mut [Shared] {
        &mut self.0
    }

    /// What there is to know of how `new` differs from this one, by name.
    pub(super) fn pairs<'t>(&'t self, new: &'t Self) -> impl Iterator<Item = Pair<'t>> {
        let (mut before, mut after) = (self.0.iter().peekable(), new.0.iter().peekable());
        let both = iter::from_fn(move || {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) if old.is(new) => Ordering::Equal,
                (Some(old), Some(new)) => old.key.cmp(&new.key),
            };
            let old = before.next_if(|_| order.is_le());
            let new = after.next_if(|_| order.is_ge());
            Some((old, new))
        });
        let is_other = |(old, new): &(Option<&Shared>, Option<&Shared>)| {
            !old.zip(*new).is_some_and(|(old, new)| old.is(new))
        };
        let pair = |(old, new): (Option<&'t Shared>, Option<&'t Shared>)| Pair {
            old: old.map(Deref::deref),
            new: new.map(Deref::deref),
        };
        both.filter(is_other).map(pair)
    }
}

fn nanos(nanos: u64) -> u32 {
    u32::try_from(nanos).unwrap_or_default()
}

/// The kernel's type for it differs between processors.
#[allow(clippy::useless_conversion, reason = "a conversion on some")]
fn nlink(stat: &Stat) -> u64 {
    stat.st_nlink.into()
}

impl Entry {
    /// An entry as `stat` shows it; `settled_before` is in seconds since the epoch.
    pub(super) fn from_stat(
        stat: &Stat,
        kind: Kind,
        attributes: Attributes,
        settled_before: i64,
    ) -> Self {
        Self {
            kind,
            mode: stat.st_mode,
            mtime: Mtime { seconds: stat.st_mtime, nanos: Some(nanos(stat.st_mtime_nsec)) },
            owner: Some((stat.st_uid, stat.st_gid)),
            attributes,
            identity: Some(Identity {
                device: stat.st_dev,
                inode: stat.st_ino,
                changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
                links: nlink(stat),
                is_settled: stat.st_ctime < settled_before,
            }),
        }
    }

    /// Whether `stat` shows the entry as it is here, so that nothing can have changed.
    pub(super) fn is_as(&self, stat: &Stat) -> bool {
        let mtime = Mtime { seconds: stat.st_mtime, nanos: Some(nanos(stat.st_mtime_nsec)) };
        self.proves_same_content(stat)
            && self.mtime == mtime
            && self.owner == Some((stat.st_uid, stat.st_gid))
            && self.identity.is_some_and(|identity| identity.links == nlink(stat))
    }

    /// Whether `stat` shows that content and attributes are what they were.
    pub(super) fn proves_same_content(&self, stat: &Stat) -> bool {
        let changed = (stat.st_ctime, nanos(stat.st_ctime_nsec));
        self.mode == stat.st_mode
            && self.identity.is_some_and(|identity| {
                identity.is_settled
                    && (identity.device, identity.inode, identity.changed)
                        == (stat.st_dev, stat.st_ino, changed)
            })
    }

    /// Whether `stat` shows the very file that the entry is of, whatever is in it by now.
    pub(super) fn is_of_file(&self, stat: &Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && self.identity.is_some_and(|own| own.place() == (stat.st_dev, stat.st_ino))
    }

    /// The permission bits, with set-id and sticky.
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }
}
