//! Upstream connections that wait for their next request.
//!
//! One pool for each worker, so its lock is never contended. Last in, first out: the most
//! recently used connection is the least likely to be closed meanwhile.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use hyper::client::conn::http2;

use super::Destination;
use super::sender::{Connection, Sender};
use crate::body::Body;
use crate::exchange::Peer;
use crate::target::Target;

/// Which connections may serve which requests: those of a route serve that route alone, so
/// that TLS identities and keys of two routes never mix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Route(Arc<str>),
    Open(Target),
}

impl Key {
    fn of(to: &Destination) -> Self {
        match to {
            Destination::Route { route, .. } => Self::Route(Arc::clone(&route.id)),
            Destination::Open { target, .. } => Self::Open(target.clone()),
        }
    }
}

/// The connections to one upstream.
#[derive(Default)]
struct Connections {
    idle: Vec<Idle>,
    /// The one that speaks HTTP/2, which many exchanges use at once.
    shared: Option<http2::SendRequest<Body>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// See the module.
pub(crate) struct Pool {
    connections: Mutex<HashMap<Key, Connections>>,
    limit: Duration,
}

impl Pool {
    /// An empty pool whose connections wait for at most `limit`.
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { connections: Mutex::new(HashMap::new()), limit })
    }

    /// Takes a connection that is ready for a request to `to`.
    pub(super) async fn take(&self, to: &Destination) -> Option<Sender> {
        let key = Key::of(to);
        if let Some(shared) = self.shared(&key, to) {
            return Some(Sender::Http2(shared));
        }
        while let Some(mut idle) = self.pop(&key) {
            let sender = &mut idle.connection.sender;
            if idle.since.elapsed() > self.limit || sender.is_closed() {
                continue;
            }
            if let Some(ready) = sender.ready().now_or_never() {
                if ready.is_ok() {
                    return Some(Sender::Http1(idle.connection));
                }
                continue;
            }
            // Its task has not run since the last response ended.
            tokio::task::yield_now().await;
            if let Some(Ok(())) = sender.ready().now_or_never() {
                return Some(Sender::Http1(idle.connection));
            }
        }
        None
    }

    /// Lets further requests to `to` use a connection too.
    pub(super) fn share(&self, to: &Destination, sender: http2::SendRequest<Body>) {
        self.lock().entry(Key::of(to)).or_default().shared = Some(sender);
    }

    /// Closes the connections that have waited too long. A shared one is closed by its upstream
    /// or when it fails.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, Connections { idle, shared }| {
            idle.retain(|idle| {
                idle.since.elapsed() <= self.limit && !idle.connection.sender.is_closed()
            });
            shared.take_if(|shared| shared.is_closed());
            !idle.is_empty() || shared.is_some()
        });
    }

    fn shared(&self, key: &Key, to: &Destination) -> Option<http2::SendRequest<Body>> {
        let needs_http1 = matches!(to, Destination::Route { needs_http1: true, .. });
        let mut connections = self.lock();
        let shared = &mut connections.get_mut(key)?.shared;
        shared.take_if(|shared| shared.is_closed());
        shared.clone().filter(|_| !needs_http1)
    }

    fn pop(&self, key: &Key) -> Option<Idle> {
        self.lock().get_mut(key)?.idle.pop()
    }

    fn push(&self, key: Key, connection: Connection) {
        let idle = Idle { connection, since: Instant::now() };
        self.lock().entry(key).or_default().idle.push(idle);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Connections>> {
        // Every change is one call on the map; a panic cannot leave it half-made.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A connection in use: given back when its exchange ended well, cut when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    key: Key,
    /// Empty once it was given back.
    connection: Option<Connection>,
    /// Whose exchange it serves.
    peer: Arc<Peer>,
}

impl Lease {
    pub(super) fn new(
        pool: &Arc<Pool>,
        to: &Destination,
        connection: Connection,
        peer: &Arc<Peer>,
    ) -> Self {
        let key = Key::of(to);
        Self { pool: Arc::clone(pool), key, connection: Some(connection), peer: Arc::clone(peer) }
    }

    /// Puts the connection back into its pool, unless the request is still on its way there:
    /// then it would be ready late or never, and would hold the client's upload up.
    pub(crate) fn give_back(mut self) {
        if self.peer.gate.is_uploading() {
            return;
        }
        if let Some(connection) = self.connection.take()
            && !connection.sender.is_closed()
        {
            self.pool.push(self.key.clone(), connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.task.abort();
        }
    }
}
