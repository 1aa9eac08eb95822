//! Making what is tracked what it was: checked whole, then done.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::doors::Doors;
use super::error::{Failure, SnapshotError};
use super::hash::ContentHash;
use super::key::Key;
use super::plan::{Comparison, Plan, Write};
use super::progress::{Callback, Meter, Phase};
use super::roots::{Place, Root, find};
use super::store::Store;
use super::tree::Entry;

/// A plan that is carried out.
pub(super) struct Restore<'a> {
    pub(super) comparison: &'a Comparison<'a>,
    pub(super) roots: &'a [Root],
    pub(super) doors: &'a Doors<'a>,
    pub(super) store: &'a Store,
    pub(super) callback: Callback<'a>,
}

/// A name at which a file was written, and those that it gets besides.
type Named<'p> = (&'p Key, &'p [&'p Key]);

/// One that is being carried out. What fails is noted, and the rest goes on: a program that makes
/// one entry impossible to restore keeps nothing else from it.
struct Steps<'a> {
    restore: &'a Restore<'a>,
    meter: Meter<'a>,
    /// Directories whose time or mode has to be set again.
    stirred: Mutex<BTreeSet<Key>>,
    failed: Mutex<Vec<Failure>>,
}

impl Restore<'_> {
    /// Reads every object that the plan needs. Nothing has been changed yet.
    pub(super) fn check(&self, plan: &Plan<'_>) -> Result<(), SnapshotError> {
        let meter = Meter::new(self.callback, Phase::Check, Some(plan.write.len() as u64));
        let ask = |bytes| meter.pass(bytes).map_err(io::Error::other);
        let fault = |write: &Write<'_>| -> Result<Option<(ContentHash, String, PathBuf)>, _> {
            thread_local! {
                static BUFFER: std::cell::RefCell<Vec<u8>> =
                    const { std::cell::RefCell::new(Vec::new()) };
            }
            meter.step()?;
            let reason = BUFFER.with_borrow_mut(|b| self.store.fault(write.content, b, &ask))?;
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
        let steps = Steps {
            restore: self,
            meter: Meter::new(self.callback, Phase::Restore, Some(plan.steps() as u64)),
            stirred: Mutex::default(),
            failed: Mutex::default(),
        };
        steps.run(plan)?;
        steps.settle();
        steps.meter.end()?;
        let mut failed = steps.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        if failed.is_empty() {
            return Ok(());
        }
        failed.sort_by(|a, b| a.path.cmp(&b.path));
        // What failed for one in a later step did so for what failed before.
        failed.dedup_by(|later, first| later.path == first.path);
        Err(SnapshotError::Incomplete { failed })
    }
}

impl Steps<'_> {
    fn run(&self, plan: &Plan<'_>) -> Result<(), SnapshotError> {
        for key in &plan.raze {
            self.remove(key, Place::remove_tree)?;
        }
        for key in &plan.remove {
            self.remove(key, Place::remove)?;
        }
        for key in &plan.make {
            self.at("make", key, |place| Ok(place.make_directory(Mode::RWXU)?))?;
        }
        let written = plan.write.par_iter().filter_map(|write| self.write(write).transpose());
        let written: Vec<Named<'_>> = written.collect::<Result<_, _>>()?;
        for (key, link) in &plan.symlink {
            let entry = self.wanted(key)?;
            self.at("link", key, |place| Ok(place.symlink(link, entry)?))?;
        }
        for (leader, others) in written {
            for key in others {
                self.at("link", key, |place| Ok(place.link(&self.place(leader)?)?))?;
            }
        }
        plan.dress.par_iter().try_for_each(|key| {
            let entry = self.wanted(key)?;
            self.at("change", key, |place| Ok(place.dress(entry)?)).map(drop)
        })
    }

    /// Writes a file at the first of its names where that can be done. Returns that, if there are
    /// more to become links to it: a link to where it was not written would be to something else.
    fn write<'p>(&self, write: &'p Write<'p>) -> Result<Option<Named<'p>>, SnapshotError> {
        let (mut name, mut others) = (write.key, write.others.as_slice());
        while !self.write_at(name, write)? {
            let Some((next, rest)) = others.split_first() else { return Ok(None) };
            (name, others) = (next, rest);
        }
        if write.is_in_place {
            // They are names of what was written.
            others.iter().try_for_each(|_| self.meter.step())?;
            return Ok(None);
        }
        Ok((!others.is_empty()).then_some((name, others)))
    }

    fn write_at(&self, key: &Key, write: &Write<'_>) -> Result<bool, SnapshotError> {
        let (store, hash) = (self.restore.store, &write.content.hash);
        let ask = |bytes| self.meter.pass(bytes).map_err(io::Error::other);
        let entry = self.wanted(key)?;
        self.at("write", key, |place| {
            if write.is_in_place {
                return place.overwrite(store, hash, entry, &ask);
            }
            place.write(store, hash, entry, &ask)
        })
    }

    /// Directories last, and the inner ones first: whatever is done within changes their times, and
    /// there is no way through one that is shut.
    fn settle(&self) {
        let stirred = self.stirred.lock().unwrap_or_else(PoisonError::into_inner);
        let Restore { comparison, doors, .. } = self.restore;
        let opened = doors.opened();
        let mut keys: Vec<_> =
            stirred.iter().chain(&opened).chain(comparison.dressed_otherwise()).collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        for key in keys {
            let wanted = comparison.target.tree.get(key).filter(|entry| entry.is_directory());
            let Some(entry) = wanted else {
                // It is gone, or stays for what is not tracked.
                doors.shut(key);
                continue;
            };
            doors.leave(key);
            if let Err(error) = self.place(key).and_then(|place| place.dress(entry)) {
                self.fail("change", key, error.into());
            }
        }
    }

    fn wanted(&self, key: &Key) -> Result<&Entry, SnapshotError> {
        // The keys of a plan are the snapshot's.
        let outside = || SnapshotError::Outside { path: key.as_path().to_owned() };
        self.restore.comparison.target.tree.get(key).ok_or_else(outside)
    }

    /// Removes what is at `key`, if there is still a way to it.
    fn remove(
        &self,
        key: &Key,
        remove: impl Fn(&Place) -> rustix::io::Result<()>,
    ) -> Result<bool, SnapshotError> {
        self.step("remove", key, || match self.place(key) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            place => Ok(remove(&place?)?),
        })
    }

    /// Does something in the directory of `key`, which is made if it is not there.
    fn at(
        &self,
        step: &'static str,
        key: &Key,
        change: impl Fn(&Place) -> io::Result<()>,
    ) -> Result<bool, SnapshotError> {
        self.step(step, key, || match self.place(key) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.make_way(key)?;
                change(&self.place(key)?)
            }
            place => change(&place?),
        })
    }

    /// Does something in the directory of `key`; if that does not let its owner in, it is made to.
    /// Says whether it was done.
    fn step(
        &self,
        step: &'static str,
        key: &Key,
        change: impl Fn() -> io::Result<()>,
    ) -> Result<bool, SnapshotError> {
        self.meter.step()?;
        let parent = key.parent();
        if let Some(parent) = &parent {
            self.stir(parent.clone());
        }
        let outcome = match (change(), &parent) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::PermissionDenied => {
                let opened = self.restore.doors.open(parent);
                opened.map_err(io::Error::from).and_then(|()| change())
            }
            (outcome, _) => outcome,
        };
        match outcome.map_err(io::Error::downcast) {
            Ok(()) => Ok(true),
            Err(Ok(ended)) => Err(ended),
            Err(Err(error)) => {
                self.fail(step, key, error);
                Ok(false)
            }
        }
    }

    /// Makes the directories that lead to what is in the snapshot, where there is none. Those that
    /// are excluded themselves are in no snapshot, but they were there.
    fn make_way(&self, key: &Key) -> io::Result<()> {
        let (root, relative) = self.find(key)?;
        let above: Vec<_> = relative.ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            let name = directory.as_os_str();
            let own = if name.is_empty() { root.key.clone() } else { root.key.join(name) };
            let is_known = self.restore.comparison.target.tree.get(&own).is_some();
            let mode = if is_known { Mode::RWXU } else { Mode::from_raw_mode(0o777) };
            root.place(directory)?.make_directory(mode)?;
            self.stir(own);
        }
        Ok(())
    }

    fn stir(&self, directory: Key) {
        self.stirred.lock().unwrap_or_else(PoisonError::into_inner).insert(directory);
    }

    fn fail(&self, step: &'static str, key: &Key, source: io::Error) {
        let failure = Failure { step, path: key.as_path().to_owned(), source };
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }

    fn place(&self, key: &Key) -> rustix::io::Result<Place> {
        let (root, relative) = self.find(key)?;
        root.place(relative)
    }

    fn find<'k>(&self, key: &'k Key) -> rustix::io::Result<(&Root, &'k Path)> {
        // The keys of a plan are beneath the roots.
        find(self.restore.roots, key).ok_or(Errno::XDEV)
    }
}
