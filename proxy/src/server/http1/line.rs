//! A client's connection, as its task and the body of its request share it: at any time one of the
//! two reads. Only the task writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::departure::Departure;
use super::head::{self, Head};
use super::socket::Socket;
use crate::body::{Body, BodyError};
use crate::error::Malformed;
use crate::exchange::Peer;
use crate::headers::is_of_head;
use crate::http1::{Framing, HEAD_LIMIT, Part, read};
use crate::idle::Idle;
use crate::server::gate::Fault;
use crate::stack::Shared;

/// How much of a body that nobody wants is read, so that its connection can serve on.
const DRAIN: usize = 64 * 1024;

/// What a client is told that waits to be asked for its body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    inner: Mutex<Inner>,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
}

#[derive(Debug)]
struct Inner {
    /// `None` once the connection is a tunnel's.
    socket: Option<Socket>,
    /// Read, not yet understood.
    came: BytesMut,
    /// What is still to come of the request's body.
    body: Framing,
    /// Counts the exchanges.
    exchange: u64,
    /// Whether it is the body of this exchange that reads, and not the task.
    is_lent: bool,
    /// Whether that was asked for anything yet.
    is_asked: bool,
}

/// What came of waiting for a request.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
pub(super) enum Came {
    Head(Head),
    Malformed(Malformed),
    /// The client has closed, or its sending side.
    End,
}

impl Line {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>, peer: Arc<Peer>) -> Arc<Self> {
        let inner = Inner {
            socket: Some(socket),
            came: BytesMut::new(),
            body: Framing::DONE,
            exchange: 0,
            is_lent: false,
            is_asked: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), shared, peer })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic leaves behind is not read on: the task ends with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next head.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Came> {
        let mut inner = self.lock();
        loop {
            match head::parse(&mut inner.came) {
                Ok(Some(head)) => return Poll::Ready(Came::Head(head)),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Came::Malformed(malformed)),
            }
            if !matches!(ready!(inner.poll_read(cx)), Ok(1..)) {
                return Poll::Ready(Came::End);
            }
        }
    }

    /// Whether a part of a head is there.
    pub(super) fn has_part(&self) -> bool {
        !self.lock().came.is_empty()
    }

    /// The body that `framing` announces, to be read by whoever has it.
    pub(super) fn lend(self: &Arc<Self>, framing: Framing, expects_continue: bool) -> Body {
        if framing.is_done() {
            return Body::empty();
        }
        let mut inner = self.lock();
        inner.tidy();
        inner.body = framing;
        inner.exchange += 1;
        inner.is_lent = true;
        inner.is_asked = false;
        Body::intake(Intake {
            exchange: inner.exchange,
            left: framing.left(),
            is_end: false,
            expects_continue,
            line: Arc::clone(self),
        })
    }

    /// Whether something may have come since the client was last read from.
    pub(super) fn has_news(&self) -> bool {
        self.lock().socket.as_ref().is_some_and(Socket::has_news)
    }

    /// While an exchange runs: ready when the client leaves. Until the body is asked for, what comes
    /// of it is read here, too.
    pub(super) fn poll_departure(
        &self,
        cx: &mut Context<'_>,
        departure: &mut Option<Departure>,
    ) -> Poll<()> {
        let mut inner = self.lock();
        if inner.is_lent {
            self.peer.gate.register(cx);
            if inner.is_asked {
                // Who has the body notices.
                return Poll::Pending;
            }
        }
        while inner.came.len() <= HEAD_LIMIT {
            if !matches!(ready!(inner.poll_read(cx)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        // A client that sends ahead is not read from past this bound.
        let watched = match departure {
            Some(departure) => departure,
            none => match inner.socket.as_ref().map(Socket::watch) {
                Some(Ok(watched)) => none.insert(watched),
                // It cannot be known then, for want of a descriptor.
                Some(Err(_)) => return Poll::Pending,
                None => return Poll::Ready(()),
            },
        };
        watched.poll(cx)
    }

    /// Whether the request was read to its end, or is after this, because little was left of it
    /// and has come. `None` while its body is still being read.
    pub(super) fn try_end(&self, cx: &mut Context<'_>) -> Option<bool> {
        self.lock().try_end(cx)
    }

    /// As [`Line::try_end`], at the end of the exchange: whoever still has its body gets no more.
    pub(super) fn end(&self, cx: &mut Context<'_>) -> bool {
        let mut inner = self.lock();
        inner.is_lent = false;
        inner.try_end(cx).unwrap_or_default()
    }

    /// Throws away what has come; how much, and 0 at the end.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut inner = self.lock();
        inner.came.clear();
        inner.poll_read(cx).map(Result::unwrap_or_default)
    }

    /// The connection, for a tunnel, and what came of that already.
    pub(super) fn take(&self) -> Option<(Socket, Bytes)> {
        let mut inner = self.lock();
        Some((inner.socket.take()?, inner.came.split().freeze()))
    }

    /// Lets the task of the connection read again, if it is the body of `exchange` that does.
    fn give_back(&self, inner: &mut Inner, exchange: u64) {
        if inner.exchange == exchange && std::mem::take(&mut inner.is_lent) {
            inner.tidy();
            self.peer.gate.wake();
        }
    }

    /// Trailers must not say again what was judged in the head.
    fn judge_trailers(&self, trailers: &HeaderMap) -> Result<(), BodyError> {
        let is_bad = trailers.keys().any(|name| is_of_head(name, &self.shared.key_headers));
        if is_bad { Err(self.blame(Malformed::TRAILER)) } else { Ok(()) }
    }

    fn blame(&self, malformed: Malformed) -> BodyError {
        self.peer.gate.blame(Fault::Malformed(malformed));
        BodyError::Client
    }

    /// Has the connection end in a way that cannot be taken for the end of a response.
    pub(super) fn reset_when_dropped(&self) {
        if let Some(socket) = &self.lock().socket {
            socket.reset_when_dropped();
        }
    }
}

impl Inner {
    /// Gives memory back that holds nothing: an exchange can take long, and a connection rest.
    fn tidy(&mut self) {
        if self.came.is_empty() {
            self.came = BytesMut::new();
        }
    }

    /// See [`Line::try_end`].
    fn try_end(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        if self.is_lent {
            return None;
        }
        let mut drained = 0;
        while !self.body.is_done() {
            let before = self.came.len();
            match self.body.next(&mut self.came) {
                Ok(Some(_)) => drained += before - self.came.len(),
                Ok(None) if drained < DRAIN => {
                    if !matches!(self.poll_read(cx), Poll::Ready(Ok(1..))) {
                        return Some(false);
                    }
                }
                Ok(None) | Err(_) => return Some(false),
            }
        }
        Some(true)
    }

    /// Reads what there is; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Some(socket) => read::poll_some(socket, cx, &mut self.came),
            None => Poll::Ready(Ok(0)),
        }
    }
}

/// Writes to the connection; fails when the client takes nothing for too long.
pub(super) struct Writer<'a> {
    pub(super) line: &'a Line,
    pub(super) patience: &'a mut Idle,
}

impl Writer<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Socket>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.line.lock().socket {
            Some(socket) => write(Pin::new(socket), cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        if written.is_pending() {
            return self.patience.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        self.patience.progress();
        written
    }
}

impl AsyncWrite for Writer<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |socket, cx| socket.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |socket, cx| socket.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |socket, cx| socket.poll_flush(cx).map_ok(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |socket, cx| socket.poll_shutdown(cx).map_ok(|()| 0)).map_ok(drop)
    }
}

/// The body of a request, read from its connection by whoever polls it.
#[derive(Debug)]
pub(crate) struct Intake {
    line: Arc<Line>,
    /// The exchange that it belongs to.
    exchange: u64,
    /// How much is still to come, if that is known.
    left: Option<u64>,
    is_end: bool,
    /// Whether the client waits to be asked for it.
    expects_continue: bool,
}

impl Intake {
    /// Whether all was read.
    pub(crate) fn is_end(&self) -> bool {
        self.is_end
    }

    /// The length, as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The next part of the body. What is wrong with one that fails is noted at the gate.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { line, exchange, left, is_end, expects_continue } = self;
        if *is_end {
            return Poll::Ready(None);
        }
        let mut inner = line.lock();
        if !inner.is_lent || inner.exchange != *exchange {
            return Poll::Ready(Some(Err(BodyError::Client)));
        }
        inner.is_asked = true;
        loop {
            let Inner { body, came, .. } = &mut *inner;
            let part = body.next(came).map_err(|wrong| line.blame(wrong.into()))?;
            *left = body.left();
            if body.is_done() {
                *is_end = true;
                line.give_back(&mut inner, *exchange);
            }
            match part {
                Some(Part::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Part::End(None)) => return Poll::Ready(None),
                Some(Part::End(Some(trailers))) => {
                    let judged = line.judge_trailers(&trailers).map(|()| Frame::trailers(trailers));
                    return Poll::Ready(Some(judged));
                }
                None => {}
            }
            if std::mem::take(expects_continue) && inner.came.is_empty() {
                line.peer.gate.interim(CONTINUE);
            }
            if !matches!(ready!(inner.poll_read(cx)), Ok(1..)) {
                line.peer.gate.blame(Fault::Left);
                return Poll::Ready(Some(Err(BodyError::Client)));
            }
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if !self.is_end {
            self.line.give_back(&mut self.line.lock(), self.exchange);
        }
    }
}
