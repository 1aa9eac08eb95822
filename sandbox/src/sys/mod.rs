//! The only unsafe code of the crate, by concern: the system calls that no library makes, or makes
//! in the way it must be done here. Each is a function of its own whose interface is safe.

#![expect(unsafe_code, reason = "system calls that no safe interface exists for")]

mod child;
mod process;
mod round;
mod signal;
mod stack;

use std::ffi::{c_int, c_long, c_ulong};
use std::io;

pub(crate) use child::{OwnRule, Plan, ResourceLimit, spawn};
pub(crate) use process::{has_capabilities_beside, is_only_thread, landlock_abi, status_of_reaped};
use process::{keep_capabilities, no_new_privileges};
pub(crate) use round::{MOST, Restriction, Round};

/// One system call.
///
/// # Safety
///
/// The arguments must be valid for the call, as its manual page demands.
unsafe fn call(number: c_long, arguments: [usize; 4]) -> Result<usize, c_int> {
    let [a, b, c, d] = arguments;
    // SAFETY: upheld by the caller. A fifth argument of zero is what `prctl` wants and what the
    // others ignore.
    let result = unsafe { libc::syscall(number, a, b, c, d, 0 as c_ulong) };
    usize::try_from(result).map_err(|_| last_errno())
}

/// The calling thread's `errno`. Neither allocates nor locks.
fn last_errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
