//! Files, links, and what is neither, in a walk.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};

use super::attributes;
use super::collected::{Collected, Stop, cannot, check_limit};
use super::error::SnapshotError;
use super::key::Key;
use super::roots::open_beneath;
use super::shared::Shared;
use super::store::{Content, digest_in};
use super::tree::{Attributes, Entry, Kind, Node};
use super::values::{SkipReason, Skipped};
use super::visit::{Named, Visit};
use super::walk::Contents;

/// How often a file is read that changes meanwhile.
const ATTEMPTS: usize = 3;

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
            let attributes = attributes::read(&handle).map_err(failed)?;
            let mut file = File::from(handle);
            let content = self.read(&mut file).map_err(SnapshotError::io("read", at.path))?;
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

    fn read(&self, file: &mut File) -> io::Result<Content> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| match self.walk.contents {
            Contents::Keep(store) => store.keep(file, buffer),
            Contents::Hash => digest_in(file, buffer),
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
        let bytes = self.bytes.fetch_add(new, Ordering::Relaxed) + new;
        check_limit("bytes", bytes, self.walk.max_bytes)
    }
}
