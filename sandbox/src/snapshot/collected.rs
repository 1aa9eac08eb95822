//! What the threads of a walk have found, and why one of them goes no further.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::SnapshotError;
use super::key::Key;
use super::shared::Shared;
use super::tree::Node;
use super::values::{SkipReason, Skipped};

/// What was found, in no order.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) nodes: Vec<Node>,
    /// What others have found.
    pub(super) shared: Vec<Shared>,
    pub(super) skipped: Vec<Skipped>,
    /// Those of them that are excluded themselves.
    pub(super) passed: Vec<PathBuf>,
    pub(super) closed: Vec<Closed>,
    pub(super) leftovers: Vec<Key>,
    /// The texts of `.gitignore` files.
    pub(super) rules: Vec<(Key, Vec<u8>)>,
    /// The size of files that is not counted yet.
    pub(super) bytes: u64,
    /// The first error is the walk's.
    pub(super) error: Option<SnapshotError>,
}

impl Collected {
    pub(super) fn append(&mut self, other: Self) {
        self.shared.extend(other.shared);
        self.shared.extend(Shared::all(other.nodes));
        self.skipped.extend(other.skipped);
        self.passed.extend(other.passed);
        self.closed.extend(other.closed);
        self.leftovers.extend(other.leftovers);
        self.rules.extend(other.rules);
        self.error = self.error.take().or(other.error);
    }

    /// Notes what ended at `path` because `directory` did not let its owner in.
    pub(super) fn close<T>(&mut self, outcome: &Result<T, Stop>, path: &Path, directory: &Key) {
        if let Err(Stop::Shut) = outcome {
            self.closed.push(Closed { path: path.to_owned(), directory: directory.clone() });
        }
    }

    /// Notes why what is at `path` is not looked at any further, unless nothing else is either.
    pub(super) fn skip(
        &mut self,
        outcome: Result<(), Stop>,
        path: &Path,
    ) -> Result<(), SnapshotError> {
        let reason = match outcome {
            Ok(()) => return Ok(()),
            Err(Stop::Skip(reason)) => reason,
            Err(Stop::Shut) => SkipReason::Unreadable,
            Err(Stop::Fail(error)) => return Err(error),
        };
        self.skipped.push(Skipped { path: path.to_owned(), reason });
        Ok(())
    }
}

/// A path that cannot be looked at, and the directory that has to let its owner in for that.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) path: PathBuf,
    pub(super) directory: Key,
}

/// Why an entry is not looked at any further.
pub(super) enum Stop {
    Skip(SkipReason),
    /// It may not be read.
    Shut,
    /// Nothing is.
    Fail(SnapshotError),
}

impl From<SnapshotError> for Stop {
    fn from(error: SnapshotError) -> Self {
        Self::Fail(error)
    }
}

/// What an error of the kernel means for an entry that was there a moment ago. What is wrong with
/// that alone is no reason to look at no other.
pub(super) fn cannot(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Stop {
    move |error| match error {
        // Those are not the entry's.
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSYS => {
            Stop::Fail(SnapshotError::io(step, path)(error))
        }
        error => usual(error).unwrap_or(Stop::Skip(SkipReason::Unreadable)),
    }
}

/// What it means for a directory in a restore: whatever has come into one is to be found, or the
/// restore would not be one.
pub(super) fn cannot_enter(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Stop {
    move |error| usual(error).unwrap_or_else(|| Stop::Fail(SnapshotError::io(step, path)(error)))
}

/// What a program may bring about with any entry.
fn usual(error: Errno) -> Option<Stop> {
    match error {
        Errno::NOENT => Some(Stop::Skip(SkipReason::Vanished)),
        Errno::ACCESS | Errno::PERM => Some(Stop::Shut),
        Errno::NAMETOOLONG => Some(Stop::Skip(SkipReason::TooDeep)),
        // It was something else when its directory was read.
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Some(Stop::Skip(SkipReason::ChangedWhileRead)),
        _ => None,
    }
}

pub(super) fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), SnapshotError> {
    if limit == 0 || found <= limit {
        return Ok(());
    }
    Err(SnapshotError::Budget { what, found, limit })
}
