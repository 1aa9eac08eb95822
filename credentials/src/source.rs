//! The places where secrets are kept, one file each, behind one trait.

mod bitwarden;
mod command;
mod env;
mod file;
mod json;
pub(crate) mod keyring;
pub(crate) mod oauth2;
mod onepassword;
mod process;
pub(crate) mod provided;
pub(crate) mod vault;
mod web;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Locator, Secret, TlsFault};

/// A secret as its source gave it.
pub struct Fetched {
    /// The secret, with every byte that belongs to it and none that does not.
    pub secret: Secret,
    /// When it stops being valid, where the source says so.
    pub expires: Option<Instant>,
}

impl From<Secret> for Fetched {
    /// A secret that stays valid.
    fn from(secret: Secret) -> Self {
        Self { secret, expires: None }
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why a source gave no secret. Which source it is, is known to whoever asked.
#[derive(Debug)]
pub enum Fault {
    /// It holds none; with what to do about that.
    Missing(String),
    /// It could not be asked, or refused; with the reason and, where it is known, what to do.
    Unavailable(String),
    /// It failed, and said something that may hold secrets.
    Failed {
        /// How it failed.
        how: String,
        /// What it said.
        said: String,
    },
    /// It did not answer in time.
    TimedOut,
}

impl Fault {
    /// The fault of a source that cannot be asked for want of the secret at `needed`.
    fn of(self, needed: &Locator) -> Self {
        let needs = |what: String| format!("it needs `{needed}`: {what}");
        match self {
            Self::Missing(hint) => Self::Missing(needs(hint)),
            Self::Unavailable(reason) => Self::Unavailable(needs(reason)),
            Self::Failed { how, said } => Self::Failed { how: needs(how), said },
            Self::TimedOut => Self::TimedOut,
        }
    }
}

/// What a source answers with.
pub(crate) type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, Fault>> + Send + 'a>>;

/// A place that is asked for its secret, over and over. It blocks no thread of a runtime.
pub(crate) trait Source: Send + Sync {
    /// Asks for the secret, within the time that `inquiry` has.
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a>;

    /// The file whose change is a change of the secret.
    fn file(&self) -> Option<&Path> {
        None
    }
}

/// The source at `locator`.
pub(crate) fn open(locator: &Locator) -> Box<dyn Source> {
    match locator.clone() {
        Locator::Env(name) => Box::new(env::Variable(name)),
        Locator::File(path) => Box::new(file::KeyFile(path)),
        Locator::Keyring { service, account, is_encoded } => {
            Box::new(keyring::Place { service, account, is_encoded })
        }
        Locator::OnePassword(reference) => Box::new(onepassword::Field(reference)),
        Locator::Bitwarden { item, field } => Box::new(bitwarden::Item { item, field }),
        Locator::Command { argv, .. } => Box::new(command::Program(argv)),
        Locator::Vault(field) => field,
        Locator::OAuth2(grant) => Box::new(oauth2::Issuer::new(*grant)),
        Locator::Provided(provided) => Box::new(provided),
    }
}

/// How a source may be asked: for how long, and one thread at a time.
#[derive(Debug, Clone)]
pub(crate) struct Inquiry {
    limit: Duration,
    /// Whether a thread that was left behind still waits for an answer.
    is_waiting: Arc<AtomicBool>,
}

impl Inquiry {
    /// Inquiries that take at most `limit` each.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, is_waiting: Arc::default() }
    }

    /// How long one may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs a blocking `read` on a thread of its own.
    ///
    /// Not on the runtime's blocking pool: a runtime waits for that pool when it ends, and a
    /// keyring that hangs would hang it too. A thread past its limit is left behind; what it
    /// fetches then is dropped, and so overwritten. Until it ends there is no other: neither
    /// threads nor prompts pile up.
    async fn off_thread<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        if self.is_waiting.swap(true, Ordering::AcqRel) {
            let reason = "it has not answered since it was asked before; it may wait for its user";
            return Err(Fault::Unavailable(reason.into()));
        }
        let waiting = Waiting(Arc::clone(&self.is_waiting));
        let (reply, answer) = oneshot::channel();
        let ask = move || {
            let fetched = read();
            drop(waiting);
            reply.send(fetched)
        };
        std::thread::Builder::new()
            .name("nono-credential".into())
            .spawn(ask)
            .map_err(|error| Fault::Unavailable(format!("could not start a thread: {error}")))?;
        match timeout(self.limit, answer).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_)) => Err(Fault::Unavailable("its source failed".into())),
            Err(_) => Err(Fault::TimedOut),
        }
    }
}

/// Says that a thread has ended, also when it panicked.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The last of what caused an error: the one that says something.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    TlsFault::of(cause).map_or_else(|| cause.to_string(), |fault| fault.reason.into_owned())
}
