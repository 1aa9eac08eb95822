//! The only unsafe code of the crate, by concern: the system calls that no library makes, or makes
//! in the way it must be done here. Each is a function of its own whose interface is safe.

#![expect(unsafe_code, reason = "system calls that no safe interface exists for")]

mod apart;
mod child;
mod deputy;
mod notify;
mod probe;
mod process;
mod raw;
#[cfg(feature = "tokio")]
mod reactor;
mod round;
mod scope;
mod shim;
mod signal;
mod stack;
mod table;
mod tree;

use std::ffi::c_int;
use std::io;

#[cfg(test)]
pub(crate) use apart::loaded;
pub(crate) use apart::{Copied, Pages};
pub(crate) use child::{Descriptors, Ids, OwnRule, Plan, ResourceLimit, Watch};
pub(crate) use deputy::{Deputy, turn_away};
pub(crate) use notify::{
    Answer, Notification, Reach, answer, can_listen, is_waiting, listen, read_memory, receive,
    replace,
};
pub(crate) use probe::{Attempt, Probe};
pub(crate) use process::{
    become_user, duplicate, has_capabilities_beside, has_capability, is_only_thread,
    keep_capabilities, landlock_abi, monotonic, no_new_privileges, raise_file_limit,
};
use raw::call;
pub(crate) use raw::can_begin_in_group;
#[cfg(feature = "tokio")]
pub(crate) use reactor::watch;
pub(crate) use round::{MOST, Restriction, Round, Turn};
pub(crate) use shim::Cause;
pub(crate) use table::own_table;
pub(crate) use tree::{Begun, Ended, Failure, Report, Tree};

/// The calling thread's `errno`, as the library's functions leave it. Neither allocates nor locks.
fn last_errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests;
