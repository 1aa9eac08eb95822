//! Room in the process's table of descriptors, made before it is needed.
//!
//! The table grows by itself. But where threads share it, the one that opens a socket then waits
//! for every processor to pass through the scheduler first (`expand_fdtable` in Linux'
//! `fs/file.c`): ten milliseconds and more, in which none of a worker's connections is served.

use std::os::fd::AsFd;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// No more than this is made room for; it takes eight bytes each.
const MOST: u64 = 64 * 1024;

/// Makes room for `count` descriptors, or for as many as the process may have. `any` is one.
pub(crate) fn make_room(any: impl AsFd, count: usize) {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
    let count = u64::try_from(count).unwrap_or(MOST).min(most);
    // A duplicate with the highest number, closed at once: the table does not shrink. If there is
    // none to be had, the table grows when it must.
    if let Ok(last) = i32::try_from(count.saturating_sub(1)) {
        let _ = fcntl_dupfd_cloexec(any, last);
    }
}
