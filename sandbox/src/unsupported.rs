//! The ways into a sandbox where there is none: they say so and do nothing. What they would hand
//! over has a type here, of which there is no value.

use std::convert::Infallible;
use std::io;
use std::iter::Empty;
#[cfg(unix)]
use std::os::fd::BorrowedFd as Borrowed;
#[cfg(windows)]
use std::os::windows::io::BorrowedHandle as Borrowed;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::CapabilitySet;
use crate::enforcement::{Enforcement, Support};
use crate::error::{Error, Feature};
use crate::exec::{Command, Output};
use crate::stdio::{Handle, Stdio, WindowSize};
use crate::verification::Verification;

/// Restricts the calling process to `caps`, for ever; with all its threads.
///
/// # Errors
///
/// [`Error::Unsupported`] but on macOS; there, for what the profile cannot say, and
/// [`Error::Apply`] with what the system says of the profile.
pub fn apply(caps: &CapabilitySet) -> Result<Enforcement, Error> {
    #[cfg(target_os = "macos")]
    {
        let failure = |reason: String| Error::Apply {
            step: crate::error::Step::Filter,
            source: reason.into(),
        };
        let profile = std::ffi::CString::new(caps.seatbelt_profile()?)
            .map_err(|error| failure(error.to_string()))?;
        crate::sys::hold(&profile).map_err(failure)?;
        Ok(Enforcement {
            landlock_abi: 0,
            network: caps.network(),
            missing: vec!["the report is of what was asked, not of what was found"],
            domains: 1,
        })
    }
    #[cfg(not(target_os = "macos"))]
    {
        let _ = caps;
        Err(Error::Unsupported { feature: Feature::Platform })
    }
}

/// The version of Landlock; there is none here.
///
/// # Errors
///
/// Always [`Error::Unsupported`].
pub fn landlock_abi() -> Result<u32, Error> {
    Err(Error::Unsupported { feature: Feature::Landlock })
}

/// Whether sandboxing works on this machine: on macOS [`apply`] does.
pub fn support() -> Support {
    let (is_supported, details) = if cfg!(target_os = "macos") {
        (true, "Seatbelt sandbox available, by `apply` alone".to_owned())
    } else {
        (false, Feature::Platform.to_string())
    };
    Support { is_supported, platform: std::env::consts::OS, details }
}

/// Checks the command's environment and then says that it cannot be run here.
pub(crate) fn start(command: &Command, _: &CapabilitySet, _: bool) -> Result<Child, Error> {
    let environment = command.environment()?;
    let _ = crate::exec::search_path(&environment.variables);
    Err(Error::Unsupported { feature: PROGRAMS })
}

const PROGRAMS: Feature = Feature::OfLinux { what: "running a program in a sandbox" };

impl CapabilitySet {
    /// Says that no child can try the set out here.
    ///
    /// # Errors
    ///
    /// Always [`Error::Unsupported`].
    pub fn verify(&self) -> Result<Verification, Error> {
        Err(Error::Unsupported { feature: PROGRAMS })
    }
}

impl Stdio {
    /// Says that no program could have the descriptor.
    ///
    /// # Errors
    ///
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn duplicate(_: i32) -> io::Result<Self> {
        let error = Error::Unsupported { feature: PROGRAMS };
        Err(io::Error::new(io::ErrorKind::Unsupported, error))
    }
}

/// A running program whose output is collected; there is none here.
#[derive(Debug)]
pub struct Run {
    never: Infallible,
}

#[expect(clippy::missing_errors_doc, reason = "there is no value to call them on")]
impl Run {
    #[expect(clippy::needless_pass_by_value, reason = "the shape of where there are some")]
    pub(crate) fn new(child: Child, _: u64, _: Option<Arc<Handle>>) -> Self {
        match child.never {}
    }

    /// What becomes readable when there is something to do.
    pub fn fds(&self) -> Empty<Borrowed<'_>> {
        match self.never {}
    }

    /// How much longer the end may be waited for.
    pub fn patience(&self) -> Option<Duration> {
        match self.never {}
    }

    /// Kills the program.
    pub fn cancel(&mut self) {
        match self.never {}
    }

    /// Waits for something to do.
    pub fn advance(&mut self, _: Option<Duration>) -> Result<Option<Output>, Error> {
        match self.never {}
    }
}

/// A program that runs in a sandbox; there is none here.
#[derive(Debug)]
pub struct Child {
    /// Writes to the program's standard input.
    pub stdin: Option<Handle>,
    /// Reads the program's standard output.
    pub stdout: Option<Handle>,
    /// Reads the program's standard error.
    pub stderr: Option<Handle>,
    never: Infallible,
}

#[expect(clippy::missing_errors_doc, reason = "there is no value to call them on")]
impl Child {
    /// The program's process number.
    pub fn number(&self) -> i32 {
        match self.never {}
    }

    /// Becomes readable when the program has begun.
    pub fn begun_fd(&self) -> Option<Borrowed<'_>> {
        match self.never {}
    }

    /// Becomes readable when all has ended.
    pub fn ended_fd(&self) -> Option<Borrowed<'_>> {
        match self.never {}
    }

    /// How much longer the end may be waited for.
    pub fn patience(&self) -> Option<Duration> {
        match self.never {}
    }

    /// Whether the program has begun.
    pub fn try_begun(&mut self) -> Result<bool, Error> {
        match self.never {}
    }

    /// Waits until the program has begun.
    pub fn wait_begun(&mut self) -> Result<(), Error> {
        match self.never {}
    }

    /// Waits for the program.
    pub fn wait(&mut self) -> Result<Output, Error> {
        match self.never {}
    }

    /// Kills the program.
    pub fn kill(&mut self) {
        match self.never {}
    }

    /// Sends the program a signal.
    pub fn signal(&self, _: u8) {
        match self.never {}
    }

    /// Changes the size of the program's terminal.
    pub fn resize(&self, _: WindowSize) -> io::Result<()> {
        match self.never {}
    }
}
