//! Snapshots of directories: what was there can be had back, whole.
//!
//! A [`SnapshotManager`] keeps the snapshots of one session in a directory of its own: contents
//! under their SHA-256 in `objects/`, and one manifest for each snapshot in `snapshots/`, whose
//! root is a Merkle root over paths and contents. Names, layout and JSON are those of the
//! `nono` tools; what that format has no place for (directories, the targets of symbolic links,
//! extended attributes, owners, hard links, nanoseconds) stands in fields of its own, which
//! readers that do not know them leave alone.
//!
//! # What a restore gives back
//!
//! Contents, modes, owners, modification times and extended attributes of files and directories,
//! symbolic links, hard links among what is tracked, empty directories; and it removes what was
//! made since. Before the first change every object that is needed is read and compared with its
//! hash: if one is missing or damaged, nothing is changed. Each file is written beside its place
//! and moved there in one step, but for files that had a hard link outside of what is tracked, and
//! still have: those are written in place, if device and inode are those of the snapshot. A name of
//! another file, which a program may have put there since, is replaced, and that file stays as it
//! is. Whatever stands in the way of an entry came since, and goes, ignored or
//! not. What cannot be restored is named when all else is. A restore that was interrupted is
//! completed by the next call.
//!
//! # What it costs
//!
//! A file is read again only if its inode shows that it may have changed (`st_ctime`, which nobody
//! can set), or if it had changed too shortly before the last snapshot for a later change to show.
//! It does not show what is written through a shared mapping into a page that was written to
//! before, until the kernel has written that page back (on `tmpfs` it never does): what a program
//! that has a file mapped when a snapshot is made changes in it so may not be seen, then or later.
//! A large file that is new or has another size is not read in a restore.
//!
//! Trees share the entries that are the same in both, so comparing them costs what differs. The
//! manifest has a line for each entry and ends with a digest of its text, and is written and read
//! on all processors; where nothing has changed, the lines are those of the manifest before, and
//! the kernel copies them. Memory grows with the number of entries, not with their sizes.
//!
//! # What is checked
//!
//! A manifest's digest whenever it is read, and its Merkle root before it is restored, compared or
//! loaded; a new snapshot takes over entries, and for the same files the root, from one whose digest
//! is right. Neither has a key: they show what was damaged, or changed by a program that does not
//! know of them. Whoever can write the session and means to deceive can make manifests that are as
//! good, and further snapshots build on them: keep it where what is sandboxed cannot write. A root
//! that is kept elsewhere, as a signed record of the session does, shows what is changed after.
//!
//! Nothing waits until it is on the disk. What a power cut has taken from a session shows in these
//! sums, and in the objects, before a restore changes anything.
//!
//! # What is left alone
//!
//! What the [`ExclusionConfig`] or a `.gitignore` named **at the time of the snapshot**: ignoring
//! a file later does not keep it from being removed, and no longer ignoring one does not remove
//! it. A `.gitignore` counts though it leaves out itself. What a manager tracks that the one did
//! not which made the snapshot; a path that led elsewhere then is an error before anything is
//! changed. Sockets, pipes and devices are never made, nor removed if they were there and nothing
//! else has come into their place. Neither is
//! removed what could not be looked at when the snapshot was made ([`SkipReason`]). What came since
//! goes whether it can be read or not, and however deep it is; beneath a path that is longer than the
//! kernel takes it goes whole. Files and links named `.nono-restore-`, a process and a number are what
//! an interrupted restore has left: they are in no snapshot, and the next restore removes them.
//!
//! No symbolic link is followed beneath a tracked directory, nor on the way to it
//! (`openat2` with `RESOLVE_NO_SYMLINKS`): what is outside is neither read nor changed.
//!
//! # Platforms
//!
//! Linux. Elsewhere [`SnapshotManager::new`] is [`SnapshotError::Unsupported`]: a restore removes
//! files, and what keeps it to those that are meant, above, is Linux's.

#![cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "there is no manager that would use it")
)]

mod error;
mod exclusion;
mod hash;
mod progress;
mod values;

#[cfg(not(target_os = "linux"))]
mod absent;
#[cfg(target_os = "linux")]
mod attributes;
#[cfg(target_os = "linux")]
mod collected;
#[cfg(target_os = "linux")]
mod diff;
#[cfg(target_os = "linux")]
mod directory;
#[cfg(target_os = "linux")]
mod doors;
#[cfg(target_os = "linux")]
mod entry;
#[cfg(target_os = "linux")]
mod ignored;
#[cfg(target_os = "linux")]
mod key;
#[cfg(target_os = "linux")]
mod known;
#[cfg(target_os = "linux")]
mod leaf;
#[cfg(target_os = "linux")]
mod lock;
#[cfg(target_os = "linux")]
mod manager;
#[cfg(target_os = "linux")]
mod manifest;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod quick;
#[cfg(target_os = "linux")]
mod record;
#[cfg(target_os = "linux")]
mod restore;
#[cfg(target_os = "linux")]
mod roots;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
mod scope;
#[cfg(target_os = "linux")]
mod seal;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod shared;
#[cfg(target_os = "linux")]
mod store;
#[cfg(target_os = "linux")]
mod target;
#[cfg(target_os = "linux")]
mod text;
#[cfg(target_os = "linux")]
mod tree;
#[cfg(target_os = "linux")]
mod visit;
#[cfg(target_os = "linux")]
mod walk;

#[cfg(not(target_os = "linux"))]
pub use absent::{SnapshotManager, SnapshotManifest};
pub use error::{Failure, SnapshotError};
pub use exclusion::ExclusionConfig;
pub use hash::{ContentHash, NotAHash};
#[cfg(target_os = "linux")]
pub use manager::SnapshotManager;
#[cfg(target_os = "linux")]
pub use manifest::SnapshotManifest;
pub use progress::{Phase, Progress};
pub use values::{Change, ChangeType, FileState, Limits, SkipReason, Skipped};
