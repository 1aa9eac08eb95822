//! Blocks of a file that are found before it is written, many at once: else the file system looks
//! for those of each page by itself. They lie behind the file's end, where nobody reads, and are
//! given back when it is done with; what a killed process left of them, when the file is set aside.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// So many bytes are asked for at a time, or as many as the file has: one with few records takes
/// no more of the disk than they need.
const MOST: u64 = 16 << 20;
const LEAST: u64 = 1 << 20;

/// How far the blocks of a file reach.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    until: u64,
}

impl Ahead {
    /// Has blocks ready for what is written to `file` from `len` to `end`. Where that fails, as the
    /// file system cannot or the disk has no such room, they are found as it is written.
    pub(super) fn reach(&mut self, file: &File, len: u64, end: u64) {
        if end <= self.until || len < LEAST {
            return;
        }
        let until = end.max(len + len.min(MOST));
        self.until = if find(file, len, until - len) { until } else { u64::MAX };
    }

    /// Gives back those of `file` that were not written.
    pub(super) fn give_back(&mut self, file: &File) {
        if std::mem::take(&mut self.until) > 0 {
            shorten(file);
        }
    }
}

/// Finds the blocks for `count` bytes of `file` from `from` on, and says whether it did.
#[cfg(target_os = "linux")]
fn find(file: &File, from: u64, count: u64) -> bool {
    use nix::fcntl::{FallocateFlags, fallocate};

    let place = i64::try_from(from).ok().zip(i64::try_from(count).ok());
    place.is_some_and(|(from, count)| {
        fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, count).is_ok()
    })
}

/// No other system has a call that leaves the file's length as it is.
#[cfg(not(target_os = "linux"))]
fn find(_: &File, _: u64, _: u64) -> bool {
    false
}

/// Gives back those that a killed process left behind the end of the file at `path`.
pub(super) fn give_back(path: &Path) {
    // The open of a FIFO that was put there meanwhile would wait.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    if let Ok(file) = File::options().append(true).custom_flags(flags).open(path) {
        shorten(&file);
    }
}

/// To the length that it has. Blocks that stay are only room that is missed elsewhere.
fn shorten(file: &File) {
    let len = file.metadata().map(|file| file.len());
    let _: io::Result<()> = len.and_then(|len| file.set_len(len));
}
