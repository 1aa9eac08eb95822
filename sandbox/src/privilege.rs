//! Which of root's capabilities a sandboxed process keeps. One that is no root has none anyway.
//!
//! Landlock judges files, and most of what root may do beyond them goes around it: loading a
//! kernel module from memory is enough to leave any sandbox.

/// What root needs to handle files of several owners, to run programs as them, to end those, and
/// to serve at a low port. None of these reads or writes a file that Landlock refuses.
pub(crate) const KEPT: u64 =
    CHOWN | DAC_OVERRIDE | FOWNER | FSETID | KILL | SETGID | SETUID | NET_BIND_SERVICE | SETFCAP;

/// What a supervisor of root's keeps besides, to look into processes that have become another
/// user's.
pub(crate) const SUPERVISING: u64 = KEPT | SYS_PTRACE;

// By their numbers in `linux/capability.h`.
const CHOWN: u64 = 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_PTRACE: u64 = 1 << 19;
const SETFCAP: u64 = 1 << 31;
