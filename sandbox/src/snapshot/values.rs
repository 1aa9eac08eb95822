//! What a manager is given and tells, as plain values.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hash::ContentHash;

/// How much a session may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and directories that are looked at.
    pub max_entries: u64,
    /// Bytes in all files together.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_entries: 300_000, max_bytes: 2 << 30 }
    }
}

/// A file in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The SHA-256 of its content.
    pub hash: ContentHash,
    /// In bytes.
    pub size: u64,
    /// When its content was last changed, in seconds since the epoch.
    pub mtime: i64,
    /// `st_mode`, with the type of the file.
    pub permissions: u32,
}

/// One path that is not the same in two snapshots, or in a snapshot and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path, beneath the tracked path as it was given.
    pub path: PathBuf,
    /// How it differs.
    pub change_type: ChangeType,
    /// By how many bytes its content grew; `None` in what a restore tells.
    pub size_delta: Option<i64>,
    /// Its content before, if it was a file. A restore does not read a file of more than 1 MiB that
    /// is new or not as large as the snapshot's: then it is `None`.
    pub old_hash: Option<ContentHash>,
    /// Its content after, if it is a file.
    pub new_hash: Option<ContentHash>,
}

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// It was not there before.
    Created,
    /// Its content, the target of its link, or what it is.
    Modified,
    /// It is not there any more.
    Deleted,
    /// Its mode, owner or extended attributes.
    PermissionsChanged,
}

impl ChangeType {
    /// The name in programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::PermissionsChanged => "permissions_changed",
        }
    }

    /// The one with that name in programs.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Created, Self::Modified, Self::Deleted, Self::PermissionsChanged];
        all.into_iter().find(|known| known.as_str() == name)
    }

    /// The name in the files of a session.
    pub(super) fn as_recorded(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Modified => "Modified",
            Self::Deleted => "Deleted",
            Self::PermissionsChanged => "PermissionsChanged",
        }
    }
}

/// What was not looked at, or not whole, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The path, beneath the tracked path as it was given.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why something is not in a snapshot, or not for certain as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// A tracked path that is not there. Restoring removes what comes to stand there.
    Missing,
    /// It may not be read.
    Unreadable,
    /// A socket, pipe or device.
    Special,
    /// It was gone before it could be read.
    Vanished,
    /// It changed each time that it was read; what was read last is in the snapshot.
    ChangedWhileRead,
    /// Its path is longer than the kernel takes.
    TooDeep,
}

impl Skipped {
    /// The path, if something stood there of which nothing more is known.
    pub(super) fn stays(&self) -> Option<&Path> {
        let is_known =
            matches!(self.reason, SkipReason::Missing | SkipReason::Vanished | SkipReason::Special);
        (!is_known).then_some(&self.path)
    }
}

impl SkipReason {
    /// The reason as it stands in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Special => "special",
            Self::Vanished => "vanished",
            Self::ChangedWhileRead => "changed_while_read",
            Self::TooDeep => "too_deep",
        }
    }
}
