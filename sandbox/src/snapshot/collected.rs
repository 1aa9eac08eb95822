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
        if let Err(Stop::Skip(SkipReason::Unreadable)) = outcome {
            self.closed.push(Closed { path: path.to_owned(), directory: directory.clone() });
        }
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
    Fail(SnapshotError),
}

impl From<SnapshotError> for Stop {
    fn from(error: SnapshotError) -> Self {
        Self::Fail(error)
    }
}

/// What an error of the kernel means for an entry that was there a moment ago.
pub(super) fn cannot(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Stop {
    move |error| match error {
        Errno::NOENT => Stop::Skip(SkipReason::Vanished),
        Errno::ACCESS | Errno::PERM => Stop::Skip(SkipReason::Unreadable),
        Errno::NAMETOOLONG => Stop::Skip(SkipReason::TooDeep),
        // It was something else when its directory was read.
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Stop::Skip(SkipReason::ChangedWhileRead),
        error => Stop::Fail(SnapshotError::io(step, path)(error)),
    }
}

pub(super) fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), SnapshotError> {
    if limit == 0 || found <= limit {
        return Ok(());
    }
    Err(SnapshotError::Budget { what, found, limit })
}
