//! What can go wrong with a credential. Messages name where it is kept, never what it is; what a
//! program has said that failed, which may hold that, is apart.

use std::time::Duration;

use crate::Locator;
use crate::source::Fault;

/// A credential reference, format or pattern that cannot be used; a mistake in configuration.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ParseError {
    /// The text does not have the form it should have.
    #[error("{0}")]
    Invalid(String),
    /// A key stands where the name of its place should.
    #[error(
        "it looks like a key itself; keep the key in the keyring, a variable or a file, and \
         name that place here"
    )]
    Secret,
    /// The form is known but this version cannot serve it.
    #[error("{0}")]
    Unsupported(String),
}

/// A credential that could not be had when it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The place exists or could exist, but holds no secret.
    #[error("no credential at `{locator}`")]
    NotFound {
        /// Where it was looked for.
        locator: Locator,
        /// What to do about it.
        hint: String,
    },
    /// The place could not be asked, or refused.
    #[error("credential at `{locator}` is not available: {reason}")]
    Unavailable {
        /// Where it was looked for.
        locator: Locator,
        /// What went wrong, and where it is known, what to do.
        reason: String,
    },
    /// The place was asked, and failed.
    #[error("credential at `{locator}` is not available: {how}")]
    Failed {
        /// Where it was looked for.
        locator: Locator,
        /// How it failed.
        how: String,
        /// What it said: for those alone who may see secrets.
        said: String,
    },
    /// The place did not answer in time.
    #[error("credential at `{locator}` did not arrive within {} s", limit.as_secs_f64())]
    TimedOut {
        /// Where it was looked for.
        locator: Locator,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The secret holds bytes that may not stand where it should go.
    #[error("credential at `{locator}` cannot be sent: {reason}")]
    Unusable {
        /// Where it was found.
        locator: Locator,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// What was fetched last is no longer valid, and there is nothing newer yet.
    #[error("credential at `{locator}` has expired")]
    Expired {
        /// Where it came from.
        locator: Locator,
    },
}

impl Error {
    /// The error for a source at `locator` that was given `limit`.
    pub(crate) fn new(locator: &Locator, fault: Fault, limit: Duration) -> Self {
        let locator = locator.clone();
        match fault {
            Fault::Missing(hint) => Self::NotFound { locator, hint },
            Fault::Unavailable(reason) => Self::Unavailable { locator, reason },
            Fault::Failed { how, said } => Self::Failed { locator, how, said },
            Fault::TimedOut => Self::TimedOut { locator, limit },
        }
    }

    /// A stable word for the kind of failure: `credential_not_found` or
    /// `credential_unavailable`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "credential_not_found",
            Self::Unavailable { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Unusable { .. }
            | Self::Expired { .. } => "credential_unavailable",
        }
    }

    /// What is known of it, for who has configured the credential. Clients get its `Display` alone.
    pub fn in_full(&self) -> String {
        match self {
            Self::Failed { said, .. } => format!("{self} and said: {said}"),
            _ => self.to_string(),
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotFound { hint, .. } => Some(hint),
            _ => None,
        }
    }
}
