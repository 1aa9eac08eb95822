//! HTTP/2 towards an upstream: a connection that many exchanges share, as many at once as the
//! upstream allows. The protocol is the library's; here is how much of a connection is in use, and
//! when it is given up.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST};
use http::uri::Uri;
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nono_credentials::Doubt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::line::Line;
use super::paced::Paced;
use super::{Destination, Refused};
use crate::body::{Body, BodyError};
use crate::error::Upstream as Failure;

/// How much an upstream may send ahead of what was passed on, per response and in all.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// The longest response head, as its fields' sizes are counted.
const HEADER_LIST_LIMIT: u32 = 64 * 1024;

/// How long nothing may come while an exchange waits until the upstream is asked for a sign of
/// life, and how long it may take to give one: a connection that is dead, of which TCP may not tell
/// for a quarter of an hour, is given up after the two. Servers that count such questions as abuse
/// do so when they come faster.
const SILENCE: Duration = Duration::from_secs(20);
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// What moves the bytes of a connection.
type Driver<T> = http2::Connection<TokioIo<Paced<T>>, Body, TokioExecutor>;

/// A connection.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    /// Belongs to the connection's task, and ends with it.
    driver: Weak<Mutex<Driver<Line>>>,
    peer: SocketAddr,
    usage: Mutex<Usage>,
    /// Told when an exchange ends.
    freed: Arc<Notify>,
}

struct Usage {
    /// Exchanges under way.
    open: usize,
    /// When the last one ended.
    since: Instant,
    is_retired: bool,
}

impl Connection {
    /// Speaks HTTP/2 on `line`, for one exchange and for those that join it later; `freed` is told
    /// when one ends.
    ///
    /// # Errors
    /// The upstream speaks something else.
    pub(super) async fn open(line: Line, freed: Arc<Notify>) -> hyper::Result<Arc<Stream>> {
        let peer = line.peer();
        let (sender, driver) = handshake(line).await?;
        let driver = Arc::new(Mutex::new(driver));
        let usage = Mutex::new(Usage { open: 1, since: Instant::now(), is_retired: false });
        let weak = Arc::downgrade(&driver);
        tokio::spawn(drive(driver));
        Ok(Arc::new(Stream(Arc::new(Self { sender, driver: weak, peer, usage, freed }))))
    }

    /// A place on it for one more exchange, if the upstream allows that many.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Arc<Stream>> {
        let limit = lock(&*self.driver.upgrade()?).current_max_send_streams();
        let mut usage = lock(&self.usage);
        if usage.open >= limit {
            return None;
        }
        usage.open += 1;
        Some(Arc::new(Stream(Arc::clone(self))))
    }

    /// Whether further exchanges may begin on it, sooner or later. One that rested for longer than
    /// `limit` may have been forgotten on the way.
    pub(super) fn is_usable(&self, limit: Duration) -> bool {
        let usage = lock(&self.usage);
        let is_stale = usage.open == 0 && usage.since.elapsed() > limit;
        !usage.is_retired && !is_stale && self.driver.strong_count() > 0
    }

    /// Lets no more exchanges begin on it; those under way go on.
    pub(super) fn retire(&self) {
        lock(&self.usage).is_retired = true;
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The place of one exchange on a connection, until it is dropped; held by the exchange, and by the
/// bodies of its request and of its response.
#[derive(Debug)]
pub(crate) struct Stream(Arc<Connection>);

impl Drop for Stream {
    fn drop(&mut self) {
        let mut usage = lock(&self.0.usage);
        usage.open -= 1;
        usage.since = Instant::now();
        drop(usage);
        self.0.freed.notify_one();
    }
}

/// Why no response came.
pub(super) enum Lost {
    /// Whatever came of the request.
    Failed(Failure),
    /// The connection had closed, and nothing of the request was written.
    Unsent(Failure, Box<Request<Body>>),
    /// The upstream says that it did nothing with the request (RFC 9113 §6.8, §8.7).
    Unprocessed(Failure, Box<Request<Body>>),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Failed(failure) | Lost::Unsent(failure, _) | Lost::Unprocessed(failure, _) => {
                failure
            }
        }
    }
}

impl Stream {
    /// The connection.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }

    /// The upstream's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Sends `request`. Dropping the future resets the stream.
    pub(super) async fn exchange(
        self: Arc<Self>,
        to: &Destination,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Body>, Lost> {
        let has_body = !request.body().is_end_stream();
        // The library keeps what it sends, so whatever may be needed again has to be copied.
        let may_be_refused = to.route().is_some_and(|route| route.credential.is_some());
        let head = (may_be_refused || !has_body).then(|| head_of(&request));
        address(to, &mut request);
        if has_body {
            request.body_mut().occupy(Arc::clone(&self));
        }
        let mut failed = match self.0.sender.clone().try_send_request(*request).await {
            Ok(response) => {
                let mut response = response.map(Body::incoming);
                response.body_mut().occupy(self);
                if let Some(head) = head
                    && Doubt::of(response.status()).is_some()
                {
                    Refused::attach(head, &mut response);
                }
                return Ok(response);
            }
            Err(failed) => failed,
        };
        let failure = explain(failed.error());
        if let Some(unsent) = failed.take_message() {
            self.0.retire();
            return Err(Lost::Unsent(failure, Box::new(unsent)));
        }
        if !is_unprocessed(failed.error()) {
            return Err(Lost::Failed(failure));
        }
        self.0.retire();
        Err(match head {
            Some(head) if !has_body => {
                Lost::Unprocessed(failure, Box::new(head.map(|()| Body::empty())))
            }
            _ => Lost::Failed(failure),
        })
    }
}

async fn handshake<T>(line: T) -> hyper::Result<(SendRequest<Body>, Driver<T>)>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_LIMIT)
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(SIGN_OF_LIFE)
        .handshake(TokioIo::new(Paced::new(line)))
        .await
}

async fn drive<T>(driver: Arc<Mutex<Driver<T>>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // How it ends is told to each exchange on it.
    let _ = poll_fn(|cx| Pin::new(&mut *lock(&driver)).poll(cx)).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters that are changed at once; and a driver that panicked is gone with its task.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Absolute-form, of which the pseudo-header fields are made; no field of a connection
/// (RFC 9113 §8.2.2, §8.3.1).
fn address(to: &Destination, request: &mut Request<Body>) {
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    let mut parts = to.uri().clone().into_parts();
    if let Some(path) = request.uri().path_and_query() {
        parts.path_and_query = Some(path.clone());
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}

fn head_of(request: &Request<Body>) -> Request<()> {
    let mut head = Request::new(());
    request.method().clone_into(head.method_mut());
    request.uri().clone_into(head.uri_mut());
    request.headers().clone_into(head.headers_mut());
    head
}

/// Whether the upstream says that it did nothing with the request: it had announced that it would
/// take none from there on, or refused this one. The library ends with the announcement only those
/// that it says are not taken.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut causes = causes(error);
    causes.find_map(|cause| cause.downcast_ref::<h2::Error>()).is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || is_refused)
    })
}

fn explain(error: &hyper::Error) -> Failure {
    if causes(error).any(<dyn StdError>::is::<BodyError>) {
        // The request's body failed, which only the client can have caused.
        return Failure::RequestCut;
    }
    if error.is_timeout() {
        return Failure::ResponseTimeout;
    }
    Failure::BadResponse(reason(error))
}

/// An error and its causes in words, without what the upstream adds.
pub(crate) fn reason(error: &hyper::Error) -> String {
    let mut reason = error.to_string();
    for cause in causes(error) {
        reason = format!("{reason}: {}", words(cause));
    }
    reason
}

/// A cause in words, but for those that an upstream adds when it ends the connection (RFC 9113
/// §6.8): they may quote the request, its credential included.
fn words(cause: &(dyn StdError + 'static)) -> String {
    let library = cause.downcast_ref::<h2::Error>();
    let farewell = library.filter(|error| error.is_go_away() && error.is_remote());
    match farewell.and_then(h2::Error::reason) {
        Some(reason) => format!("connection error received: {reason}"),
        None => cause.to_string(),
    }
}

/// What lies behind `error`, the nearest first.
fn causes(error: &hyper::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests;
