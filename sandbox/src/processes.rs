//! "May it touch other processes?", answered without trying it: of processes outside the sandbox,
//! whoever's they are. What is within goes on as without one.

use std::path::Path;

use crate::capability::{Access, FsCapability};
use crate::query::{PathAnswer, Query, Suggestion};

/// A process that is always there, and never in a sandbox.
const ANOTHER: &str = "/proc/1/status";
const PROCESSES: &str = "/proc";

/// What may be done to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessAction {
    /// To send it a signal: `kill`, `tgkill`, `pidfd_send_signal`.
    Signal,
    /// To trace it, to read and write its memory, and to take its descriptors: `ptrace`,
    /// `process_vm_readv`, `pidfd_getfd`.
    Trace,
    /// To set its priority, processors and limits: `setpriority`, `sched_setaffinity`, `prlimit`.
    Change,
    /// To read its name, arguments and state in `/proc`.
    See,
}

/// What a set says of other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessAnswer {
    /// They are kept from it by every sandbox; there is no grant.
    Outside,
    /// This kernel does not judge it (signals before Landlock ABI 6).
    NotJudged,
    /// It is allowed, by these grants.
    Granted(Vec<FsCapability>),
    /// Nothing grants it.
    NotGranted,
    /// It would be granted, but a sandbox of this set is refused, for this reason.
    Refused(String),
}

impl ProcessAnswer {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::NotJudged | Self::Granted(_))
    }
}

impl Query {
    /// Whether this may be done to processes outside the sandbox, as far as the user may.
    pub fn process(&self, action: ProcessAction) -> ProcessAnswer {
        match action {
            ProcessAction::Signal if !scopes_signals() => ProcessAnswer::NotJudged,
            ProcessAction::Signal | ProcessAction::Trace | ProcessAction::Change => {
                ProcessAnswer::Outside
            }
            ProcessAction::See => match self.path(Path::new(ANOTHER), Access::Read) {
                PathAnswer::Allowed(by) => ProcessAnswer::Granted(by),
                PathAnswer::Refused(reason) => ProcessAnswer::Refused(reason),
                _ => ProcessAnswer::NotGranted,
            },
        }
    }

    /// The smallest grant that would allow it; none if it is allowed or cannot be.
    pub fn suggest_process(&self, action: ProcessAction) -> Option<Suggestion> {
        let is_wanting = self.process(action) == ProcessAnswer::NotGranted;
        is_wanting.then(|| Suggestion::Directory(PROCESSES.into(), Access::Read))
    }
}

#[cfg(target_os = "linux")]
fn scopes_signals() -> bool {
    // Where there is no Landlock there is no sandbox either.
    crate::landlock::Landlock::detect().is_ok_and(crate::landlock::Landlock::scopes_signals)
}

#[cfg(not(target_os = "linux"))]
fn scopes_signals() -> bool {
    true
}
