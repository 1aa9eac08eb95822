//! The trait that every source of secrets implements.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{Error, Locator, Secret};

/// How long one fetch may take: long enough to answer a keyring's prompt, short enough that a
/// start is not held up by a daemon that hangs.
pub(crate) const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// A place that secrets are fetched from.
pub(crate) trait Source: Send + Sync {
    /// Fetches the secret, with every byte that belongs to it and none that does not.
    fn fetch(&self) -> BoxFuture<'static, Result<Secret, Error>>;
}

/// Runs a blocking `fetch` on a thread of its own, for at most [`FETCH_LIMIT`].
///
/// Not on the runtime's blocking pool: a runtime waits for that pool when it ends, and a
/// keyring that hangs would hang it too. A thread past its limit is left behind; what it
/// fetches then is dropped, and so overwritten.
pub(crate) fn off_thread(
    locator: Locator,
    fetch: impl FnOnce() -> Result<Secret, Error> + Send + 'static,
) -> BoxFuture<'static, Result<Secret, Error>> {
    Box::pin(async move {
        let (reply, answer) = oneshot::channel();
        let unavailable = |reason: String| Error::Unavailable { locator: locator.clone(), reason };
        std::thread::Builder::new()
            .name("nono-credential".into())
            .spawn(move || reply.send(fetch()))
            .map_err(|error| unavailable(format!("could not start a thread: {error}")))?;
        match tokio::time::timeout(FETCH_LIMIT, answer).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_)) => Err(unavailable("its source failed".into())),
            Err(_) => Err(Error::TimedOut { locator, limit: FETCH_LIMIT }),
        }
    })
}

/// The source that serves `locator`.
pub(crate) fn of(locator: &Locator) -> Box<dyn Source> {
    match locator {
        Locator::Keyring { .. } => Box::new(crate::keyring::Keyring(locator.clone())),
        Locator::Env(_) => Box::new(crate::env::Env(locator.clone())),
        Locator::File(_) => Box::new(crate::file::File(locator.clone())),
    }
}
