//! The snapshots of a platform that has none: their types are there, their values are not.

use std::convert::Infallible;
use std::iter::Empty;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SnapshotError;
use super::exclusion::ExclusionConfig;
use super::hash::ContentHash;
use super::progress::Callback;
use super::values::{Change, FileState, Limits, Skipped};
use crate::error::Feature;

const NONE: SnapshotError =
    SnapshotError::Unsupported { feature: Feature::OfLinux { what: "snapshots" } };

/// Makes snapshots; there is none here.
#[derive(Debug)]
pub struct SnapshotManager {
    never: Infallible,
}

/// What was there when a snapshot was made; there is none here.
#[derive(Clone, Debug)]
pub struct SnapshotManifest {
    /// Its number in the session.
    pub number: u32,
    /// When it was made.
    pub timestamp: String,
    /// The number of the snapshot before.
    pub parent: Option<u32>,
    /// The Merkle root over paths and contents of all files.
    pub merkle_root: ContentHash,
    /// What is not in it.
    pub skipped: Vec<Skipped>,
    /// What was left out.
    pub exclusion: Option<ExclusionConfig>,
    never: Infallible,
}

#[expect(clippy::missing_errors_doc, reason = "there is no value to call them on")]
impl SnapshotManager {
    /// Says that there are no snapshots here.
    ///
    /// # Errors
    ///
    /// Always [`SnapshotError::Unsupported`].
    pub fn new(
        _: &Path,
        _: &[PathBuf],
        _: ExclusionConfig,
        _: Limits,
    ) -> Result<Self, SnapshotError> {
        Err(NONE)
    }

    /// The text of a session's metadata.
    ///
    /// # Errors
    ///
    /// Always [`SnapshotError::Unsupported`].
    pub fn load_session_metadata(_: &Path) -> Result<String, SnapshotError> {
        Err(NONE)
    }

    /// Where the session is.
    pub fn directory(&self) -> &Path {
        match self.never {}
    }

    /// Whether this thread is in a callback.
    pub fn is_calling_back(&self) -> bool {
        match self.never {}
    }

    /// What its snapshots are of.
    pub fn tracked_paths(&self) -> Vec<PathBuf> {
        match self.never {}
    }

    /// How many snapshots the session has.
    pub fn snapshot_count(&self) -> Result<u32, SnapshotError> {
        match self.never {}
    }

    /// Makes a snapshot that stands for itself.
    pub fn create_baseline(&self, _: Callback<'_>) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        match self.never {}
    }

    /// Makes a snapshot of what has changed.
    pub fn create_incremental(
        &self,
        _: Callback<'_>,
    ) -> Result<(Arc<SnapshotManifest>, Vec<Change>), SnapshotError> {
        match self.never {}
    }

    /// What restoring a snapshot would change.
    pub fn compute_restore_diff(
        &self,
        _: u32,
        _: Callback<'_>,
    ) -> Result<Vec<Change>, SnapshotError> {
        match self.never {}
    }

    /// Makes what is tracked what it was.
    pub fn restore_to(&self, _: u32, _: Callback<'_>) -> Result<Vec<Change>, SnapshotError> {
        match self.never {}
    }

    /// Reads a manifest.
    pub fn load_manifest(&self, _: u32) -> Result<Arc<SnapshotManifest>, SnapshotError> {
        match self.never {}
    }

    /// Keeps the text of the session's metadata.
    pub fn save_session_metadata(&self, _: &str, _: Callback<'_>) -> Result<(), SnapshotError> {
        match self.never {}
    }
}

impl SnapshotManifest {
    /// The files by path.
    pub fn files(&self) -> Empty<(&Path, FileState)> {
        match self.never {}
    }
}
