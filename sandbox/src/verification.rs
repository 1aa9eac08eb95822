//! What a child in a sandbox has found out of it; `verify.rs` has it try.

use std::fmt::{self, Display, Formatter};
use std::io;

use crate::enforcement::Enforcement;

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What was tried, in words.
    pub what: String,
    /// Whether the kernel refused it, in the way in which it refuses what is not allowed.
    pub is_denied: bool,
    /// The error number of the attempt; none if it succeeded or was not made.
    pub errno: Option<i32>,
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let said = if self.is_denied { "denied" } else { "NOT DENIED" };
        match self.errno {
            Some(errno) => {
                write!(f, "{}: {said} ({})", self.what, io::Error::from_raw_os_error(errno))
            }
            None => write!(f, "{}: {said}", self.what),
        }
    }
}

/// What a sandbox denies, as a child in it has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Every attempt, in the order in which they were made.
    pub checks: Vec<Check>,
    /// What was in force.
    pub enforcement: Enforcement,
}

impl Verification {
    /// Whether everything was denied that was tried.
    pub fn is_passed(&self) -> bool {
        !self.checks.is_empty() && self.failures().next().is_none()
    }

    /// What was not denied.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.is_denied)
    }
}
