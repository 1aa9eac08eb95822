//! The ways into a sandbox where there is none: they say so and do nothing.

use crate::capability::CapabilitySet;
use crate::enforcement::{Enforcement, Support};
use crate::error::{Error, Feature};
use crate::exec::{Command, Output};

/// Restricts the calling process; not on this platform.
///
/// # Errors
///
/// Always [`Error::Unsupported`].
pub fn apply(_: &CapabilitySet) -> Result<Enforcement, Error> {
    Err(Error::Unsupported { feature: Feature::Platform })
}

/// Whether sandboxing works on this machine: it does not.
pub fn support() -> Support {
    let details = Feature::Platform.to_string();
    Support { is_supported: false, platform: std::env::consts::OS, details }
}

/// Checks the command's environment and then says that it cannot be run here.
pub(crate) fn run(command: &Command, _: &CapabilitySet) -> Result<Output, Error> {
    let environment = command.environment()?;
    let _ = crate::exec::search_path(&environment.variables);
    Err(Error::Unsupported { feature: Feature::Platform })
}
