//! The one body type, of requests and responses, in both directions.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use nono_audit::{Outcome, Recorder};

use crate::exchange::Peer;
use crate::layers::limit::Place;
use crate::upstream::Lease;

/// A body on its way. An enum and not a boxed trait object, so that a frame costs no virtual
/// call and a body no allocation.
#[derive(Debug)]
pub(crate) struct Body {
    source: Source,
    /// Counts the bytes, and ends the record when the body of a response ends.
    tap: Tap,
    /// The exchange's place among those that may run at once; free when the body ends.
    place: Option<Place>,
    /// The upstream connection that the body comes from; back to the pool when it ends.
    lease: Option<Lease>,
    /// Lets the connection's next request in when the body ends.
    peer: Option<Arc<Peer>>,
    /// What the record says when this body ended as it should.
    outcome: Outcome,
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
}

#[derive(Debug)]
enum Tap {
    None,
    /// From the client.
    Request(Arc<Recorder>),
    /// To the client.
    Response(ResponseTap),
    /// To the client, but the exchange goes on after it as a tunnel, which ends the record.
    Tunnel,
}

/// Ends the record of a response whose body is dropped before its end.
#[derive(Debug)]
struct ResponseTap(Arc<Recorder>);

impl Drop for ResponseTap {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Body {
    fn new(source: Source) -> Self {
        Self {
            source,
            tap: Tap::None,
            place: None,
            lease: None,
            peer: None,
            outcome: Outcome::Complete,
        }
    }

    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::new(Source::Empty)
    }

    /// The bytes of an answer of the proxy's own; the exchange ends with `outcome`.
    pub(crate) fn answer(bytes: impl Into<Bytes>, outcome: Outcome) -> Self {
        Self { outcome, ..Self::new(Source::Full(bytes.into())) }
    }

    /// The body of a message that hyper reads from a socket.
    pub(crate) fn incoming(incoming: Incoming) -> Self {
        Self::new(Source::Incoming(incoming))
    }

    /// The empty body of the response that opens a tunnel.
    pub(crate) fn tunnel() -> Self {
        Self { tap: Tap::Tunnel, ..Self::empty() }
    }

    /// Holds the exchange's place until the body ends.
    pub(crate) fn hold_place(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Holds the upstream connection until the body ends.
    pub(crate) fn hold_lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
        self.settle_if_done();
    }

    /// Counts this request body into `recorder`.
    pub(crate) fn tap_request(&mut self, recorder: Arc<Recorder>) {
        self.tap = Tap::Request(recorder);
    }

    /// Counts this response body into `recorder` and ends the record with it.
    pub(crate) fn tap_response(&mut self, recorder: Arc<Recorder>) {
        if !matches!(self.tap, Tap::Tunnel) {
            self.tap = Tap::Response(ResponseTap(recorder));
            self.settle_if_done();
        }
    }

    /// As the body of the response that the connection of `peer` waits for.
    pub(crate) fn guarded_by(mut self, peer: Arc<Peer>) -> Self {
        if matches!(self.tap, Tap::Tunnel) {
            peer.gate.switch();
        } else {
            self.peer = Some(peer);
            self.settle_if_done();
        }
        self
    }

    fn count(&self, bytes: u64) {
        match &self.tap {
            Tap::Request(recorder) => recorder.add_bytes_in(bytes),
            Tap::Response(tap) => tap.0.add_bytes_out(bytes),
            Tap::None | Tap::Tunnel => {}
        }
    }

    /// Settles as soon as the last byte is known to have been handed over. That is before it
    /// is written to the socket: whoever has the whole response finds its record in the log,
    /// the place free and the connection in the pool.
    fn settle_if_done(&mut self) {
        if http_body::Body::is_end_stream(self) {
            self.settle(self.outcome);
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Tap::Response(tap) = &self.tap {
            tap.0.finish(outcome);
        }
        self.place = None;
        if let Some(peer) = self.peer.take() {
            peer.gate.release();
        }
        match self.lease.take() {
            Some(lease) if outcome == Outcome::Complete => lease.give_back(),
            _ => {}
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let polled = match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Full(_) => match std::mem::replace(&mut this.source, Source::Empty) {
                Source::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Source::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.count(data.len() as u64);
                }
                this.settle_if_done();
            }
            Poll::Ready(Some(Err(_))) => this.settle(Outcome::UpstreamAbort),
            Poll::Ready(None) => this.settle(this.outcome),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Incoming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Incoming(incoming) => incoming.size_hint(),
        }
    }
}
