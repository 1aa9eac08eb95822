//! The ways into a sandbox where there is none: they say so and do nothing.

use crate::capability::CapabilitySet;
use crate::enforcement::{Enforcement, Support};
use crate::error::{Error, Feature};
use crate::exec::{Command, Output};

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
        (true, "Seatbelt sandbox available".to_owned())
    } else {
        (false, Feature::Platform.to_string())
    };
    Support { is_supported, platform: std::env::consts::OS, details }
}

/// Checks the command's environment and then says that it cannot be run here.
pub(crate) fn run(command: &Command, _: &CapabilitySet) -> Result<Output, Error> {
    let environment = command.environment()?;
    let _ = crate::exec::search_path(&environment.variables);
    Err(Error::Unsupported { feature: Feature::Platform })
}
