//! Upstream connections that have room for a request.
//!
//! One pool for each worker, so its lock is never contended. Of those that serve one exchange at a
//! time, last in, first out: the most recently used is the least likely to be closed meanwhile. Of
//! those that are shared, the first that has room: the others become idle, and are closed.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::http1::Connection;
use super::sender::Sender;
use super::{Destination, http2};
use crate::target::{Scheme, Target};

/// The most shared connections to one upstream. One is enough for most, which allow a hundred
/// exchanges on it or more; those that allow one are served no worse than browsers would.
const MOST_SHARED: usize = 32;

/// Which connections may serve which requests: those of a route serve that route alone, so
/// that TLS identities and keys of two routes never mix.
#[derive(Debug, Clone)]
enum Key {
    /// By the route's number.
    Route(usize),
    /// A host that clients named.
    Open(Host),
}

/// How, and whether by a proxy that sends requests on: what such a one is told is not for others.
type Host = (Scheme, Target, bool);

impl Key {
    fn of(to: &Destination) -> Self {
        match to {
            Destination::Route { route, .. } => Self::Route(route.number),
            Destination::Open { target, forwarder, .. } => {
                Self::Open((Scheme::Http, target.clone(), forwarder.is_some()))
            }
            Destination::Secure { target, .. } => {
                Self::Open((Scheme::Https, target.clone(), false))
            }
        }
    }
}

/// The connections to one upstream.
#[derive(Default)]
struct Connections {
    idle: Vec<Idle>,
    /// Those that speak HTTP/2, which many exchanges use at once.
    shared: Vec<Arc<http2::Connection>>,
    /// How many are being opened.
    dialling: usize,
    /// Told when there may be room on the shared ones again, or leave to open another.
    freed: Arc<Notify>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// See the module.
pub(crate) struct Pool {
    connections: Mutex<All>,
    limit: Duration,
    /// How many connections may be idle.
    most: usize,
}

/// All connections of one worker. Those of routes are found by number: most requests go there.
#[derive(Default)]
struct All {
    routes: Vec<Connections>,
    open: HashMap<Host, Connections>,
    /// Those that are idle, to whatever upstream.
    idle: usize,
}

impl All {
    fn get_mut(&mut self, key: &Key) -> Option<&mut Connections> {
        match key {
            Key::Route(number) => self.routes.get_mut(*number),
            Key::Open(target) => self.open.get_mut(target),
        }
    }

    fn get_or_insert(&mut self, key: Key) -> &mut Connections {
        match key {
            Key::Route(number) => {
                if self.routes.len() <= number {
                    self.routes.resize_with(number + 1, Connections::default);
                }
                &mut self.routes[number]
            }
            Key::Open(target) => self.open.entry(target).or_default(),
        }
    }

    /// Takes out the connection that has been idle for longest.
    fn pop_oldest(&mut self) -> Option<Idle> {
        let all = self.routes.iter_mut().chain(self.open.values_mut());
        let oldest = all.filter(|one| !one.idle.is_empty()).min_by_key(|one| one.idle[0].since)?;
        self.idle -= 1;
        Some(oldest.idle.remove(0))
    }
}

impl Pool {
    /// An empty pool in which at most `most` connections wait, each for at most `limit`.
    pub(super) fn new(limit: Duration, most: usize) -> Arc<Self> {
        Arc::new(Self { connections: Mutex::default(), limit, most })
    }

    /// The place of the connections to `to`.
    pub(super) fn place(self: &Arc<Self>, to: &Destination) -> Place {
        Place { pool: Arc::clone(self), key: Key::of(to) }
    }

    /// Closes the connections that have waited too long.
    pub(crate) fn sweep(&self) {
        let mut all = self.lock();
        let All { routes, open, idle } = &mut *all;
        for connections in routes.iter_mut().chain(open.values_mut()) {
            *idle -= connections.sweep(self.limit);
        }
        open.retain(|_, connections| !connections.is_unused());
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Every change is one call on a map or list; a panic cannot leave it half-made.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// Closes what waited too long, and says how many idle ones.
    fn sweep(&mut self, limit: Duration) -> usize {
        let before = self.idle.len();
        self.idle.retain_mut(|idle| idle.since.elapsed() <= limit && idle.connection.is_idle());
        self.sweep_shared(limit);
        before - self.idle.len()
    }

    fn sweep_shared(&mut self, limit: Duration) {
        let before = self.shared.len();
        self.shared.retain(|shared| shared.is_usable(limit));
        if self.shared.len() < before {
            self.freed.notify_waiters();
        }
    }

    /// Whether nothing is lost with it, and nobody waits for it.
    fn is_unused(&self) -> bool {
        let is_awaited = Arc::strong_count(&self.freed) > 1;
        self.idle.is_empty() && self.shared.is_empty() && self.dialling == 0 && !is_awaited
    }

    /// See [`Place::take`]; `None` where a connection is to be opened.
    fn take(&mut self, needs_http1: bool, limit: Duration) -> Option<Result<Sender, Full>> {
        if !needs_http1 && !self.shared.is_empty() {
            self.sweep_shared(limit);
            if let Some(stream) = self.shared.iter().find_map(http2::Connection::begin) {
                return Some(Ok(Sender::Http2(stream)));
            }
            // Until the first is there, nobody knows that the upstream's are shared.
            let is_full = self.shared.len() + self.dialling >= MOST_SHARED;
            if is_full && !self.shared.is_empty() {
                return Some(Err(Full(Arc::clone(&self.freed))));
            }
        }
        while let Some(Idle { mut connection, since }) = self.idle.pop() {
            if since.elapsed() <= limit && connection.is_idle() {
                return Some(Ok(Sender::Http1(connection)));
            }
        }
        None
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Where the connections to one upstream wait.
#[derive(Debug)]
pub(super) struct Place {
    pool: Arc<Pool>,
    key: Key,
}

/// A way for an exchange to begin.
#[derive(Debug)]
pub(super) enum Free<'a> {
    /// On a connection that is there.
    Ready(Sender),
    /// On one that is to be opened.
    Dial(Dialling<'a>),
}

/// Why there is none: as many shared connections are there as may be, and none has room.
#[derive(Debug)]
pub(super) struct Full(Arc<Notify>);

impl Place {
    /// Takes a connection that is ready for a request, one of HTTP/1.1 if it `needs_http1`; or
    /// leave to open one.
    pub(super) fn take(&self, needs_http1: bool) -> Result<Free<'_>, Full> {
        let mut all = self.pool.lock();
        let limit = self.pool.limit;
        let Some(known) = all.get_mut(&self.key) else { return Ok(self.dial_in(&mut all)) };
        let before = known.idle.len();
        let taken = known.take(needs_http1, limit);
        let gone = before - known.idle.len();
        all.idle -= gone;
        match taken {
            Some(taken) => taken.map(Free::Ready),
            None => Ok(self.dial_in(&mut all)),
        }
    }

    /// Leave to open a connection, whatever is there.
    pub(super) fn dial(&self) -> Free<'_> {
        self.dial_in(&mut self.pool.lock())
    }

    fn dial_in(&self, all: &mut All) -> Free<'_> {
        let connections = all.get_or_insert(self.key.clone());
        connections.dialling += 1;
        Free::Dial(Dialling { place: self, freed: Arc::clone(&connections.freed) })
    }

    /// Waits for room on a shared connection, or leave to open one. Who comes first is not always
    /// served first.
    pub(super) async fn wait(&self, Full(freed): Full) -> Free<'_> {
        loop {
            let mut next = pin!(freed.notified());
            // Before looking, so that what is freed meanwhile is not missed.
            next.as_mut().enable();
            match self.take(false) {
                Ok(free) => return free,
                Err(Full(_)) => next.await,
            }
        }
    }

    /// Keeps a connection for a later request.
    pub(super) fn put(self, connection: Connection) {
        let idle = Idle { connection, since: Instant::now() };
        let mut all = self.pool.lock();
        all.get_or_insert(self.key).idle.push(idle);
        all.idle += 1;
        let surplus = if all.idle > self.pool.most { all.pop_oldest() } else { None };
        drop(all);
        // Closed without the lock.
        drop(surplus);
    }
}

/// A connection being opened, until it is dropped.
#[derive(Debug)]
pub(super) struct Dialling<'a> {
    place: &'a Place,
    freed: Arc<Notify>,
}

impl Dialling<'_> {
    /// What is told when there is room on a shared connection of this place.
    pub(super) fn freed(&self) -> &Arc<Notify> {
        &self.freed
    }

    /// Lets further exchanges use the connection too, if there are not too many already.
    pub(super) fn share(&self, opened: &http2::Stream) {
        let mut all = self.place.pool.lock();
        let shared = &mut all.get_or_insert(self.place.key.clone()).shared;
        if shared.len() < MOST_SHARED {
            shared.push(Arc::clone(opened.connection()));
        }
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if let Some(connections) = self.place.pool.lock().get_mut(&self.place.key) {
            connections.dialling = connections.dialling.saturating_sub(1);
        }
        self.freed.notify_waiters();
    }
}
