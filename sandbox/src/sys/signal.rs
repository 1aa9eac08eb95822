//! Signals, by system calls: the library's functions keep two signals of its own out of sight.

use std::ffi::c_int;
use std::ptr;

use super::raw::call;

/// Signals of the kernel, real-time ones included.
const SIGNALS: usize = 64;
/// The kernel's signal set: one bit per signal. `libc`'s is larger and hides two signals.
pub(super) type SignalSet = u64;
/// The kernel's `struct sigaction` of all zeroes: default action, no flags, empty mask. Four words
/// on every 64-bit platform.
const DEFAULT_ACTION: [u64; 4] = [0; 4];

/// Sets every signal to its default action, ignored ones too: a program expects to be ended by
/// `SIGPIPE`, which Rust and Python ignore.
pub(super) fn reset_signal_actions() {
    let action = ptr::from_ref(&DEFAULT_ACTION) as usize;
    for signal in 1..=SIGNALS {
        let arguments = [signal, action, 0, size_of::<SignalSet>()];
        // SAFETY: `action` points to a kernel signal action; the old one is not asked for. The
        // child's table of actions is its own copy. `SIGKILL` and `SIGSTOP` fail, as they should.
        let _ = unsafe { call(libc::SYS_rt_sigaction, arguments) };
    }
}

/// Sets the calling thread's mask and gives the old one.
///
/// By the system call: the library's function keeps two signals of its own from being blocked,
/// whose handlers must not run in the child either.
pub(super) fn set_signal_mask(mask: SignalSet) -> Result<SignalSet, c_int> {
    let mut old: SignalSet = 0;
    let (new, before) = (ptr::from_ref(&mask) as usize, ptr::from_mut(&mut old) as usize);
    let arguments = [libc::SIG_SETMASK as usize, new, before, size_of::<SignalSet>()];
    // SAFETY: both point to signal sets of the size given, which live through the call.
    unsafe { call(libc::SYS_rt_sigprocmask, arguments) }?;
    Ok(old)
}
