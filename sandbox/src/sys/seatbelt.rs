//! The one call that holds a process on macOS, and all the unsafe code there.

#![expect(unsafe_code, reason = "a system call that no safe interface exists for")]

#[cfg(feature = "tokio")]
mod reactor;

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

#[cfg(feature = "tokio")]
pub(crate) use reactor::watch;

unsafe extern "C" {
    fn sandbox_init(profile: *const c_char, flags: u64, error: *mut *mut c_char) -> c_int;
    fn sandbox_free_error(error: *mut c_char);
}

/// Holds the process, all its threads included, to a profile.
///
/// # Errors
///
/// What the system says of the profile.
pub(crate) fn hold(profile: &CString) -> Result<(), String> {
    let mut error: *mut c_char = ptr::null_mut();
    // SAFETY: `profile` is a C string and `error` a place for one; both live through the call.
    // No flag is set: the profile is the text itself and not the name of one.
    let status = unsafe { sandbox_init(profile.as_ptr(), 0, ptr::from_mut(&mut error)) };
    if status == 0 {
        return Ok(());
    }
    if error.is_null() {
        return Err("no reason given".to_owned());
    }
    // SAFETY: the call has failed and left a C string there.
    let reason = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: the string is the system's, and nobody uses it any more.
    unsafe { sandbox_free_error(error) };
    Err(reason)
}
