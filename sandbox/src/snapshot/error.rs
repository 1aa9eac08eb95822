//! Why a snapshot could not be made, read or restored.

use std::io;
use std::path::{Path, PathBuf};

use super::hash::ContentHash;
use crate::error::Feature;

/// What went wrong; nothing tracked was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The platform has no snapshots.
    #[error("not supported here: {feature}")]
    Unsupported {
        /// What is missing.
        feature: Feature,
    },
    /// A glob of an exclusion cannot be parsed.
    #[error("Invalid glob pattern '{pattern}': {source}")]
    Glob {
        /// The pattern as it was given.
        pattern: String,
        /// Where it is wrong.
        source: globset::Error,
    },
    /// A tracked path cannot be one.
    #[error("cannot track {}: {reason}", path.display())]
    Root {
        /// The path as it was given.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// More is tracked than the session may hold.
    #[error(
        "Rollback budget exceeded: {found} {what} (limit: {limit}). Exclude large directories, or \
         raise the limit"
    )]
    Budget {
        /// What was counted.
        what: &'static str,
        /// How many were found before the walk ended.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// An incremental snapshot needs one before it.
    #[error("No previous snapshot. Call create_baseline() first.")]
    NoBaseline,
    /// There is no snapshot of this number.
    #[error("there is no snapshot {number}: the session has {count}")]
    NoSuchSnapshot {
        /// The number as it was given.
        number: u32,
        /// How many snapshots there are; they are numbered from 0.
        count: u32,
    },
    /// A manifest cannot be read as one.
    #[error("manifest {} cannot be read", path.display())]
    ManifestFormat {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A manifest is not what it was when it was written.
    #[error("manifest {} was changed: its {what} does not match", path.display())]
    ManifestChanged {
        /// The file.
        path: PathBuf,
        /// Which of its sums does not match.
        what: &'static str,
    },
    /// A manifest names something that is not beneath what is tracked.
    #[error(
        "the manifest names {}, which is not beneath a tracked path or has `..` in it",
        path.display()
    )]
    Outside {
        /// The path in the manifest.
        path: PathBuf,
    },
    /// A snapshot is of a path that leads elsewhere than it did.
    #[error(
        "the snapshot is of {} as it was at {}; now it is {}", path.display(), was.display(),
        is.display()
    )]
    Elsewhere {
        /// The path as it was given.
        path: PathBuf,
        /// Where it led when the snapshot was made.
        was: PathBuf,
        /// Where it leads for this manager.
        is: PathBuf,
    },
    /// Objects that a restore needs are missing or damaged; nothing was changed.
    #[error(
        "nothing was restored: {count} object(s) are missing or damaged, the first is {hash} \
         ({reason}), of {}",
        path.display()
    )]
    Objects {
        /// How many.
        count: usize,
        /// The first of them.
        hash: ContentHash,
        /// What is wrong with it.
        reason: String,
        /// A file whose content it is.
        path: PathBuf,
    },
    /// The progress callback asked to stop. A restore can be completed by calling it again.
    #[error("cancelled; a restore that had begun is completed by calling it again")]
    Cancelled,
    /// A progress callback used the session of the call that it was called by.
    #[error("the session is in use by the call whose progress this is, and would wait for itself")]
    Nested,
    /// Some entries could not be restored; all others are. Calling it again restores them, once the
    /// causes are gone.
    #[error(
        "{} of the entries could not be restored, all others are: {}", failed.len(), list(failed)
    )]
    Incomplete {
        /// Those entries, ordered by path.
        failed: Vec<Failure>,
    },
    /// The session's metadata is not there.
    #[error("Session not found: {}", path.display())]
    SessionNotFound {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step failed.
    #[error("failed to {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// The path that it was done to.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SnapshotError {
    /// For `map_err`: what was being done to which path.
    pub(super) fn io<E: Into<io::Error>>(
        step: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| match source.into().downcast() {
            // It has ended what was being done, and came through that as its error.
            Ok(own) => own,
            Err(source) => Self::Io { step, path: path.to_owned(), source },
        }
    }
}

/// One entry that could not be restored.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} {} ({source})", path.display())]
pub struct Failure {
    /// What was being done.
    pub step: &'static str,
    /// The path that it was done to.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

/// As many as can be read at a glance.
fn list(failed: &[Failure]) -> String {
    const SHOWN: usize = 20;
    let mut words: Vec<_> = failed.iter().take(SHOWN).map(ToString::to_string).collect();
    if failed.len() > SHOWN {
        words.push(format!("and {} more", failed.len() - SHOWN));
    }
    words.join(", ")
}
