//! The parts that `benches/parts.rs` measures, behind the feature `bench`. Nobody else may use
//! this: it changes with what it opens.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Method, Request, Response, StatusCode};
use nono_audit::{Bounds, Log, Overflow, Reader, Session};
use tower::{ServiceExt as _, service_fn};

use crate::allowlist::{HostPattern, HostSet};
use crate::body::Body;
use crate::config::{ConfigError, ProxyConfig, RouteConfig, Settings};
use crate::error::StartError;
use crate::exchange::{Arrival, Exchange, Peer, Ready};
use crate::layers::limit::Limit;
use crate::path;
use crate::route::{EndpointRules, Route, RouteTable};
use crate::stack::{HttpService, Shared, stack};
use crate::target::{Target, parse_host};

/// A set of host rules.
#[derive(Debug)]
pub struct Hosts(HostSet);

impl Hosts {
    /// The set of those of `rules` that are rules.
    pub fn new(rules: &[String]) -> Self {
        Self(HostSet::new(rules.iter().filter_map(|rule| HostPattern::parse(rule).ok())))
    }

    /// Whether `host` may be reached, parsing included.
    pub fn allow(&self, host: &str) -> bool {
        parse_host(host).is_some_and(|host| self.0.matches(&Target::new(host, 443)).is_some())
    }
}

/// Endpoint rules.
#[derive(Debug)]
pub struct Endpoints(EndpointRules);

impl Endpoints {
    /// The set of `(method, path glob)` pairs.
    ///
    /// # Errors
    /// One of them is not a rule.
    pub fn new(rules: &[(String, String)]) -> Result<Self, ConfigError> {
        EndpointRules::parse(rules).map(Self)
    }

    /// Whether one of them allows `method` on `path`.
    pub fn allow(&self, method: &Method, path: &str) -> bool {
        self.0.allow(method, path).is_some()
    }
}

/// A table of routes.
#[derive(Debug)]
pub struct Routes(RouteTable);

impl Routes {
    /// The table of `routes`.
    ///
    /// # Errors
    /// One of them is wrong.
    pub fn new(routes: &[RouteConfig]) -> Result<Self, ConfigError> {
        let parsed = routes.iter().map(Route::parse).collect::<Result<_, _>>()?;
        RouteTable::new(parsed).map(Self)
    }

    /// Whether one of them leads `path` on.
    pub fn lead(&self, path: &str) -> bool {
        self.0.find(path).is_some()
    }
}

/// Work that can be left out, in a whole process, to see what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Records of exchanges.
    Records,
    /// Looking for secrets in responses.
    Scrubbing,
    /// Looking at sockets before a worker sleeps: how often depends on how fast others are.
    Watching,
}

static WITHOUT_RECORDS: AtomicBool = AtomicBool::new(false);
static WITHOUT_SCRUBBING: AtomicBool = AtomicBool::new(false);
static WITHOUT_WATCHING: AtomicBool = AtomicBool::new(false);

impl Part {
    /// Leaves it out of every request from now on.
    pub fn leave_out(self) {
        self.switch().store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_left_out(self) -> bool {
        self.switch().load(Ordering::Relaxed)
    }

    fn switch(self) -> &'static AtomicBool {
        match self {
            Self::Records => &WITHOUT_RECORDS,
            Self::Scrubbing => &WITHOUT_SCRUBBING,
            Self::Watching => &WITHOUT_WATCHING,
        }
    }
}

/// Whether `path` has one meaning only.
pub fn is_plain(path: &str) -> bool {
    path::ambiguity(path).is_none()
}

/// A session token.
#[derive(Debug)]
pub struct Token(crate::token::Token);

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// No random numbers.
    pub fn new() -> Result<Self, std::io::Error> {
        crate::token::Token::generate().map(Self).map_err(std::io::Error::other)
    }

    /// What a client shows.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0.expose())
    }

    /// Whether `value` carries it.
    pub fn is_in(&self, value: &HeaderValue) -> bool {
        self.0.is_in(value)
    }
}

/// Runs requests through the whole stack without sockets, up to the layer that refuses them, or to
/// a leaf that answers 204 at once; returns their statuses. Each batch must fit in the audit
/// channel, which is emptied after it.
///
/// # Errors
/// `config` is wrong, or the system refuses a thread.
pub fn stack_runner(
    config: &ProxyConfig,
    token: Token,
) -> Result<impl AsyncFn(&[Request<()>]) -> Vec<u16> + use<>, StartError> {
    let settings = Settings::parse(config)?;
    let records = settings.limits.audit_records;
    let bounds = Bounds { records, disk: 0, overflow: Overflow::Refuse };
    let (sender, log) = Log::open(Session(0), bounds, Vec::new())?;
    let records = Mutex::new(log.subscribe(Reader::holding("bench")));
    let shared = Arc::new(Shared::new(settings, config.bind, token.0, sender));
    let limit = Limit::new(config.max_connections);
    let leaf = service_fn(|_: Exchange<Ready>| ready(Ok(nothing())));
    let stack = stack(&shared, limit, leaf);
    let run = async move |requests: &[Request<()>]| {
        let statuses = serve(&stack, requests).await;
        drop(records.lock().unwrap_or_else(PoisonError::into_inner).drain());
        statuses
    };
    Ok(run)
}

/// Runs requests through a service that has no layers, and answers 204 at once.
pub fn bare_runner() -> impl AsyncFn(&[Request<()>]) -> Vec<u16> {
    async |requests: &[Request<()>]| {
        serve(&service_fn(|_: Arrival| ready(Ok(nothing()))), requests).await
    }
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

async fn serve(service: &impl HttpService, requests: &[Request<()>]) -> Vec<u16> {
    let peer = Arc::new(Peer::new("127.0.0.1:9".into()));
    let mut statuses = Vec::with_capacity(requests.len());
    for request in requests {
        let mut arrived = Request::new(Body::empty());
        *arrived.method_mut() = request.method().clone();
        *arrived.uri_mut() = request.uri().clone();
        arrived.headers_mut().clone_from(request.headers());
        let arrival = Arrival { request: Box::new(arrived), peer: Arc::clone(&peer) };
        match service.clone().oneshot(arrival).await {
            Ok(response) => statuses.push(response.status().as_u16()),
            Err(never) => match never {},
        }
    }
    statuses
}
