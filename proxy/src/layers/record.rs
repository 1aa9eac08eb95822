//! Opens the record of every request and sees that it ends; no way out leads around it.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName};
use http::{Method, Request, Response, Version};
use nono_audit::{Mode, Outcome, Permit, Protocol, Recorder, Sender, redact};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::body::Body;
use crate::exchange::{Arrival, Exchange, Form, Peer, Received};
use crate::layers::respond;
use crate::stack::Shared;
use crate::trace;

/// What clients commonly name their requests in.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest such name that is recorded, in bytes.
const LONGEST_REQUEST_ID: usize = 128;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct RecordLayer(pub(crate) Arc<Shared>);

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Record<S> {
        Record { shared: Arc::clone(&self.0), audit: self.0.audit.for_thread(), inner }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Record<S> {
    shared: Arc<Shared>,
    audit: Sender,
    inner: S,
}

impl<S, E> Service<Arrival> for Record<S>
where
    S: Service<Exchange<Received>, Response = Response<Body>, Error = E>,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = RecordFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let Arrival { mut request, peer } = arrival;
        // Reserved before anything happens: what cannot be recorded does not take place.
        let Some(permit) = self.audit.try_reserve() else {
            return RecordFuture::Refused { response: Some(respond::log_full()) };
        };
        let form = Form::of(&request, &peer, self.shared.addr);
        let is_head = *request.method() == Method::HEAD;
        let mode = if form == Form::Tunnel { Mode::Connect } else { peer.mode() };
        let recorder = open(permit, mode, &peer);
        note(&self.shared, &recorder, form, &request);
        if self.shared.settings.otlp.is_some() {
            trace::adopt(request.headers_mut(), &recorder);
        }
        request.body_mut().tap_request(&recorder, &peer);
        let exchange = Exchange {
            request,
            recorder: Arc::clone(&recorder),
            peer,
            place: None,
            stage: Received { form },
        };
        RecordFuture::Running { is_head, inner: self.inner.call(exchange), recorder }
    }
}

/// Opens the record of what came on the connection of `peer`.
pub(crate) fn open(permit: Permit, mode: Mode, peer: &Peer) -> Arc<Recorder> {
    #[cfg(feature = "bench")]
    if crate::bench::Part::Records.is_left_out() {
        return Recorder::silent(permit);
    }
    let recorder = Recorder::open(permit, mode, peer.address.clone());
    if let Some(inside) = &peer.inside {
        recorder.note(|record| inside.note(record));
    }
    recorder
}

/// Notes what is asked for.
fn note(shared: &Shared, recorder: &Recorder, form: Form, request: &Request<Body>) {
    recorder.note(|record| {
        record.method = Some(method_name(request.method(), shared.token.as_bytes()));
        record.protocol = Some(protocol(request.version()));
        record.request_id = request_id(shared, request.headers());
        if let Some(path) = request.uri().path_and_query()
            && form != Form::Tunnel
        {
            let seen =
                redact::path_and_query(path.as_str(), shared.token.as_bytes(), &shared.redacted);
            record.path = Some(seen);
        }
    });
}

/// What the client named the request, if that is short and text.
fn request_id(shared: &Shared, headers: &HeaderMap) -> Option<Box<str>> {
    // A head has few fields: to look through them costs less than the hash of a name.
    let (_, found) = headers.iter().find(|(name, _)| **name == REQUEST_ID)?;
    let text = found.to_str().ok()?;
    let is_harmless = || redact::without(text, shared.token.as_bytes()) == text;
    (text.len() <= LONGEST_REQUEST_ID && is_harmless()).then(|| text.into())
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_10 => Protocol::Http10,
        Version::HTTP_2 => Protocol::Http2,
        _ => Protocol::Http11,
    }
}

/// The method's name without `token`; no allocation for the common ones.
fn method_name(method: &Method, token: &[u8]) -> Cow<'static, str> {
    for known in ["GET", "POST", "CONNECT", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"] {
        if method == known {
            return Cow::Borrowed(known);
        }
    }
    let mut name = redact::without(method.as_str(), token).into_owned();
    redact::cut(&mut name, 32);
    Cow::Owned(name)
}

pin_project! {
    /// The future of [`Record`].
    #[project = RecordFutureProj]
    pub(crate) enum RecordFuture<F> {
        Refused { response: Option<Response<Body>> },
        Running { is_head: bool, #[pin] inner: F, recorder: Arc<Recorder> },
    }
}

impl<F, E> Future for RecordFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            RecordFutureProj::Refused { response } => {
                // A future is not polled again after it was ready, so the answer is there.
                let answer = || Response::new(Body::answer("", Outcome::Refused));
                Poll::Ready(Ok(response.take().unwrap_or_else(answer)))
            }
            RecordFutureProj::Running { is_head, inner, recorder } => {
                let mut response = ready!(inner.poll(cx))?;
                let status = response.status().as_u16();
                recorder.responded(status);
                if *is_head
                    && let Some(length) = response.body_mut().take_for_head()
                    && !response.headers().contains_key(CONTENT_LENGTH)
                    && length > 0
                {
                    response.headers_mut().insert(CONTENT_LENGTH, length.into());
                }
                response.body_mut().tap_response(Arc::clone(recorder));
                Poll::Ready(Ok(response))
            }
        }
    }
}

#[cfg(test)]
mod tests;
