//! HTTP/2 inside intercepted tunnels, within bounds that no client needs to exceed.

mod gathered;
mod requests;
mod streams;

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, COOKIE, Entry};
use http::{HeaderMap, HeaderValue, Request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval_at};
use tower::ServiceExt as _;

use crate::body::Body;
use crate::config::Limits;
use crate::exchange::{Arrival, Peer};
use crate::intercept::Inside;
use crate::layers::{record, respond};
use crate::stack::{HttpService, Shared};

use super::websocket;
use gathered::Gathered;
use streams::{Streams, Taken};

/// How many requests may run on a connection at once.
const STREAMS: u32 = 128;

/// How much a client may send ahead of what was passed on, per request and in all.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// The longest head of a request, as its fields' sizes are counted there.
const HEADER_LIST_LIMIT: u32 = 64 * 1024;

/// How many requests a client may take back before they were looked at, and how many the library
/// may end for the client's mistakes; with more the connection is closed (CVE-2023-44487).
const RESETS: usize = 20;
const MISTAKES: usize = 128;

/// How much of a response waits for a client that does not take it. One that takes less than that
/// in the time that a body may rest is cut.
const SEND_BUFFER: usize = 256 * 1024;

/// How often at least a client is asked whether it is still there, and how long it may take at most
/// to say so.
const PING: Duration = Duration::from_mins(1);
const PONG: Duration = Duration::from_secs(20);

/// How long a client on whose connection nothing runs has to take leave.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves the requests that come on `io`, inside the tunnel `inside` that `outer` became.
pub(crate) async fn serve<S, T>(
    shared: Arc<Shared>,
    stack: S,
    io: T,
    inside: Arc<Inside>,
    outer: Arc<Peer>,
) where
    S: HttpService,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = AtomicUsize::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        // Added to in this task alone.
        served.store(served.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // Each has one of its own, since what goes wrong with one concerns no other.
        let peer = Arc::new(outer.inside(Arc::clone(&inside)));
        let mut request = request.map(Body::incoming);
        let client = websocket::translate(&mut request);
        state_length(&mut request);
        join_cookies(request.headers_mut());
        let arrival = Arrival { request: Box::new(request), peer: Arc::clone(&peer) };
        let answered = stack.clone().oneshot(arrival);
        async move {
            answered.await.map(|mut response| {
                if let Some(client) = client {
                    websocket::answer(&mut response, client, Arc::clone(&peer));
                }
                response.map(|body| Taken::new(body, peer))
            })
        }
    });
    let gathered = Gathered::new(io);
    let io = TokioIo::new(gathered.clone());
    let mut connection = pin!(builder(&shared.settings.limits).serve_connection(io, service));
    let limits = &shared.settings.limits;
    let is_resting = || !gathered.has_requests();
    // All that still runs are the ends of responses, which the library holds: their client takes
    // nothing.
    let is_done = || gathered.has_requests() && Arc::strong_count(&inside) == 1;
    let serving = async {
        tokio::select! {
            // How it ended is in the records of its exchanges.
            () = poll_fn(|cx| gathered.poll_turn(connection.as_mut(), cx)) => true,
            () = rest(limits.head, &gathered, is_resting) => false,
            () = rest(limits.idle, &gathered, is_done) => true,
        }
    };
    if shared.drain.run_until_begun(serving).await != Some(true) {
        connection.as_mut().graceful_shutdown();
        let leaving = async {
            tokio::select! {
                () = poll_fn(|cx| gathered.poll_turn(connection.as_mut(), cx)) => {}
                // It runs nothing, and does not answer.
                () = rest(FAREWELL, &gathered, is_resting) => {}
                () = rest(limits.idle, &gathered, is_done) => {}
            }
        };
        shared.cut.run_until_cancelled(leaving).await;
    }
    let unread = gathered.begun().saturating_sub(served.load(Ordering::Relaxed));
    if let Some(unread) = NonZeroUsize::new(unread) {
        record_unread(&shared, &outer.inside(Arc::clone(&inside)), unread);
    }
}

/// Leaves one record of all requests that the library has refused by itself, or that came when the
/// connection ended: no client can fill the log with them.
fn record_unread(shared: &Shared, peer: &Peer, count: NonZeroUsize) {
    if let Some(permit) = shared.audit.try_reserve() {
        respond::unread(count, &record::open(permit, peer.mode(), peer));
    }
}

fn builder(limits: &Limits) -> Builder<Streams> {
    let mut builder = Builder::new(Streams { idle: limits.idle });
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_LIMIT)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(MISTAKES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING.min(limits.head))
        .keep_alive_timeout(PONG.min(limits.head));
    builder
}

/// Ready when a connection `is_resting` and nothing happened to any of its requests for at least
/// `limit`, and at most twice that.
async fn rest<T: AsyncRead + AsyncWrite + Unpin>(
    limit: Duration,
    gathered: &Gathered<T>,
    is_resting: impl Fn() -> bool,
) {
    let mut looks = interval_at(Instant::now() + limit, limit);
    let mut seen = gathered.moves();
    loop {
        looks.tick().await;
        let moves = gathered.moves();
        if moves == seen && is_resting() {
            return;
        }
        seen = moves;
    }
}

/// States the body's length once, in one spelling, as the library has understood it.
fn state_length(request: &mut Request<Body>) {
    let length = request.body().size_hint().exact().map(HeaderValue::from);
    if let Entry::Occupied(mut stated) = request.headers_mut().entry(CONTENT_LENGTH) {
        match length {
            Some(length) => drop(stated.insert_mult(length)),
            None => drop(stated.remove_entry_mult()),
        }
    }
}

/// Makes one field of the crumbs that a client may send (RFC 9113 §8.2.3): a server that speaks
/// HTTP/1.1 reads only one.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}
