//! The report of what a sandbox enforces: returned by every way into one, so that "it worked" is
//! never all a caller knows.

use std::fmt::{self, Display, Formatter};

use crate::network::Network;

/// What the kernel enforces on a sandboxed process, and what it is too old to enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    pub(crate) landlock_abi: u32,
    pub(crate) network: Network,
    pub(crate) missing: Vec<&'static str>,
    pub(crate) domains: usize,
}

impl Enforcement {
    /// The version of Landlock in use.
    pub fn landlock_abi(&self) -> u32 {
        self.landlock_abi
    }

    /// The network limit in force: Landlock's ports together with the system call filter. It is
    /// what all calls of [`apply`](crate::apply()) in this process leave together, whatever the set
    /// says that this report is of; ports that were granted one by one, and the limits of a sandbox
    /// that the process was started in, are not in it.
    pub fn network(&self) -> Network {
        self.network
    }

    /// How many Landlock domains the process consists of: one, or one for each thread that was
    /// there when [`apply`](crate::apply()) was called (before ABI 8). Children of different
    /// domains cannot signal each other.
    pub fn domains(&self) -> usize {
        self.domains
    }

    /// Whether set-user-id programs and the like gain nothing. Always so in a sandbox.
    pub fn is_no_new_privileges(&self) -> bool {
        true
    }

    /// Whether a system call filter is installed. Always so in a sandbox.
    pub fn is_filtered(&self) -> bool {
        true
    }

    /// What a newer kernel would judge and this one lets pass, in words.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// Whether the kernel judges all that this crate knows to ask for.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Display for Enforcement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Landlock ABI {}, system call filter, no new privileges, network {}",
            self.landlock_abi, self.network
        )?;
        if self.domains > 1 {
            write!(f, "; {} threads, each in a domain of its own", self.domains)?;
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        write!(f, "; not judged by this kernel: {}", self.missing.join(", "))
    }
}

/// Whether this machine can sandbox, for people and for a check at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Whether [`apply`](crate::apply()) and [`Command::run`](crate::Command::run) can work at all.
    pub is_supported: bool,
    /// The operating system, as Rust names it.
    pub platform: &'static str,
    /// What there is or what is missing, in one line.
    pub details: String,
}
