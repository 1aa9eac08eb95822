//! The whole way of a request, on one screen.
//!
//! All that comes from clients passes this one stack, whichever form it has:
//!
//! | layer        | finds out                                  | refuses with       |
//! |--------------|--------------------------------------------|--------------------|
//! | record       | opens the record; it ends with the body    | 503, for the log   |
//! | respond      | turns the errors of all below into answers | –                  |
//! | limit        | a place among those that may run           | 503                |
//! | authenticate | that the client has the session token      | 400, 401, 405, 407 |
//! | target       | what the request asks for                  | 400, 405, 421      |
//! | route        | the route of its prefix, the path there    | 400, 403, 404, 421 |
//! | allow        | that the host may be reached               | 403, 508           |
//! | inject       | the route's credential                     | 400, 401, 503      |
//! | *leaf*       | sends it on, or opens the tunnel           | 502, 503, 504      |
//!
//! The leaf also refuses what is known only when it is under way: with 403 and 508 the address that a
//! name leads to, with 400, 408 and 431 the body of the request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, Response};
use nono_audit::Sender;
use nono_credentials::{Injection, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder};

use crate::body::Body;
use crate::config::Settings;
use crate::drain::Drain;
use crate::exchange::Arrival;
use crate::intercept::Interception;
use crate::layers::StepLayer;
use crate::layers::allow::Allow;
use crate::layers::authenticate::{Authenticate, KEY_HEADERS};
use crate::layers::inject::{InjectLayer, Onward};
use crate::layers::limit::Limit;
use crate::layers::record::RecordLayer;
use crate::layers::respond::RespondLayer;
use crate::layers::route::FindRoute;
use crate::layers::target::FindTarget;
use crate::token::Token;

/// What a connection serves its requests with.
pub(crate) trait HttpService:
    Service<Arrival, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> HttpService for S where
    S: Service<Arrival, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Builds the stack of one worker around its leaf.
pub(crate) fn stack<L>(shared: &Arc<Shared>, limit: Limit, leaf: L) -> impl HttpService + use<L>
where
    L: Onward,
{
    ServiceBuilder::new()
        // Outside everything, so that refusals, failures and abandoned requests are recorded
        // with the status that the client saw.
        .layer(RecordLayer(Arc::clone(shared)))
        // An error that reached the server would cut the connection without an answer.
        .layer(RespondLayer)
        // Before anything that costs work.
        .layer(StepLayer(limit))
        // Before any question of policy: a stranger learns nothing from the answers.
        .layer(StepLayer(Authenticate(Arc::clone(shared))))
        .layer(StepLayer(FindTarget))
        .layer(StepLayer(FindRoute(Arc::clone(shared))))
        // After the route, so that it judges the host that is really dialled.
        .layer(StepLayer(Allow(Arc::clone(shared))))
        // Last, so that no other layer, log or record sees the secret.
        .layer(InjectLayer(Arc::clone(shared)))
        .service(leaf)
}

/// What all workers and layers share; immutable but for the credentials, which are replaced.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// The address that the proxy really listens on.
    pub(crate) addr: SocketAddr,
    pub(crate) token: Token,
    pub(crate) audit: Sender,
    pub(crate) store: Store,
    /// What clients inside intercepted tunnels are shown.
    pub(crate) interception: Option<Interception>,
    /// The headers in which clients may carry a key: the usual ones and those of the routes.
    pub(crate) key_headers: Vec<HeaderName>,
    /// Whether any route takes the session token in its path.
    pub(crate) path_tokens: bool,
    /// Query parameters that routes inject into, which records do not show.
    pub(crate) redacted: Vec<String>,
    /// Places for client connections.
    pub(crate) sockets: Arc<Semaphore>,
    /// Ends accepting and lets what runs finish.
    pub(crate) drain: Drain,
    /// Cuts what still runs.
    pub(crate) cut: CancellationToken,
}

impl Shared {
    pub(crate) fn new(settings: Settings, addr: SocketAddr, token: Token, audit: Sender) -> Self {
        let mut key_headers = KEY_HEADERS.to_vec();
        let mut redacted = Vec::new();
        let mut path_tokens = false;
        for credential in settings.routes.iter().filter_map(|route| route.credential.as_ref()) {
            for name in credential.key_headers() {
                // With hyphens, as others are compared with it: see `is_among`.
                let hyphened = name.as_str().replace('_', "-").parse().ok();
                for name in [name.clone()].into_iter().chain(hyphened) {
                    if !key_headers.contains(&name) {
                        key_headers.push(name);
                    }
                }
            }
            match credential.injection() {
                Injection::Header { .. } | Injection::BasicAuth { .. } => {}
                Injection::QueryParam { name } => {
                    if !redacted.contains(name) {
                        redacted.push(name.clone());
                    }
                }
                Injection::UrlPath { .. } => path_tokens = true,
            }
        }
        let store = Store::new(settings.limits.credential);
        let sockets = Arc::new(Semaphore::new(settings.max_sockets()));
        Self {
            settings,
            addr,
            token,
            audit,
            store,
            interception: None,
            key_headers,
            path_tokens,
            redacted,
            sockets,
            drain: Drain::default(),
            cut: CancellationToken::new(),
        }
    }
}
