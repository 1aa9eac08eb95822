//! Makes responses of errors; what each one says is in its [`table`].
//!
//! Every refusal is a JSON object `{error, code, message, hint, request_id}` and carries a
//! `Proxy-Status` field (RFC 9209). Neither says anything of the upstream's or the policy's
//! insides to a client that has not shown the session token.

mod listed;
mod table;

pub use listed::{Listed, refusals};

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{
    ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use nono_audit::{Decision, Recorder};
use pin_project_lite::pin_project;
use serde_json::json;
use tower::{Layer, Service};

use crate::body::Body;
use crate::error::{Error, Malformed, Refusal, Upstream};
use crate::exchange::{Exchange, Peer, Received};
use crate::server::gate::Fault;

use table::Row;

pub(crate) use table::code;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// When a client for which there was no place may try again.
const RETRY_SECONDS: &str = "1";

/// What is asked for with the usual methods; others are passed on as well, but for `TRACE`.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RespondLayer;

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond { inner }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Respond<S> {
    inner: S,
}

impl<S> Service<Exchange<Received>> for Respond<S>
where
    S: Service<Exchange<Received>, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RespondFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // No layer fails to be ready; if one did, its call would fail again and be answered.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, exchange: Exchange<Received>) -> Self::Future {
        let (recorder, peer) = (Arc::clone(&exchange.recorder), Arc::clone(&exchange.peer));
        RespondFuture { inner: self.inner.call(exchange), recorder, peer }
    }
}

pin_project! {
    /// The future of [`Respond`].
    pub(crate) struct RespondFuture<F> {
        #[pin]
        inner: F,
        recorder: Arc<Recorder>,
        peer: Arc<Peer>,
    }
}

impl<F> Future for RespondFuture<F>
where
    F: Future<Output = Result<Response<Body>, Error>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        Poll::Ready(Ok(answered.unwrap_or_else(|error| respond(&error, this.recorder, this.peer))))
    }
}

fn respond(error: &Error, recorder: &Recorder, peer: &Peer) -> Response<Body> {
    let row = match (error, peer.gate.fault()) {
        // A request that the client did not send whole fails at the upstream, but not for it.
        (Error::Upstream(_), Some(Fault::Malformed(Malformed { status, reason }))) => {
            Row::malformed(status, reason)
        }
        (Error::Upstream(_), Some(Fault::Left)) => Row::cut(),
        (Error::Upstream(_), Some(Fault::Rested)) => Row::rested(),
        _ => Row::of(error, recorder),
    };
    note(&row, recorder);
    if let Error::Denied(rule) = error {
        recorder.note(|record| record.rule = Some(rule.clone()));
    }
    let mut response = render(&row, &recorder.id().to_string());
    let told = match error {
        Error::Refused(Refusal::NoProxyToken) => Some((PROXY_AUTHENTICATE, "Basic realm=\"nono\"")),
        Error::Refused(Refusal::NoRouteToken | Refusal::TokenMisplaced) => {
            Some((WWW_AUTHENTICATE, "Bearer realm=\"nono\""))
        }
        Error::Refused(Refusal::Method) => Some((ALLOW, METHODS)),
        Error::Refused(Refusal::OverLimit) | Error::Upstream(Upstream::Busy) => {
            Some((RETRY_AFTER, RETRY_SECONDS))
        }
        _ => None,
    };
    response
        .headers_mut()
        .extend(told.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// The bytes of the answer to what cannot be understood as a request.
pub(crate) fn malformed(malformed: Malformed, recorder: Option<&Recorder>) -> Vec<u8> {
    last_words(&Row::malformed(malformed.status, malformed.reason), recorder)
}

/// The bytes of the answer to a connection for which there is no place.
pub(crate) fn no_socket(recorder: Option<&Recorder>) -> Vec<u8> {
    last_words(&Row::no_socket(), recorder)
}

/// A whole response that ends its connection, with its record.
fn last_words(row: &Row, recorder: Option<&Recorder>) -> Vec<u8> {
    let request_id = recorder.map(|recorder| recorder.id().to_string()).unwrap_or_default();
    let mut head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\nconnection: close\r\nproxy-status: {}\r\n",
        row.status,
        proxy_status(row),
    );
    let body = json_body(row, &request_id);
    if row.status == StatusCode::SERVICE_UNAVAILABLE {
        let _ = write!(head, "retry-after: {RETRY_SECONDS}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n{body}", body.len());
    if let Some(recorder) = recorder {
        note(row, recorder);
        recorder.note(|record| record.status = Some(row.status.as_u16()));
        recorder.finish(row.outcome);
    }
    head.into_bytes()
}

/// Notes `count` requests over HTTP/2 of which the layers saw nothing.
pub(crate) fn unread(count: NonZeroUsize, recorder: &Recorder) {
    let row = Row::unread(count);
    note(&row, recorder);
    recorder.finish(row.outcome);
}

/// The answer to a request for which no place is left in the audit log, and so no record.
pub(crate) fn log_full() -> Response<Body> {
    render(&Row::log_full(), "")
}

fn note(row: &Row, recorder: &Recorder) {
    recorder.note(|record| {
        record.decision = Decision::Deny;
        record.denial_category = Some(row.category);
        record.reason = Some(row.message.clone().into());
    });
}

fn render(row: &Row, request_id: &str) -> Response<Body> {
    let mut response = Response::new(Body::answer(json_body(row, request_id), row.outcome));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Both parts are words of the table, so this is always a header's value.
    headers.extend(proxy_status(row).parse().map(|status| (PROXY_STATUS, status)));
    response
}

fn json_body(row: &Row, request_id: &str) -> String {
    let body = json!({
        "error": row.status.canonical_reason(),
        "code": row.code,
        "message": row.message,
        "hint": row.hint,
        "request_id": request_id,
    });
    body.to_string()
}

fn proxy_status(row: &Row) -> String {
    format!("nono; error={}; details=\"{}\"", row.proxy_status(), row.code)
}
