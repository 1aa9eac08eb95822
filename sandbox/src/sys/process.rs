//! What a process asks of the kernel about itself or its child, and gives up.

use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr;

use super::child::Ids;
use super::raw::call;

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

/// Lets no program give the calling thread privileges that it has not, for ever.
pub(crate) fn no_new_privileges() -> Result<(), c_int> {
    let request = libc::PR_SET_NO_NEW_PRIVS as usize;
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_prctl, [request, 1, 0, 0]) }.map(drop)
}

/// Makes the calling thread another user's, with one group.
///
/// By the system calls: the library's functions change all threads of the process, and those of
/// the caller with them if its memory is shared.
///
/// Neither number may be the highest, which is nobody's and to the kernel means no change.
///
/// Memory that is shared with whom it is called in is not "dumpable" any more, for good: the kernel
/// lets only root look into it from then on.
///
/// # Errors
///
/// `EPERM` for all but root; `EINVAL` for a number of nobody.
pub(crate) fn become_user(ids: Ids) -> Result<(), c_int> {
    if [ids.uid, ids.gid].contains(&u32::MAX) {
        return Err(libc::EINVAL);
    }
    let (uid, gid) = (ids.uid as usize, ids.gid as usize);
    // SAFETY: takes numbers and, for a list of none, a null pointer.
    unsafe { call(libc::SYS_setgroups, [0, 0]) }?;
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_setresgid, [gid, gid, gid]) }?;
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid]) }.map(drop)
}

/// Gives up the calling thread's capabilities but for those in `kept`. Together with "no new
/// privileges" this is for ever, for root too.
///
/// # Errors
///
/// None that the kernel is known to give.
pub(crate) fn keep_capabilities(kept: u64) -> Result<(), c_int> {
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
    let Ok(sets) = capabilities() else { return true };
    let [low, high] = [kept, kept >> 32].map(|half| half & u64::from(u32::MAX));
    let masks = [low, low, low, high, high, high];
    sets.iter().zip(masks).any(|(set, mask)| u64::from(*set) & !mask != 0)
}

/// Whether the calling thread has one of the first 32 capabilities, given by its bit, in effect.
pub(crate) fn has_capability(bit: u64) -> bool {
    capabilities().is_ok_and(|[effective, ..]| u64::from(effective) & bit != 0)
}

/// The calling thread's capabilities: effective, permitted and inheritable, the low words and then
/// the high ones.
fn capabilities() -> Result<[u32; 6], c_int> {
    // As above.
    let mut header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    let pointers = [ptr::from_mut(&mut header) as usize, ptr::from_mut(&mut sets) as usize, 0, 0];
    // SAFETY: both point to memory of the size that this version has, which lives through the
    // call.
    unsafe { call(libc::SYS_capget, pointers) }?;
    Ok(sets)
}

/// Waits for a child, by a descriptor of it, and tells whether it has ended. It need not be one
/// whose end is told by a signal.
pub(super) fn reap(pidfd: c_int, options: c_int) -> Result<bool, c_int> {
    let options = (options | libc::__WALL).cast_unsigned() as usize;
    let mut info = [0_u32; 32];
    let (kind, info_at) = (libc::P_PIDFD as usize, info.as_mut_ptr() as usize);
    loop {
        let arguments = [kind, pidfd.unsigned_abs() as usize, info_at, options, 0];
        // SAFETY: `info` has the 128 bytes of a `siginfo_t`, which the call writes.
        match unsafe { call(libc::SYS_waitid, arguments) } {
            Ok(_) => break,
            Err(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    // Zero if there is no end to tell of.
    let [signal, ..] = info;
    Ok(signal != 0)
}

/// Lets the calling process have as many files open as it may let itself.
pub(crate) fn raise_file_limit() {
    let mut limit = [0_u64; 2];
    let resource = libc::RLIMIT_NOFILE as usize;
    let pointer = limit.as_mut_ptr() as usize;
    // SAFETY: `limit` has the size of a `rlimit64`, which the call writes.
    let read = unsafe { call(libc::SYS_prlimit64, [0, resource, 0, pointer]) };
    let [_, most] = limit;
    if read.is_ok() {
        limit = [most; 2];
        let pointer = limit.as_ptr() as usize;
        // SAFETY: as above; nothing is written.
        let _ = unsafe { call(libc::SYS_prlimit64, [0, resource, pointer, 0]) };
    }
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn monotonic() -> u64 {
    let mut now = [0_u64; 2];
    let pointer = ptr::from_mut(&mut now) as usize;
    // SAFETY: `now` has the size and alignment of a `timespec` of 64 bits each.
    let read = unsafe { call(libc::SYS_clock_gettime, [libc::CLOCK_MONOTONIC as usize, pointer]) };
    let [seconds, nanoseconds] = now;
    // The clock exists on every kernel.
    read.map_or(0, |_| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Leaves the session and the process group, and so has no terminal.
pub(super) fn new_session() -> Result<(), c_int> {
    // SAFETY: takes nothing.
    unsafe { call(libc::SYS_setsid, []) }.map(drop)
}

/// Leaves the process group. A session of its own would do more, and cost the process its place
/// among those that the scheduler lets run.
pub(super) fn new_group() -> Result<(), c_int> {
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_setpgid, [0, 0]) }.map(drop)
}

/// The number of the calling process.
pub(super) fn own_number() -> Result<c_int, c_int> {
    // SAFETY: takes nothing.
    let pid = unsafe { call(libc::SYS_getpid, []) }?;
    c_int::try_from(pid).map_err(|_| libc::EOVERFLOW)
}

/// Ends the calling process and runs nothing on the way.
pub(super) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes a number; it does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [code]) };
    }
}

/// A new descriptor for what `number` is one for, beyond the standard streams.
///
/// # Errors
///
/// `EBADF` or `EMFILE`.
pub(crate) fn duplicate(number: c_int) -> Result<OwnedFd, c_int> {
    let command = libc::F_DUPFD_CLOEXEC.unsigned_abs() as usize;
    let number = usize::try_from(number).map_err(|_| libc::EBADF)?;
    // SAFETY: takes numbers only, and changes nothing about the descriptor that is duplicated.
    let fd = unsafe { call(libc::SYS_fcntl, [number, command, 3]) }?;
    let fd = c_int::try_from(fd).map_err(|_| libc::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
