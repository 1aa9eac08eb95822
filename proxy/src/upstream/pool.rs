//! Upstream connections that wait for their next request.
//!
//! One pool for each worker, so its lock is never contended. Last in, first out: the most
//! recently used connection is the least likely to be closed meanwhile.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;

use super::Destination;
use super::http1::Connection;
use super::sender::Sender;
use crate::body::Body;
use crate::target::{Scheme, Target};

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
    /// The one that speaks HTTP/2, which many exchanges use at once.
    shared: Option<(http2::SendRequest<Body>, Option<SocketAddr>)>,
}

struct Idle {
    connection: Connection,
    peer: Option<SocketAddr>,
    since: Instant,
}

/// See the module.
pub(crate) struct Pool {
    connections: Mutex<All>,
    limit: Duration,
}

/// All connections of one worker. Those of routes are found by number: most requests go there.
#[derive(Default)]
struct All {
    routes: Vec<Connections>,
    open: HashMap<Host, Connections>,
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
}

impl Pool {
    /// An empty pool whose connections wait for at most `limit`.
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { connections: Mutex::default(), limit })
    }

    /// The place of the connections to `to`.
    pub(super) fn place(self: &Arc<Self>, to: &Destination) -> Place {
        Place { pool: Arc::clone(self), key: Key::of(to), peer: None }
    }

    /// Closes the connections that have waited too long. A shared one is closed by its upstream
    /// or when it fails.
    pub(crate) fn sweep(&self) {
        let mut all = self.lock();
        all.routes.iter_mut().for_each(|connections| connections.sweep(self.limit));
        all.open.retain(|_, connections| {
            connections.sweep(self.limit);
            !connections.idle.is_empty() || connections.shared.is_some()
        });
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Every change is one call on a map or list; a panic cannot leave it half-made.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn sweep(&mut self, limit: Duration) {
        self.idle.retain_mut(|idle| idle.since.elapsed() <= limit && idle.connection.is_idle());
        self.shared.take_if(|(shared, _)| shared.is_closed());
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
    /// The address of the connection that is in use.
    pub(super) peer: Option<SocketAddr>,
}

impl Place {
    /// Takes a connection that is ready for a request; one of HTTP/1.1 if it `needs_http1`.
    pub(super) fn take(&self, needs_http1: bool) -> Option<Sender> {
        let mut connections = self.pool.lock();
        let Connections { idle, shared } = connections.get_mut(&self.key)?;
        shared.take_if(|(shared, _)| shared.is_closed());
        if let Some((shared, peer)) = shared
            && !needs_http1
        {
            return Some(Sender::Http2(shared.clone(), *peer));
        }
        while let Some(Idle { mut connection, peer, since }) = idle.pop() {
            if since.elapsed() <= self.pool.limit && connection.is_idle() {
                return Some(Sender::Http1(connection, peer));
            }
        }
        None
    }

    /// Lets further requests use a connection too.
    pub(super) fn share(&self, sender: http2::SendRequest<Body>, peer: Option<SocketAddr>) {
        self.pool.lock().get_or_insert(self.key.clone()).shared = Some((sender, peer));
    }

    /// Keeps a connection for a later request.
    pub(super) fn put(self, connection: Connection) {
        let idle = Idle { connection, peer: self.peer, since: Instant::now() };
        self.pool.lock().get_or_insert(self.key).idle.push(idle);
    }
}
