//! The one body type, of requests and responses, in both directions.

mod error;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use nono_audit::{Outcome, Recorder};

use crate::error::Malformed;
use crate::exchange::Peer;
use crate::headers::{is_of_head, strip_trailers};
use crate::idle::Idle;
use crate::layers::limit::Place;
use crate::scrub::Scrubber;
use crate::server::gate::Fault;
use crate::server::http1::{Handover, Intake};
use crate::upstream::{self, Payload};

pub(crate) use error::BodyError;

/// A body on its way. An enum and not a boxed trait object, so that a frame costs no virtual
/// call and a body no allocation.
#[derive(Debug)]
pub(crate) struct Body {
    source: Source,
    /// Counts the bytes, and ends the record when the body of a response ends.
    tap: Tap,
    /// The exchange's place among those that may run at once; free when the body ends.
    place: Option<Place>,
    /// The exchange's place on an upstream connection that it shares; free when the body ends.
    stream: Option<Arc<upstream::Stream>>,
    /// What the record says when this body ended as it should.
    outcome: Outcome,
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    /// Boxed, since bodies are handed on often, and most are empty.
    Wire(Box<Stream>),
}

/// A body that comes from a socket.
#[derive(Debug)]
struct Stream {
    wire: Wire,
    /// Ends it when nothing comes for too long.
    idle: Option<Idle>,
    /// Takes secrets out of it.
    scrubber: Option<Scrubber>,
    /// What came while the scrubber still held bytes, which go first.
    last: Option<Last>,
}

/// How a body ends, if not with its bytes.
#[derive(Debug)]
enum Last {
    Trailers(Box<HeaderMap>),
    Failed(BodyError),
}

/// Who reads it there.
#[derive(Debug)]
enum Wire {
    /// The library: over HTTP/2.
    Library(Incoming),
    /// From a client over HTTP/1.1.
    Client(Intake),
    /// From an upstream over HTTP/1.1.
    Upstream(Payload),
}

#[derive(Debug)]
enum Tap {
    None,
    /// From the client.
    Request(Arc<Recorder>, Arc<Peer>),
    /// To the client.
    Response(ResponseTap),
    /// To the client, but the exchange goes on after it as a tunnel, which ends the record.
    Tunnel(Handover),
}

/// Ends the record of a response with its body, also where that is dropped before its end. Empty
/// once it has.
#[derive(Debug)]
struct ResponseTap(Option<Arc<Recorder>>);

impl ResponseTap {
    fn count(&self, bytes: u64) {
        if let Some(recorder) = &self.0 {
            recorder.add_bytes_out(bytes);
        }
    }

    fn blame(&self, error: &BodyError) {
        if let Some(recorder) = &self.0 {
            recorder.note(|record| record.reason = Some(error.reason()));
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(recorder) = self.0.take() {
            recorder.finish(outcome);
        }
    }
}

impl Drop for ResponseTap {
    fn drop(&mut self) {
        if let Some(recorder) = &self.0 {
            recorder.abandon();
        }
    }
}

impl Body {
    fn new(source: Source) -> Self {
        let outcome = Outcome::Complete;
        Self { source, tap: Tap::None, place: None, stream: None, outcome }
    }

    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::new(Source::Empty)
    }

    /// The bytes of an answer of the proxy's own; the exchange ends with `outcome`.
    pub(crate) fn answer(bytes: impl Into<Bytes>, outcome: Outcome) -> Self {
        Self { outcome, ..Self::new(Source::Full(bytes.into())) }
    }

    /// The body of a request over HTTP/1.1.
    pub(crate) fn intake(intake: Intake) -> Self {
        Self::of(Wire::Client(intake))
    }

    /// The body of a message that the library reads.
    pub(crate) fn incoming(incoming: Incoming) -> Self {
        Self::of(Wire::Library(incoming))
    }

    /// The body of a response over HTTP/1.1.
    pub(crate) fn payload(payload: Payload) -> Self {
        Self::of(Wire::Upstream(payload))
    }

    fn of(wire: Wire) -> Self {
        let stream = Stream { wire, idle: None, scrubber: None, last: None };
        Self::new(Source::Wire(Box::new(stream)))
    }

    /// The empty body of the response that opens a tunnel, to which `handover` gives the client's
    /// side.
    pub(crate) fn tunnel(handover: Handover) -> Self {
        Self { tap: Tap::Tunnel(handover), ..Self::empty() }
    }

    /// What waits for the client's side, if this is the body of a response that opens a tunnel.
    pub(crate) fn take_handover(&mut self) -> Option<Handover> {
        match std::mem::replace(&mut self.tap, Tap::None) {
            Tap::Tunnel(handover) => Some(handover),
            tap => {
                self.tap = tap;
                None
            }
        }
    }

    /// As the body of a response to `HEAD`, which has only a length; returns it.
    pub(crate) fn take_for_head(&mut self) -> Option<u64> {
        let length = self.size_hint().exact();
        if matches!(self.source, Source::Full(_)) {
            self.source = Source::Empty;
        }
        length
    }

    /// Nothing of it is sent, since the message has none: it is at its end, also where its own has not
    /// been told yet.
    pub(crate) fn forgo(mut self) {
        self.settle(self.outcome);
    }

    /// Ends the body when nothing comes for `limit`.
    pub(crate) fn limit_idle(&mut self, limit: Duration) {
        if let Source::Wire(stream) = &mut self.source {
            stream.idle = Some(Idle::new(limit));
        }
    }

    /// Takes secrets out of the body.
    pub(crate) fn scrub(&mut self, scrubber: Scrubber) {
        if let Source::Wire(stream) = &mut self.source {
            stream.scrubber = Some(scrubber);
        }
    }

    /// Holds the exchange's place until the body ends, or is given to another attempt: so also one
    /// without bytes holds it until its record is with it.
    pub(crate) fn hold_place(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Holds the exchange's place on a shared connection until the body ends.
    pub(crate) fn occupy(&mut self, stream: Arc<upstream::Stream>) {
        self.stream = Some(stream);
        self.settle_if_done();
    }

    /// Takes the exchange's place back, for another attempt.
    pub(crate) fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// Counts this request body, which `peer` sends, into `recorder`, if there is anything of it.
    pub(crate) fn tap_request(&mut self, recorder: &Arc<Recorder>, peer: &Arc<Peer>) {
        // Whatever was of the one before, which may have been given up.
        peer.gate.set_awaited(false);
        if !self.is_end_stream() {
            self.tap = Tap::Request(Arc::clone(recorder), Arc::clone(peer));
        }
    }

    /// Notes that no more of it is asked for now, if it is a request's: so its client is not waited
    /// for.
    pub(crate) fn rest(&self) {
        if let Tap::Request(_, peer) = &self.tap {
            peer.gate.set_awaited(false);
        }
    }

    /// Counts this response body into `recorder` and ends the record with it.
    pub(crate) fn tap_response(&mut self, recorder: Arc<Recorder>) {
        if !matches!(self.tap, Tap::Tunnel(_)) {
            self.tap = Tap::Response(ResponseTap(Some(recorder)));
            self.settle_if_done();
        }
    }

    fn count(&self, bytes: u64) {
        match &self.tap {
            Tap::Request(recorder, _) => recorder.add_bytes_in(bytes),
            Tap::Response(tap) => tap.count(bytes),
            Tap::None | Tap::Tunnel(_) => {}
        }
    }

    /// Whether these trailers may not be: those that came over HTTP/1.1 were judged as they came.
    fn refuses(&self, trailers: &HeaderMap) -> bool {
        let Tap::Request(_, peer) = &self.tap else { return false };
        let Some(inside) = &peer.inside else { return false };
        let is_bad = trailers.keys().any(|name| is_of_head(name, &inside.shared.key_headers));
        if is_bad {
            peer.gate.blame(Fault::Malformed(Malformed::TRAILER));
        }
        is_bad
    }

    /// Settles as soon as the last byte is known to have been handed over. That is before it
    /// is written to the socket: whoever has the whole response finds its record in the log,
    /// the place free and the connection in the pool.
    fn settle_if_done(&mut self) {
        if self.is_end_stream() {
            self.settle(self.outcome);
        }
    }

    fn fail(&mut self, error: &BodyError) {
        if let Tap::Response(tap) = &self.tap {
            tap.blame(error);
        }
        self.settle(error.outcome());
    }

    fn settle(&mut self, outcome: Outcome) {
        match &mut self.tap {
            Tap::Response(tap) => tap.finish(outcome),
            Tap::Request(_, peer) if outcome == Outcome::Timeout => peer.gate.blame(Fault::Rested),
            Tap::Request(..) | Tap::None | Tap::Tunnel(_) => {}
        }
        self.place = None;
        self.stream = None;
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut polled = match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Wire(stream) => stream.poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            if this.refuses(trailers) {
                polled = Poll::Ready(Some(Err(BodyError::Client)));
            } else if matches!(this.tap, Tap::Response(_)) {
                strip_trailers(trailers);
            }
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.count(data.len() as u64);
                }
                this.settle_if_done();
            }
            Poll::Ready(Some(Err(error))) => this.fail(error),
            Poll::Ready(None) => this.settle(this.outcome),
            Poll::Pending => {}
        }
        if let Tap::Request(_, peer) = &this.tap {
            peer.gate.set_awaited(polled.is_pending());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Wire(stream) => stream.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // Scrubbing keeps the length.
            Source::Wire(stream) => stream.wire.size_hint(),
        }
    }
}

impl Wire {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Library(body) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                // The library takes a reset with `NO_ERROR` for the end, which it is only behind a
                // whole body (RFC 9113 §8.1).
                if frame.is_none() && !body.is_end_stream() {
                    return Poll::Ready(Some(Err(BodyError::Reset)));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Library)))
            }
            Self::Client(body) => body.poll_frame(cx),
            Self::Upstream(body) => body.poll_frame(cx).map_err(BodyError::Upstream),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Library(body) => body.is_end_stream(),
            Self::Client(body) => body.is_end(),
            Self::Upstream(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Library(body) => body.size_hint(),
            Self::Client(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}

impl Last {
    fn into_frame(self) -> Result<Frame<Bytes>, BodyError> {
        match self {
            Self::Trailers(trailers) => Ok(Frame::trailers(*trailers)),
            Self::Failed(error) => Err(error),
        }
    }
}

impl Stream {
    fn is_end(&self) -> bool {
        let is_holding = self.scrubber.as_ref().is_some_and(Scrubber::is_holding);
        self.wire.is_end() && !is_holding && self.last.is_none()
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(last.into_frame()));
        }
        loop {
            let frame = match self.wire.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(self.end_with(Last::Failed(error))));
                }
                Poll::Ready(None) => return Poll::Ready(self.rest().map(Ok)),
                Poll::Pending => return self.poll_idle(cx),
            };
            if let Some(idle) = &mut self.idle {
                idle.progress();
            }
            if let Some(frame) = self.scrubbed(frame) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    /// Nothing comes: hands on what has been held for long enough, and ends what rests for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(scrubber) = &mut self.scrubber
            && let Poll::Ready(released) = scrubber.poll_release(cx)
        {
            return Poll::Ready(Some(Ok(Frame::data(released))));
        }
        let Some(idle) = &mut self.idle else { return Poll::Pending };
        ready!(idle.poll(cx));
        Poll::Ready(Some(self.end_with(Last::Failed(BodyError::Idle))))
    }

    /// What the scrubber still holds at the end.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        let scrubber = self.scrubber.as_mut().filter(|scrubber| scrubber.is_holding())?;
        Some(Frame::data(scrubber.finish()))
    }

    /// What the body has next when it ends with `last`: what is held goes first.
    fn end_with(&mut self, last: Last) -> Result<Frame<Bytes>, BodyError> {
        let rest = match last {
            Last::Trailers(_) => self.rest(),
            Last::Failed(_) => self
                .scrubber
                .as_mut()
                .map(Scrubber::cut)
                .filter(|rest| !rest.is_empty())
                .map(Frame::data),
        };
        match rest {
            Some(rest) => {
                self.last = Some(last);
                Ok(rest)
            }
            None => last.into_frame(),
        }
    }

    /// The frame without secrets; `None` when all of it is held back.
    fn scrubbed(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let Some(scrubber) = &mut self.scrubber else { return Some(frame) };
        match frame.into_data() {
            Ok(data) => {
                // A sized body ends with its last frame; there is no later one for what is held.
                let is_last = self.wire.is_end();
                let data = if is_last { scrubber.last(data) } else { scrubber.push(data) };
                (!data.is_empty()).then(|| Frame::data(data))
            }
            Err(frame) => {
                let mut trailers = frame.into_trailers().ok()?;
                scrubber.trailers(&mut trailers);
                self.end_with(Last::Trailers(Box::new(trailers))).ok()
            }
        }
    }
}
