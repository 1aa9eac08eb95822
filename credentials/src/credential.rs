//! The credential of one route: where it is kept, where it goes, and what is sent now.
//!
//! A request reads the current value: one atomic operation, no lock, no allocation. All
//! fetching is done by one task for each credential, [`Credential::keep`]: so fetches are never
//! abandoned half-way because a client left, and whoever needs one at the same time waits for
//! the same. It fetches
//!
//! - at start, and when the program asks for it ([`Credential::reload`]),
//! - when the file that the secret is in changes,
//! - when four fifths of a value's life are over; after its end the value is not sent,
//! - when an upstream refuses the value ([`Credential::replacement`]),
//! - when a request needs a value and there is none; after a failure not at once again.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderName;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::schedule::Schedule;
use crate::watch::Watch;
use crate::{Doubt, Error, Header, Injection, Loaded, Locator, Store};

/// See the module.
#[derive(Debug)]
pub struct Credential {
    locator: Locator,
    injection: Injection,
    headers: Vec<Header>,
    /// How long a value is valid whose source does not say.
    ttl: Option<Duration>,
    current: ArcSwapOption<Loaded>,
    schedule: Mutex<Schedule>,
    /// Wakes the task that fetches.
    asked: Notify,
    /// The last fetch that has ended.
    served: watch::Sender<u64>,
}

impl Credential {
    /// A credential that is kept at `locator` and goes where `injection` says. Fetches nothing.
    pub fn new(locator: Locator, injection: Injection) -> Self {
        Self {
            locator,
            injection,
            headers: Vec::new(),
            ttl: None,
            current: ArcSwapOption::empty(),
            schedule: Mutex::default(),
            asked: Notify::new(),
            served: watch::Sender::new(0),
        }
    }

    /// The same, whose values are valid for `ttl` where their source does not say for how long.
    #[must_use]
    pub fn valid_for(mut self, ttl: Option<Duration>) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same, with further headers to go with it.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<Header>) -> Self {
        self.headers = headers;
        self
    }

    /// Where it is kept.
    pub fn locator(&self) -> &Locator {
        &self.locator
    }

    /// Where on a request it goes.
    pub fn injection(&self) -> &Injection {
        &self.injection
    }

    /// The headers into which the secret goes, of all of them.
    pub fn key_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let further = self.headers.iter().filter(|header| matches!(header, Header::Secret(..)));
        self.injection.header().into_iter().chain(further.map(Header::name))
    }

    /// Whether what is at its place stays the same while the process runs.
    pub fn is_fixed(&self) -> bool {
        self.locator.is_fixed()
    }

    /// What was loaded last, if anything was; it may have expired.
    pub fn current(&self) -> Guard<Option<Arc<Loaded>>> {
        self.current.load()
    }

    /// Why the last fetch failed, if it did.
    pub fn failure(&self) -> Option<Error> {
        self.schedule().failure().cloned()
    }

    /// A value that may be sent: the current one, or else one that is fetched now.
    ///
    /// # Errors
    /// [`Error`] when there is none; also, at once, when a fetch has failed a moment ago.
    ///
    /// # Cancel safety
    /// The fetch goes on when this is cancelled.
    pub async fn valid(&self) -> Result<Arc<Loaded>, Error> {
        if let Some(loaded) = self.sendable() {
            return Ok(loaded);
        }
        let ticket = match self.schedule().join() {
            Ok(ticket) => ticket,
            Err(failure) => return Err(failure),
        };
        self.wait(ticket).await;
        let expired = || Error::Expired { locator: self.locator.clone() };
        self.sendable().ok_or_else(|| self.failure().unwrap_or_else(expired))
    }

    /// Fetches it again. The old value stays when that fails, for as long as it is valid.
    ///
    /// # Errors
    /// Why it could not be fetched.
    ///
    /// # Cancel safety
    /// The fetch goes on when this is cancelled.
    pub async fn reload(&self) -> Result<(), Error> {
        let ticket = self.schedule().request();
        self.wait(ticket).await;
        self.failure().map_or(Ok(()), Err)
    }

    /// Another value than `refused`, which an upstream did not take: the current one, if it has
    /// changed meanwhile, or what a fetch brings now. The fetches become rarer the more refusals
    /// there are, also where each brings another value: many a request is refused for reasons
    /// that are not the credential's, and a client can have its requests refused on purpose.
    ///
    /// # Cancel safety
    /// The fetch goes on when this is cancelled.
    pub async fn replacement(&self, refused: &Loaded, doubt: Doubt) -> Option<Arc<Loaded>> {
        let other = || self.sendable().filter(|current| !current.is_same(refused));
        if let Some(current) = other() {
            return Some(current);
        }
        let ticket = self.doubt(refused, doubt)?;
        self.wait(ticket).await;
        other()
    }

    /// Has it fetched again because an upstream did not take `refused`, unless it has changed
    /// meanwhile or was fetched too often for that. Does not wait.
    pub fn doubt(&self, refused: &Loaded, doubt: Doubt) -> Option<u64> {
        if self.is_fixed() || self.sendable().is_some_and(|current| !current.is_same(refused)) {
            return None;
        }
        let ticket = self.schedule().doubt(doubt)?;
        self.asked.notify_one();
        Some(ticket)
    }

    /// Waits until the first fetch has ended.
    pub async fn settled(&self) {
        self.wait(1).await;
    }

    /// Fetches it from `store` whenever that is due; never ends.
    pub async fn keep(&self, store: &Store) {
        let watch = match store.file(&self.locator) {
            // Without a thread for it, the file is still read again when the upstream refuses.
            Some(file) => Watch::new(file).await.ok(),
            None => None,
        };
        loop {
            let ticket = self.until_due(watch.as_ref()).await;
            self.load(store).await;
            self.served.send_replace(ticket);
        }
    }

    /// Fetches it from `store` and makes it the current value.
    pub async fn load(&self, store: &Store) {
        let previous = self.current.load_full();
        let asked = self.schedule().asked();
        let fetched = store.get(&self.locator, asked).await.and_then(|fetched| {
            let ends = fetched.expires.or_else(|| Some(Instant::now() + self.ttl?));
            let unusable = |reason| Error::Unusable { locator: self.locator.clone(), reason };
            let places = (&self.injection, &*self.headers);
            Loaded::new(places, &fetched.secret, ends, previous.as_deref()).map_err(unusable)
        });
        match fetched {
            Ok(loaded) => {
                let expires = loaded.expires();
                self.current.store(Some(Arc::new(loaded)));
                self.schedule().succeeded(expires);
            }
            Err(error) => {
                let is_expiring = previous.is_some_and(|previous| previous.expires().is_some());
                self.schedule().failed(error, is_expiring);
            }
        }
    }

    /// Waits until a fetch is due or asked for, and returns its number.
    async fn until_due(&self, watch: Option<&Watch>) -> u64 {
        loop {
            let due = match self.schedule().begin() {
                Ok(ticket) => return ticket,
                Err(due) => due,
            };
            let due = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => pending().await,
                }
            };
            let changed = async {
                match watch {
                    Some(watch) => watch.changed().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.asked.notified() => {}
                () = due => {}
                () = changed => drop(self.schedule().request()),
            }
        }
    }

    async fn wait(&self, ticket: u64) {
        self.asked.notify_one();
        // Does not fail: the other side is in `self`.
        let _ = self.served.subscribe().wait_for(|served| *served >= ticket).await;
    }

    fn sendable(&self) -> Option<Arc<Loaded>> {
        self.current.load_full().filter(|loaded| loaded.is_valid())
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
