//! One call of a session at a time, of all managers and processes.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use super::error::SnapshotError;
use super::progress::{Callback, Meter, Phase};

/// How long a callback waits for being asked again.
const PAUSE: Duration = Duration::from_millis(10);

thread_local! {
    /// The sessions by whose calls a callback is called on this thread, the innermost last.
    static CALLING: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// Waits until nobody else works in the session at `directory`, as long as the callback wants to.
/// It is held until what is returned is closed.
pub(super) fn lock(directory: &Path, callback: Callback<'_>) -> Result<OwnedFd, SnapshotError> {
    if is_calling(directory) {
        return Err(SnapshotError::Nested);
    }
    let file = file(directory).map_err(SnapshotError::io("lock", directory))?;
    let meter = Meter::new(callback, Phase::Wait, None);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => meter.end()?,
            locked => {
                locked.map_err(SnapshotError::io("lock", directory))?;
                return Ok(file);
            }
        }
        // Nothing tells when a lock is free but waiting for it, which cannot be ended.
        thread::park_timeout(PAUSE);
    }
}

/// What is locked: a file that only the session's owner can open. The directory itself would do for
/// whoever can read it, and so for keeping everybody else waiting.
fn file(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(directory.join("lock"), flags | OFlags::CREATE, Mode::RUSR | Mode::WUSR) {
        // Where nobody can write, nobody else's work is in the way.
        Err(Errno::ROFS) => open(directory, flags, Mode::empty()),
        file => file,
    }
}

/// Whether this thread is in a callback of a call in the session at `directory`.
pub(super) fn is_calling(directory: &Path) -> bool {
    CALLING.with_borrow(|all| all.iter().any(|calling| calling == directory))
}

/// Calls a callback of a call in the session at `directory`.
pub(super) fn calling<T>(directory: &Path, callback: impl FnOnce() -> T) -> T {
    CALLING.with_borrow_mut(|all| all.push(directory.to_owned()));
    let _until_it_returns = Calling;
    callback()
}

struct Calling;

impl Drop for Calling {
    fn drop(&mut self) {
        CALLING.with_borrow_mut(Vec::pop);
    }
}
