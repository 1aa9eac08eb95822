//! What a process asks of the kernel about itself or its child, and gives up.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use super::call;

/// The version of Landlock's interface that the kernel has.
///
/// # Errors
///
/// `ENOSYS` if it has none, `EOPNOTSUPP` if it is switched off.
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const VERSION: usize = 1;
    // SAFETY: with this flag the kernel takes no pointer; it wants both zero.
    let version = unsafe { call(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0]) };
    version
        .map_err(io::Error::from_raw_os_error)
        .and_then(|abi| u32::try_from(abi).map_err(io::Error::other))
}

/// Whether the kernel says that the process has no other thread. False also if it will not say.
pub(crate) fn is_only_thread() -> bool {
    let thread = libc::CLONE_THREAD.unsigned_abs() as usize;
    // SAFETY: the call takes flags only. A thread group of one is left as it is, and in any other
    // the call fails: it never has an effect.
    unsafe { call(libc::SYS_unshare, [thread, 0, 0, 0]) }.is_ok()
}

/// The exit status of a child that somebody else has waited for, in the form `wait` gives it:
/// another part of the program waits for all its children, or ignores `SIGCHLD`.
///
/// # Errors
///
/// `EINVAL` or `ENOTTY` before Linux 6.15, which does not keep it.
pub(crate) fn status_of_reaped(pidfd: BorrowedFd<'_>) -> io::Result<c_int> {
    // `PIDFD_GET_INFO` and `PIDFD_INFO_EXIT` of `linux/pidfd.h`.
    const GET_INFO: usize = 0xC040_FF0B;
    const EXIT: u64 = 1 << 3;
    let mut info = PidfdInfo { mask: EXIT, others: [0; 13], exit_status: 0 };
    let pointer = ptr::from_mut(&mut info) as usize;
    let arguments = [pidfd.as_raw_fd().unsigned_abs() as usize, GET_INFO, pointer, 0];
    // SAFETY: `info` has the size that the request's number says, and lives through the call.
    unsafe { call(libc::SYS_ioctl, arguments) }.map_err(io::Error::from_raw_os_error)?;
    if info.mask & EXIT == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(info.exit_status) }
}

/// The kernel's `struct pidfd_info` in its first version.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    others: [u32; 13],
    exit_status: i32,
}

/// Lets no program give the calling thread privileges that it has not, for ever.
pub(super) fn no_new_privileges() -> Result<(), c_int> {
    let request = libc::PR_SET_NO_NEW_PRIVS as usize;
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_prctl, [request, 1, 0, 0]) }.map(drop)
}

/// Gives up the calling thread's capabilities but for those in `kept`. Together with "no new
/// privileges" this is for ever, for root too.
///
/// # Errors
///
/// None that the kernel is known to give.
pub(super) fn keep_capabilities(kept: u64) -> Result<(), c_int> {
    // `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`, of the calling thread.
    let mut header = [0x2008_0522_u32, 0];
    // Effective, permitted and inheritable, the low words and then the high ones.
    let mut sets = [0_u32; 6];
    let pointers = [ptr::from_mut(&mut header) as usize, ptr::from_mut(&mut sets) as usize, 0, 0];
    // SAFETY: both point to memory of the size that this version has, which lives through the
    // call.
    unsafe { call(libc::SYS_capget, pointers) }?;
    // Each half fits.
    let [low, high] =
        [kept & u64::from(u32::MAX), kept >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let masks = [low, low, low, high, high, high];
    for (set, mask) in sets.iter_mut().zip(masks) {
        *set &= mask;
    }
    // SAFETY: as above; nothing is written.
    unsafe { call(libc::SYS_capset, pointers) }.map(drop)
}

/// Whether the calling thread has capabilities that are not among `kept`.
pub(crate) fn has_capabilities_beside(kept: u64) -> bool {
    let mut header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    let pointers = [ptr::from_mut(&mut header) as usize, ptr::from_mut(&mut sets) as usize, 0, 0];
    // SAFETY: both point to memory of the size that this version has, which lives through the
    // call.
    if unsafe { call(libc::SYS_capget, pointers) }.is_err() {
        return true;
    }
    let [low, high] = [kept, kept >> 32].map(|half| half & u64::from(u32::MAX));
    let masks = [low, low, low, high, high, high];
    sets.iter().zip(masks).any(|(set, mask)| u64::from(*set) & !mask != 0)
}
