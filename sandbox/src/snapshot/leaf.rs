//! Files, links, and what is neither, in a walk.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};

use super::attributes;
use super::collected::{Collected, Stop, cannot, check_limit};
use super::error::SnapshotError;
use super::key::Key;
use super::roots::open_beneath;
use super::shared::Shared;
use super::store::{Content, Unread, digest_in};
use super::tree::{Attributes, Entry, Kind, Node};
use super::values::{SkipReason, Skipped};
use super::visit::{Named, Visit};
use super::walk::Contents;

/// How often a file is read that changes meanwhile.
const ATTEMPTS: usize = 3;

/// How large a file may be that is read in a restore only to tell what it was.
const MOST_TOLD: u64 = 1 << 20;

impl Visit<'_> {
    /// A file or link, or something that is neither.
    pub(super) fn leaf(
        &self,
        at: &Named<'_, '_>,
        stat: &Stat,
        found: &mut Collected,
    ) -> Result<(), Stop> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.is_unchanged(at.known.own(), stat, found) {
            if kind == FileType::RegularFile {
                found.bytes += stat.st_size.cast_unsigned();
            }
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(at, found),
            FileType::Symlink => {
                let target = readlinkat(at.parent, at.name, Vec::new());
                let target = target.map_err(|error| cannot("read", at.path)(error))?;
                let target = Some(OsStr::from_bytes(target.as_bytes()).to_owned());
                let (kind, none) = (Kind::Symlink { target }, Attributes::new());
                let entry = Entry::from_stat(stat, kind, none, self.settled_before);
                let key = Key::new(at.path);
                Ok(self.add(found, Node { key, entry }, 0)?)
            }
            _ => Err(Stop::Skip(SkipReason::Special)),
        }
    }

    /// Reads a file, again if it changes meanwhile.
    fn file(&self, at: &Named<'_, '_>, found: &mut Collected) -> Result<(), Stop> {
        for attempt in 1..=ATTEMPTS {
            let failed = |error| cannot("read", at.path)(error);
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let handle = open_beneath(at.parent, at.name, flags).map_err(failed)?;
            let before = fstat(&handle).map_err(failed)?;
            if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
                return Err(Stop::Skip(SkipReason::ChangedWhileRead));
            }
            let size = before.st_size.cast_unsigned();
            if self.is_superfluous(at.known.own(), size) {
                let (kind, none) = (Kind::Unread, Attributes::new());
                let entry = Entry::from_stat(&before, kind, none, self.settled_before);
                found.nodes.push(Node { key: Key::new(at.path), entry });
                return Ok(());
            }
            let attributes = attributes::read(&handle).map_err(failed)?;
            let mut file = File::from(handle);
            let content = self.read(&mut file, size, at.path)?;
            let after = fstat(&file).map_err(failed)?;
            let is_still = (before.st_ctime, before.st_ctime_nsec, before.st_size)
                == (after.st_ctime, after.st_ctime_nsec, after.st_size);
            if !is_still && attempt < ATTEMPTS {
                continue;
            }
            if !is_still {
                let (path, reason) = (at.path.to_owned(), SkipReason::ChangedWhileRead);
                found.skipped.push(Skipped { path, reason });
            }
            let kind = Kind::File { hash: content.hash, size: content.size, group: None };
            let entry = Entry::from_stat(&before, kind, attributes, self.settled_before);
            let key = Key::new(at.path);
            return Ok(self.add(found, Node { key, entry }, content.size)?);
        }
        Ok(())
    }

    /// Whether reading a file would only tell what a restore removes or replaces.
    fn is_superfluous(&self, known: Option<(usize, &Shared)>, size: u64) -> bool {
        let known = known.map(|(_, node)| &node.entry.kind);
        let may_be_same = matches!(known, Some(Kind::File { size: known, .. }) if *known == size);
        matches!(self.walk.contents, Contents::Hash) && size > MOST_TOLD && !may_be_same
    }

    /// Reads a file of `size` bytes, if there is room for as many, or to where there is none.
    fn read(&self, file: &mut File, size: u64, path: &Path) -> Result<Content, Stop> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let limit = |size: u64| {
            let all = self.bytes.load(Ordering::Relaxed).saturating_add(size);
            check_limit("bytes", all, self.walk.max_bytes)
        };
        limit(size)?;
        let read = Cell::new(0_u64);
        let go_on = |more| {
            read.set(read.get() + more);
            limit(read.get().saturating_sub(size))?;
            if self.is_over() { Err(SnapshotError::Cancelled) } else { self.walk.meter.pass(more) }
        };
        let ask = |more| go_on(more).map_err(io::Error::other);
        // Others that read at the same time have less room.
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let content = BUFFER.with_borrow_mut(|buffer| match self.walk.contents {
            Contents::Keep(store) => store.keep(file, buffer, &ask),
            Contents::Hash => digest_in(file, buffer, &ask).map_err(Unread::or_own),
        });
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        content.map_err(|error| match Unread::reason(&error) {
            Some(error) => cannot("read", path)(error),
            None => Stop::Fail(SnapshotError::io("read", path)(error)),
        })
    }

    /// Whether nothing can have changed in what was `known`, which then is kept.
    pub(super) fn is_unchanged(
        &self,
        known: Option<(usize, &Shared)>,
        stat: &Stat,
        found: &mut Collected,
    ) -> bool {
        let Some((index, node)) = known else { return false };
        if node.entry.is_as(stat) && stat.st_ctime < self.settled_before {
            if let Some(kept) = self.is_kept.get(index) {
                kept.store(true, Ordering::Relaxed);
            }
            return true;
        }
        if !node.entry.proves_same_content(stat) {
            return false;
        }
        let (kind, attributes) = (node.entry.kind.clone(), node.entry.attributes.clone());
        let entry = Entry::from_stat(stat, kind, attributes, self.settled_before);
        found.nodes.push(Node { key: node.key.clone(), entry });
        true
    }

    fn add(&self, found: &mut Collected, node: Node, size: u64) -> Result<(), SnapshotError> {
        found.bytes += size;
        found.nodes.push(node);
        self.count(found)
    }

    /// Adds the bytes of what was found to those of the walk.
    pub(super) fn count(&self, found: &mut Collected) -> Result<(), SnapshotError> {
        let new = mem::take(&mut found.bytes);
        let bytes = self.bytes.fetch_add(new, Ordering::Relaxed).saturating_add(new);
        check_limit("bytes", bytes, self.walk.max_bytes)
    }
}
