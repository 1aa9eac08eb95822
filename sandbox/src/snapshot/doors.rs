//! Directories that do not let their owner in: made to for a restore, and shut again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::key::Key;
use super::plan::is_within;
use super::roots::{Root, find};

/// The directories of some roots that let their owner in for now. Those that nobody has given a
/// mode meanwhile get back what they had when this goes.
pub(super) struct Doors<'a> {
    roots: &'a [Root],
    /// What is left alone.
    kept: HashSet<&'a Path>,
    opened: Mutex<BTreeMap<Key, Mode>>,
}

impl<'a> Doors<'a> {
    pub(super) fn new(roots: &'a [Root], kept: HashSet<&'a Path>) -> Self {
        Self { roots, kept, opened: Mutex::default() }
    }

    /// Lets the owner into a directory.
    pub(super) fn open(&self, directory: &Key) -> rustix::io::Result<()> {
        let Some((root, relative)) = find(self.roots, directory) else { return Ok(()) };
        let mut opened = self.lock();
        let place = root.place(relative)?;
        let before = place.add_mode(Mode::RWXU, OFlags::DIRECTORY)?;
        if let Entry::Vacant(entry) = opened.entry(directory.clone()) {
            entry.insert(before);
        }
        Ok(())
    }

    /// Whether what is at `path` is left alone, so that nothing is opened for it.
    pub(super) fn keep(&self, path: &Path) -> bool {
        is_within(&self.kept, path)
    }

    /// Those that were let into, in order.
    pub(super) fn opened(&self) -> Vec<Key> {
        self.lock().keys().cloned().collect()
    }

    /// Somebody gives a directory its mode.
    pub(super) fn leave(&self, directory: &Key) {
        self.lock().remove(directory);
    }

    /// Gives a directory back the mode that it had.
    pub(super) fn shut(&self, directory: &Key) {
        let before = self.lock().remove(directory);
        if let Some((mode, (root, relative))) = before.zip(find(self.roots, directory)) {
            // It may be gone, as what came since the snapshot is.
            let _is_gone = root.place(relative).and_then(|place| place.set_mode(mode));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Mode>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Doors<'_> {
    fn drop(&mut self) {
        // The inner ones first: there is no way to them through one that is shut.
        self.opened().iter().rev().for_each(|directory| self.shut(directory));
    }
}
