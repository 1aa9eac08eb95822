//! The outer Landlock layer of a shim, within which its `kill(-1)` stays.
//!
//! `kill(-1)` signals every process that the caller may signal, in one call that no `fork` gets
//! past. Without a scope around it these are all processes of the user. So a shim may make that
//! call only if the kernel has just shown, to this very process, that the scope holds: it could
//! signal the process outside that started it, and after entering the scope it no longer can.

use std::ffi::{CStr, c_int};
use std::ptr;

use super::raw::call;

/// The kernel's `struct landlock_ruleset_attr` in its third version.
#[repr(C)]
struct RulesetAttribute {
    handled_files: u64,
    handled_network: u64,
    scoped: u64,
}

/// `LANDLOCK_SCOPE_SIGNAL` of `linux/landlock.h`.
const SIGNALS: u64 = 1 << 1;
/// `LANDLOCK_ACCESS_FS_REFER`. Every layer refuses to move files between directories unless it
/// grants that, also one that judges no files otherwise.
const REFER: u64 = 1 << 13;

/// Puts the calling process into a Landlock layer that judges signals and nothing else, and tells
/// whether it now verifiably cannot signal `outsider` (a pidfd), as it could before.
///
/// Any doubt is an answer of "no". The layer is for ever; "no new privileges" must be set.
///
/// # Errors
///
/// Those of `landlock_create_ruleset` and `landlock_restrict_self`: `E2BIG` in the 16th layer.
pub(super) fn enter_signal_scope(outsider: c_int) -> Result<bool, c_int> {
    let reached = probe(outsider);
    let attribute = RulesetAttribute { handled_files: REFER, handled_network: 0, scoped: SIGNALS };
    let size = size_of::<RulesetAttribute>();
    let pointer = ptr::from_ref(&attribute) as usize;
    // SAFETY: `attribute` has the layout and the size given, and lives through the call.
    let ruleset = unsafe { call(libc::SYS_landlock_create_ruleset, [pointer, size, 0]) }?;
    let granted = grant(ruleset, c"/", REFER);
    // SAFETY: takes numbers only.
    let entered = unsafe { call(libc::SYS_landlock_restrict_self, [ruleset, 0]) };
    // SAFETY: closes what was made above, which nobody else knows.
    let _ = unsafe { call(libc::SYS_close, [ruleset]) };
    granted.and(entered)?;
    Ok(reached.is_ok() && probe(outsider) == Err(libc::EPERM))
}

/// The kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    rights: u64,
    parent: c_int,
}

/// Adds a rule for what is beneath `path` to a ruleset.
///
/// # Errors
///
/// Those of `openat` and `landlock_add_rule`.
pub(super) fn grant(ruleset: usize, path: &CStr, rights: u64) -> Result<(), c_int> {
    // `LANDLOCK_RULE_PATH_BENEATH` of `linux/landlock.h`.
    const PATH_BENEATH: usize = 1;
    let flags = (libc::O_PATH | libc::O_CLOEXEC).unsigned_abs() as usize;
    let here = libc::AT_FDCWD.cast_unsigned() as usize;
    // SAFETY: the path is a C string that lives through the call.
    let parent = unsafe { call(libc::SYS_openat, [here, path.as_ptr() as usize, flags]) }?;
    let attribute =
        PathBeneath { rights, parent: c_int::try_from(parent).map_err(|_| libc::EBADF)? };
    let pointer = ptr::from_ref(&attribute) as usize;
    // SAFETY: `attribute` points to a rule that lives through the call.
    let added = unsafe { call(libc::SYS_landlock_add_rule, [ruleset, PATH_BENEATH, pointer, 0]) };
    // SAFETY: closes what was opened above, which nobody else knows.
    let _ = unsafe { call(libc::SYS_close, [parent]) };
    added.map(drop)
}

/// Asks whether a signal could be sent, and sends none.
fn probe(pidfd: c_int) -> Result<(), c_int> {
    let arguments = [pidfd.unsigned_abs() as usize, 0, 0, 0];
    // SAFETY: takes numbers and a null pointer.
    unsafe { call(libc::SYS_pidfd_send_signal, arguments) }.map(drop)
}
