//! The sandbox for the calling process itself: everything is built and checked first, then the
//! two irreversible calls are made.

use std::io;

use seccompiler::{BpfProgram, apply_filter, apply_filter_all_threads};

use crate::capability::CapabilitySet;
use crate::enforcement::{Enforcement, Support};
use crate::error::{Error, Step};
use crate::landlock::{Landlock, restrict};
use crate::privilege::KEPT;
use crate::{filter, sys};

/// Restricts the calling process to `caps`, for ever: neither it nor any process it starts later
/// gets anything back, and a second call can only take more away.
///
/// Descriptors that are open already stay usable, and so do memory maps and established
/// connections. A kernel allows 16 Landlock layers per process. Root's capabilities are given up
/// in the calling thread only, so call this as root before there are others.
///
/// # Errors
///
/// [`Error::OtherThreads`] if other threads run and the kernel cannot restrict them too (before
/// Landlock ABI 8), [`Error::Unsupported`], and the errors of building the rules; nothing has been
/// applied then. [`Error::Apply`] names the step that failed; those before it, in the order of
/// [`Step`], are in force already.
pub fn apply(caps: &CapabilitySet) -> Result<Enforcement, Error> {
    let landlock = Landlock::detect()?;
    let ruleset = landlock.ruleset(caps)?;
    let filter = filter::filter(caps)?;
    let others = other_threads()?;
    if others > 0 && !landlock.restricts_threads() {
        return Err(Error::OtherThreads { count: others });
    }
    let failure = |step| move |source| Error::Apply { step, source };
    sys::keep_capabilities(KEPT)
        .map_err(|errno| io::Error::from_raw_os_error(errno).into())
        .map_err(failure(Step::Capabilities))?;
    restrict(ruleset, others > 0).map_err(Into::into).map_err(failure(Step::Landlock))?;
    install(&filter, others > 0).map_err(Into::into).map_err(failure(Step::Filter))?;
    Ok(report(landlock, caps))
}

/// Whether [`apply`] and [`Command::run`](crate::Command::run) can work on this machine.
pub fn support() -> Support {
    let (is_supported, details) = match Landlock::detect() {
        Ok(landlock) => (true, describe(landlock)),
        Err(error) => (false, error.to_string()),
    };
    Support { is_supported, platform: std::env::consts::OS, details }
}

/// What a sandbox of `caps` enforces on this kernel.
pub(crate) fn report(landlock: Landlock, caps: &CapabilitySet) -> Enforcement {
    Enforcement {
        landlock_abi: landlock.abi(),
        network: caps.network(),
        missing: landlock.missing().collect(),
    }
}

fn describe(landlock: Landlock) -> String {
    let mut details = format!("Landlock available (ABI {}): files", landlock.abi());
    for feature in landlock.features() {
        details.push_str(", ");
        details.push_str(feature);
    }
    details
}

fn install(filter: &BpfProgram, all_threads: bool) -> seccompiler::Result<()> {
    if all_threads { apply_filter_all_threads(filter) } else { apply_filter(filter) }
}

/// How many threads the process has besides the calling one.
///
/// In a process that is sandboxed already `/proc` may be out of reach. The kernel can still be
/// asked whether the calling thread is alone, which is the case that matters.
fn other_threads() -> Result<usize, Error> {
    let counted = std::fs::read_dir("/proc/self/task")
        .and_then(|tasks| tasks.map(|task| task.map(drop)).collect::<io::Result<Vec<()>>>());
    match counted {
        Ok(tasks) => Ok(tasks.len().saturating_sub(1)),
        Err(_) if sys::is_only_thread() => Ok(0),
        Err(source) => Err(Error::CountThreads { source }),
    }
}
