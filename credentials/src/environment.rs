//! The environment of this process, which is read while nobody changes it.
//!
//! The C library lets no thread read the environment while another changes it (setenv(3)): the
//! standard library of Rust has a lock for that, of which other languages know nothing. A program
//! that is embedded in one of them says how its changes are held up.
//!
//! Not held up is what the library of the keyring reads, to find the session's bus: it does so while
//! it waits for that bus, and a program that waited with it would wait for ever on one that hangs.

use std::sync::OnceLock;

use crate::Fault;

/// Runs what it is given while nobody changes the environment; `false` when that cannot be.
pub type HoldStill = fn(&mut dyn FnMut()) -> bool;

static HOLD_STILL: OnceLock<HoldStill> = OnceLock::new();

/// Sets how changes of the environment are held up while credentials are fetched from it, or by
/// programs that inherit it. The first call counts. Without one, only what changes it from Rust
/// is, by the standard library.
pub fn hold_environment_by(hold_still: HoldStill) {
    let _ = HOLD_STILL.set(hold_still);
}

/// Runs `read` while nobody changes the environment. Blocks while somebody does.
pub(crate) fn with_environment<T>(read: impl FnOnce() -> T) -> Result<T, Fault> {
    let Some(hold_still) = HOLD_STILL.get() else { return Ok(read()) };
    let (mut read, mut result) = (Some(read), None);
    let is_done = hold_still(&mut || result = read.take().map(|read| read()));
    let gone = || Fault::Unavailable("the interpreter is ending".into());
    result.filter(|_| is_done).ok_or_else(gone)
}
