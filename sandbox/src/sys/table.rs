//! A table of descriptors for one thread.

use std::ffi::c_int;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::raw::call;
use super::shim::close;

/// Gives the calling thread descriptors of its own: copies of `kept` under their numbers, and
/// nothing else. What it opens from now on takes no place among those of the process's other
/// threads, and what they open it has not.
///
/// A thread that calls this must own no descriptor, and use none but these: what it closed would
/// stay open in the process.
///
/// # Errors
///
/// Those of `close_range`. If it has its own table already, that holds more than `kept`.
pub(crate) fn own_table(kept: &[BorrowedFd<'_>]) -> Result<(), c_int> {
    let mut numbers: Vec<c_int> = kept.iter().map(BorrowedFd::as_raw_fd).collect();
    numbers.sort_unstable();
    let beyond = numbers.last().map_or(0, |last| last + 1).unsigned_abs() as usize;
    let (end, unshare) = (c_int::MAX.unsigned_abs() as usize, 1 << 1);
    // SAFETY: takes numbers. With this flag, `CLOSE_RANGE_UNSHARE` of `linux/close_range.h`, the
    // thread gets a table of its own first, so no owner loses what it has.
    unsafe { call(libc::SYS_close_range, [beyond, end, unshare]) }?;
    let mut next = 0;
    for number in numbers {
        if next < number {
            close(next, number - 1)?;
        }
        next = number + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::read_dir;
    use std::os::fd::AsFd as _;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_has_its_own_table_and_the_others_have_theirs() {
        let (kept, other) = std::io::pipe().unwrap();
        let number = kept.as_raw_fd();
        let held = thread::scope(|scope| {
            let alone = scope.spawn(|| {
                own_table(&[kept.as_fd()]).unwrap();
                let listed = read_dir("/proc/thread-self/fd").unwrap();
                let mut names: Vec<_> =
                    listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
                names.sort();
                names
            });
            alone.join().unwrap()
        });
        // The second is the listing's own.
        assert_eq!(held.len(), 2, "{held:?}");
        assert!(held.contains(&number.to_string()), "{held:?}");
        // Here both are as they were.
        rustix::io::fcntl_getfd(&kept).unwrap();
        rustix::io::fcntl_getfd(&other).unwrap();
    }
}
