//! Fetches secrets from where they are kept.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Error, Locator, Secret, env, file, keyring};

/// How long one fetch may take: long enough to answer a keyring's prompt, short enough that a
/// start is not held up by a daemon that hangs.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// Why a place gave no secret; the place itself is known to whoever asked.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It holds none; with what to do about that.
    Missing(String),
    /// It could not be asked, or refused.
    Unavailable(String),
}

impl Fault {
    fn at(self, locator: &Locator) -> Error {
        let locator = locator.clone();
        match self {
            Self::Missing(hint) => Error::NotFound { locator, hint },
            Self::Unavailable(reason) => Error::Unavailable { locator, reason },
        }
    }
}

/// Fetches the secret at `locator`, with every byte that belongs to it and none that does not.
pub(crate) async fn fetch(locator: &Locator) -> Result<Secret, Error> {
    match locator.clone() {
        Locator::Env(name) => env::read(&name).map_err(|fault| fault.at(locator)),
        Locator::File(path) => off_thread(locator, move || file::read(&path)).await,
        Locator::Keyring { service, account } => {
            off_thread(locator, move || keyring::read(&service, &account)).await
        }
    }
}

/// Runs a blocking `read` on a thread of its own, for at most [`FETCH_LIMIT`].
///
/// Not on the runtime's blocking pool: a runtime waits for that pool when it ends, and a
/// keyring that hangs would hang it too. A thread past its limit is left behind; what it
/// fetches then is dropped, and so overwritten.
async fn off_thread(
    locator: &Locator,
    read: impl FnOnce() -> Result<Secret, Fault> + Send + 'static,
) -> Result<Secret, Error> {
    let (reply, answer) = oneshot::channel();
    let unavailable = |reason| Fault::Unavailable(reason).at(locator);
    std::thread::Builder::new()
        .name("nono-credential".into())
        .spawn(move || reply.send(read()))
        .map_err(|error| unavailable(format!("could not start a thread: {error}")))?;
    match timeout(FETCH_LIMIT, answer).await {
        Ok(Ok(fetched)) => fetched.map_err(|fault| fault.at(locator)),
        Ok(Err(_)) => Err(unavailable("its source failed".into())),
        Err(_) => Err(Error::TimedOut { locator: locator.clone(), limit: FETCH_LIMIT }),
    }
}
