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
//! and moved there in one step, but for files with a hard link outside of what is tracked, which
//! are written in place. A restore that was interrupted is completed by the next call.
//!
//! # What it costs
//!
//! A file is read again only if its inode shows that it may have changed (`st_ctime`, which nobody
//! can set), or if it had changed too shortly before the last snapshot for a later change to show.
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
//! # What is left alone
//!
//! What the [`ExclusionConfig`] or a `.gitignore` named **at the time of the snapshot**: ignoring
//! a file later does not keep it from being removed, and no longer ignoring one does not remove
//! it. Sockets, pipes and devices are never made, nor removed if they were there. Neither is removed
//! what could not be looked at when the snapshot was made ([`SkipReason`]). What came since goes
//! whether it can be read or not, and however deep it is; beneath a path that is longer than the
//! kernel takes it goes whole.
//!
//! No symbolic link is followed beneath a tracked directory, nor on the way to it
//! (`openat2` with `RESOLVE_NO_SYMLINKS`): what is outside is neither read nor changed.

mod attributes;
mod collected;
mod diff;
mod entry;
mod error;
mod exclusion;
mod hash;
mod ignored;
mod key;
mod known;
mod leaf;
mod manager;
mod manifest;
mod names;
mod place;
mod plan;
mod progress;
mod quick;
mod record;
mod restore;
mod roots;
mod seal;
mod session;
mod shared;
mod store;
mod text;
mod tree;
mod visit;
mod walk;

pub use diff::{Change, ChangeType};
pub use error::SnapshotError;
pub use exclusion::ExclusionConfig;
pub use hash::{ContentHash, NotAHash};
pub use manager::{Limits, SnapshotManager};
pub use manifest::{FileState, SnapshotManifest};
pub use progress::{Phase, Progress};
pub use walk::{SkipReason, Skipped};
