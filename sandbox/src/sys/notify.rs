//! The listening side of a system call filter: calls that a filtered thread waits in, and the
//! answers to them (`seccomp_unotify(2)`).

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use libc::{seccomp_data, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};

use seccompiler::sock_filter;

use super::child::install;
use super::process::no_new_privileges;
use super::raw::call;

/// Whether a child could have a listening side: a surrounding sandbox that has one lets no other
/// be made within it. To be asked on a thread that ends afterwards, and that has no new
/// privileges to gain.
pub(crate) fn can_listen() -> bool {
    let allow = libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: ptr::from_ref(&allow).cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    let flags = usize::try_from(flags).unwrap_or(0);
    let arguments = [mode as usize, flags, ptr::from_ref(&program) as usize];
    if no_new_privileges().is_err() {
        return false;
    }
    // SAFETY: `program` points to one instruction, which lets every call pass.
    let Ok(listener) = (unsafe { call(libc::SYS_seccomp, arguments) }) else { return false };
    // SAFETY: closes what was made above, which nobody else knows.
    let _ = unsafe { call(libc::SYS_close, [listener]) };
    true
}

/// Lets calls of the calling thread wait by this filter, or those of all threads, and gives where
/// they wait.
///
/// # Errors
///
/// `EBUSY` in a sandbox that has such a place, `ESRCH` if a thread has a filter of its own.
pub(crate) fn listen(filter: &[sock_filter], reach: Reach) -> Result<OwnedFd, c_int> {
    // A signal must not take a call back that the supervisor is making already.
    let own = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let all = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    let flags = if reach == Reach::AllThreads { own | all } else { own };
    let listener = c_int::try_from(install(filter, flags)?).map_err(|_| libc::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// Whose calls a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The calling thread's.
    ThisThread,
    /// Those of all threads of the process.
    AllThreads,
}

/// A system call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    /// The kernel's number for this waiting.
    pub id: u64,
    /// The thread that waits.
    pub thread: i32,
    /// The call's number.
    pub number: c_long,
    /// Its arguments. Whatever memory they point to may change at any time.
    pub arguments: [u64; 6],
}

/// Takes the next call that waits.
///
/// # Errors
///
/// `ENOENT` if it has just been given up, `ENOTCONN` if nobody is left to make one.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let data = seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    let mut told = seccomp_notif { id: 0, pid: 0, flags: 0, data };
    control(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, ptr::from_mut(&mut told) as usize)?;
    let seccomp_notif { id, pid, data, .. } = told;
    Ok(Notification {
        id,
        thread: i32::try_from(pid).map_err(io::Error::other)?,
        number: data.nr.into(),
        arguments: data.args,
    })
}

/// Whether the call still waits. If it does, its thread's number and descriptors are still those
/// of the call.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    let pointer = ptr::from_ref(&id) as usize;
    control(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, pointer).is_ok()
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It returns zero.
    Done,
    /// It fails with this error number.
    Fail(c_int),
    /// The kernel goes on with it, on whatever its arguments point to then.
    Continue,
}

/// Answers a call.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) {
    let (error, flags) = match answer {
        Answer::Done => (0, 0),
        Answer::Fail(errno) => (-errno, 0),
        // One of the lowest bits.
        Answer::Continue => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(0)),
    };
    let mut response = seccomp_notif_resp { id, val: 0, error, flags };
    // Fails only when nobody waits any more: the thread has been killed.
    let _ =
        control(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, ptr::from_mut(&mut response) as usize);
}

/// Puts `fd` in the place of descriptor `number` of the process that waits.
///
/// # Errors
///
/// `ENOENT` if nobody waits any more.
pub(crate) fn replace(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: u32,
    close_on_exec: bool,
) -> io::Result<()> {
    let flags = u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).unwrap_or(0);
    let newfd_flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
    let srcfd = fd.as_raw_fd().unsigned_abs();
    let request = seccomp_notif_addfd { id, flags, srcfd, newfd: number, newfd_flags };
    control(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, ptr::from_ref(&request) as usize)
}

/// Makes a request of the listening side. All of them wait for its lock, which a signal interrupts
/// before anything is done: then it is made again, as an answer that is not given leaves its thread
/// waiting.
fn control(listener: BorrowedFd<'_>, request: libc::Ioctl, pointer: usize) -> io::Result<()> {
    let fd = listener.as_raw_fd().unsigned_abs() as usize;
    #[expect(clippy::cast_possible_truncation, reason = "requests have 32 bits")]
    let arguments = [fd, request as usize, pointer];
    loop {
        // SAFETY: each caller passes the structure that its request is for, which lives through the
        // call and has the size that the request's number says.
        match unsafe { call(libc::SYS_ioctl, arguments) } {
            Ok(_) => return Ok(()),
            Err(libc::EINTR) => {}
            Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Copies memory of another thread's process, as much of it as there is.
///
/// # Errors
///
/// `EFAULT` if there is none at that address, `EPERM` if it may not be read.
pub(crate) fn read_memory(thread: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // An address that does not fit is none.
    let address = usize::try_from(address).unwrap_or(0);
    let remote =
        libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: into.len() };
    let thread = thread.unsigned_abs() as usize;
    let vectors = [ptr::from_ref(&local) as usize, 1, ptr::from_ref(&remote) as usize, 1];
    let [local, one, remote, other] = vectors;
    let arguments = [thread, local, one, remote, other, 0];
    // SAFETY: `local` describes `into`, which is ours alone; the other address is only used in
    // the other process, by a kernel that checks it.
    unsafe { call(libc::SYS_process_vm_readv, arguments) }.map_err(io::Error::from_raw_os_error)
}
