//! What the visits of all entries share: where each begins, and what becomes of what it found.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::collected::{Collected, Stop, cannot};
use super::exclusion::{Candidate, Verdict};
use super::ignored::Ignored;
use super::key::Key;
use super::known::Known;
use super::roots::Root;
use super::values::SkipReason;
use super::walk::Walk;

/// What all threads of a walk share.
pub(super) struct Visit<'a> {
    pub(super) walk: &'a Walk<'a>,
    /// What was changed since, in seconds since the epoch, may change again unseen.
    pub(super) settled_before: i64,
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Of the `.gitignore` files.
    pub(super) rules: AtomicU64,
    /// Of those of which the snapshot does not tell whether they held.
    pub(super) guessed: AtomicU64,
    /// One for each directory that is kept open, and one more.
    pub(super) open: Arc<()>,
    /// Whether an error has ended the walk.
    is_over: AtomicBool,
    /// Which nodes of the previous tree are still the same.
    pub(super) is_kept: Vec<AtomicBool>,
    collected: Mutex<Collected>,
}

/// A directory on the way down.
pub(super) struct Below<'a> {
    pub(super) root: &'a Root,
    pub(super) key: Key,
    /// What was beneath it when it was last looked at, and itself.
    pub(super) known: Known<'a>,
    /// What is ignored in it.
    pub(super) ignored: Ignored,
    pub(super) is_excluded: bool,
}

/// What is called `name` in a directory.
pub(super) struct Named<'a, 'e> {
    pub(super) parent: &'e OwnedFd,
    pub(super) name: &'e OsStr,
    pub(super) path: &'e Path,
    /// What was called so before.
    pub(super) known: Known<'a>,
}

impl Below<'_> {
    /// The part of the key beneath the root.
    pub(super) fn relative(&self) -> &Path {
        self.root.key.beneath(self.key.as_path()).unwrap_or_else(|| Path::new(""))
    }
}

impl<'a> Visit<'a> {
    pub(super) fn new(walk: &'a Walk<'a>, settled_before: i64) -> Self {
        Self {
            walk,
            settled_before,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rules: AtomicU64::new(0),
            guessed: AtomicU64::new(0),
            open: Arc::default(),
            is_over: AtomicBool::new(false),
            is_kept: walk
                .previous
                .map(|tree| tree.nodes().iter().map(|_| AtomicBool::new(false)).collect())
                .unwrap_or_default(),
            collected: Mutex::default(),
        }
    }

    /// What was found, and which nodes of the previous tree are still the same.
    pub(super) fn into_parts(self) -> (Collected, Vec<AtomicBool>) {
        let collected = self.collected.into_inner().unwrap_or_else(PoisonError::into_inner);
        (collected, self.is_kept)
    }

    pub(super) fn root<'s>(&'s self, root: &'a Root, scope: &Scope<'s>) {
        let key = &root.key;
        let mut found = Collected::default();
        let mut visit = || {
            let missing = |error| match error {
                Errno::NOENT => Stop::Skip(SkipReason::Missing),
                error => cannot("open", key.as_path())(error),
            };
            let place = root.place(Path::new("")).map_err(missing)?;
            let stat = place.stat().map_err(missing)?;
            let known = Known::all(self.walk.previous).at(key.as_path());
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let (parent, name, path) = (&place.parent, &*place.name, key.as_path());
                let at = Named { parent, name, path, known };
                return self.leaf(&at, &stat, &mut found);
            }
            let ignored = Ignored::default();
            let known = known.narrowed(key);
            let at = Below { root, key: key.clone(), known, ignored, is_excluded: false };
            let outcome = self.directory(at, scope);
            found.close(&outcome, key.as_path(), key);
            outcome
        };
        let outcome = visit();
        self.note(key.as_path(), outcome, found);
    }

    /// What becomes of what is at `path` in a directory, where the rules are `ignored`.
    pub(super) fn verdict(
        &self,
        within: &Below<'a>,
        path: &Path,
        is_directory: bool,
        ignored: &Ignored,
    ) -> Verdict {
        let relative = within.root.key.beneath(path).unwrap_or(path);
        self.walk.exclusion.verdict(Candidate {
            path,
            relative,
            is_directory,
            is_ignored: ignored.covers(relative, is_directory),
            is_beneath_excluded: within.is_excluded,
        })
    }

    /// Puts what was found to the rest, and what ended the search.
    pub(super) fn note(&self, path: &Path, outcome: Result<(), Stop>, mut found: Collected) {
        let counted = outcome.and_then(|()| Ok(self.count(&mut found)?));
        found.error = found.skip(counted, path).err();
        let is_over = found.error.is_some();
        self.collect(|all| all.append(found));
        // Only now: others end with an error of their own, and the first that is noted counts.
        if is_over {
            self.is_over.store(true, Ordering::Release);
        }
    }

    /// Whether an error has ended the walk.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) fn collect(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
