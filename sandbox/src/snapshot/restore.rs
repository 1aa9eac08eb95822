//! Making what is tracked what it was: checked whole, then done.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::error::SnapshotError;
use super::hash::ContentHash;
use super::key::Key;
use super::plan::{Comparison, Plan, Write};
use super::progress::{Callback, Meter, Phase};
use super::roots::{Place, Root, find};
use super::store::Store;
use super::tree::Entry;

/// A plan that is being carried out.
pub(super) struct Restore<'a> {
    pub(super) comparison: &'a Comparison<'a>,
    pub(super) roots: &'a [Root],
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
        let total = plan.raze.len()
            + plan.remove.len()
            + plan.make.len()
            + plan.write.len()
            + plan.symlink.len()
            + plan.link.len()
            + plan.dress.len();
        let meter = Meter::new(self.callback, Phase::Restore, Some(total as u64));
        for key in &plan.raze {
            meter.step()?;
            self.at("remove", key, |place| Ok(place.remove_tree()?))?;
        }
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
            let entry = self.wanted(write.key)?;
            self.at("write", write.key, |place| {
                if write.is_in_place {
                    return place.overwrite(self.store, &write.content.hash, entry);
                }
                place.write(self.store, &write.content.hash, entry)
            })
        })?;
        for (key, link) in &plan.symlink {
            meter.step()?;
            let entry = self.wanted(key)?;
            self.at("link", key, |place| Ok(place.symlink(link, entry)?))?;
        }
        for (key, leader) in &plan.link {
            meter.step()?;
            let leader = self.place("find", leader)?;
            self.at("link", key, |place| Ok(place.link(&leader)?))?;
        }
        plan.dress.par_iter().try_for_each(|key| {
            meter.step()?;
            let entry = self.wanted(key)?;
            self.at("change", key, |place| Ok(place.dress(entry)?))
        })?;
        self.settle()?;
        meter.end()
    }

    /// Directories last, and the inner ones first: whatever is done within changes their times.
    fn settle(&self) -> Result<(), SnapshotError> {
        let stirred = self.stirred.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<_> = stirred.iter().chain(self.comparison.dressed_otherwise()).collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        for key in keys {
            // One that is not in the snapshot is gone, or stays for what is not tracked.
            let wanted = self.comparison.target.tree.get(key);
            if let Some(entry) = wanted.filter(|entry| entry.is_directory()) {
                let place = self.place("find", key)?;
                place.dress(entry).map_err(SnapshotError::io("change", key.as_path()))?;
            }
        }
        Ok(())
    }

    fn wanted(&self, key: &Key) -> Result<&Entry, SnapshotError> {
        // The keys of a plan are the snapshot's.
        let outside = || SnapshotError::Outside { path: key.as_path().to_owned() };
        self.comparison.target.tree.get(key).ok_or_else(outside)
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
        if find(self.roots, directory).is_none() {
            return Ok(());
        }
        let place = self.place("find", directory)?;
        place.let_in().map_err(SnapshotError::io("open", directory.as_path()))
    }

    fn place(&self, step: &'static str, key: &Key) -> Result<Place, SnapshotError> {
        let outside = || SnapshotError::Outside { path: key.as_path().to_owned() };
        let (root, relative) = find(self.roots, key).ok_or_else(outside)?;
        root.place(relative).map_err(SnapshotError::io(step, key.as_path()))
    }
}
