//! Stands between a client's socket and the HTTP library, and passes on only what has one
//! meaning: whole, well-formed heads, and the bodies that they announce.
//!
//! A head is held back until the exchange before it is over, so that what follows a `CONNECT` is
//! never taken for a request, and a malformed request is answered after the answers due before
//! it. The guard writes that answer itself, since the library would send one without a word.
//! It also keeps the time limit for heads, with one timer for the connection's whole life.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use nono_audit::Recorder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::exchange::Peer;
use crate::idle::Idle;
use crate::layers::respond;
use crate::stack::Shared;

use super::departure::{Departure, Watch};
use super::framing::{self, Framing, HEAD_LIMIT, Malformed};
use super::gate::{BUSY, Fault, IDLE};

/// How much is read and thrown away, and for how long, before a connection whose request was
/// refused is closed: closing with unread bytes would destroy the answer on its way. Some
/// clients read only when they have written all.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// How long, once the proxy drains: its end must not wait for a client that does not listen.
const LAST_LINGER: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct Guard<T> {
    io: T,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    state: State,
    /// Read from the socket, not yet passed on.
    held: BytesMut,
    /// Made when more is held than should be.
    departure: Option<Departure>,
    /// Interim responses being written.
    interim: BytesMut,
    /// Wakes the connection at the earliest time at which its head can be late.
    timer: Pin<Box<Sleep>>,
    /// When waiting for the current head began.
    since: Instant,
    /// Cuts a client that does not take what is written to it.
    patience: Idle,
    /// Whether `since` must be set anew once the exchange is over.
    was_busy: bool,
}

enum State {
    /// Between requests, or in a head.
    Head,
    /// Passing on a request: so many bytes of `held` first, then what comes of its body.
    Passing { ready: usize, body: Framing },
    /// Everything passes: the connection is a tunnel.
    Switched,
    /// The answer to a malformed request is due.
    Refused { answer: Bytes },
    /// Throwing away what still comes, until the client has read the answer.
    Lingering { left: usize },
    /// A body turned out to be malformed; the library is told that it ended.
    Broken,
    /// Nothing more comes.
    Ended,
}

impl<T> Guard<T> {
    /// Guards `io`; each head may take up to its limit, idle time before it included.
    pub(crate) fn new(io: T, peer: Arc<Peer>, shared: Arc<Shared>) -> Self {
        let limits = &shared.settings.limits;
        let since = Instant::now();
        Self {
            io,
            peer,
            state: State::Head,
            held: BytesMut::new(),
            departure: None,
            interim: BytesMut::new(),
            timer: Box::pin(tokio::time::sleep_until(since + limits.head)),
            since,
            patience: Idle::new(limits.idle),
            was_busy: false,
            shared,
        }
    }

    /// What is guarded, and what was read of it but not passed on.
    pub(crate) fn into_parts(self) -> (T, BytesMut) {
        (self.io, self.held)
    }

    /// Records a request that cannot be understood; its answer is due.
    fn turn_away(&mut self, Malformed { status, reason }: Malformed) {
        let open =
            |permit| Recorder::open(permit, self.peer.mode(), Arc::clone(&self.peer.address));
        let recorder = self.shared.audit.try_reserve().map(open);
        let answer = respond::malformed(status, reason, recorder.as_deref());
        self.state = State::Refused { answer };
    }

    /// Whether the time for the current head has passed. The timer is set anew only when it
    /// fires, not for every request.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.since + self.shared.settings.limits.head;
        while self.timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(due);
        }
        false
    }

    /// The library sees a body that ends too early, and its request fails.
    fn break_off(&mut self, fault: Fault) {
        self.peer.gate.blame(fault);
        self.state = match fault {
            Fault::Malformed(_) => State::Broken,
            Fault::Left | Fault::Rested => State::Ended,
        };
    }

    /// Passes on the head that is held, as far as there is room; true when it is through.
    fn pass_head(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let State::Passing { ready, .. } = self.state else {
            return true;
        };
        let left = ready - self.pass_held(ready, out);
        if let State::Passing { ready, .. } = &mut self.state {
            *ready = left;
        }
        left == 0
    }

    /// Passes on what is held, as far as there is room.
    fn pass_held(&mut self, most: usize, out: &mut ReadBuf<'_>) -> usize {
        let taken = most.min(self.held.len()).min(out.remaining());
        out.put_slice(&self.held[..taken]);
        self.held.advance(taken);
        taken
    }
}

impl<T: AsyncRead + Watch + Unpin> Guard<T> {
    /// Reads into `out` and takes what came back out of it, into `held`. `None` at the end.
    fn poll_hold(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let came = &out.filled()[before..];
        let is_open = !came.is_empty();
        self.held.extend_from_slice(came);
        out.set_filled(before);
        Poll::Ready(Ok(is_open))
    }

    /// While an exchange runs, only notices that the client leaves; that ends the exchange.
    fn poll_busy(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.peer.gate.register(cx);
        if self.peer.gate.phase() != BUSY {
            // Released between the look and the registration.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.held.len() <= HEAD_LIMIT {
            if !ready!(self.poll_hold(cx, out))? {
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
        }
        // A client that sends ahead is not read from past this bound.
        let departure = match &mut self.departure {
            Some(departure) => departure,
            none => none.insert(self.io.watch()?),
        };
        ready!(departure.poll(cx));
        self.state = State::Ended;
        Poll::Ready(Ok(()))
    }

    /// Waits for a whole head.
    fn poll_head(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.was_busy) {
            self.since = Instant::now();
            self.departure = None;
        }
        loop {
            match framing::head(&self.held) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    self.peer.gate.occupy();
                    self.was_busy = true;
                    self.state = State::Passing { ready: head.length, body: head.body };
                    return Poll::Ready(Ok(()));
                }
                Err(malformed) => {
                    self.turn_away(malformed);
                    return Poll::Ready(Ok(()));
                }
            }
            match self.poll_hold(cx, out)? {
                Poll::Ready(true) => {}
                Poll::Pending if !self.is_late(cx) => return Poll::Pending,
                Poll::Pending if !self.held.is_empty() => {
                    self.turn_away(Malformed { status: 408, reason: "its head took too long" });
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(false) | Poll::Pending => {
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Passes on the bytes of one request and keeps what follows.
    fn poll_pass(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        if !self.pass_head(out) {
            return Poll::Ready(Ok(()));
        }
        let body_begins = out.filled().len();
        let State::Passing { body, .. } = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        if *body == Framing::Done {
            return Poll::Ready(Ok(()));
        }
        if !self.held.is_empty() {
            let taken = self.held.len().min(out.remaining());
            out.put_slice(&self.held[..taken]);
            self.held.advance(taken);
        } else if body_begins == before {
            ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
            if out.filled().len() == before {
                self.break_off(Fault::Left);
                return Poll::Ready(Ok(()));
            }
        }
        let came = &out.filled()[body_begins..];
        let taken = match body.advance(came, &self.shared.key_headers) {
            Ok(taken) => taken,
            Err(malformed) => {
                out.set_filled(body_begins);
                self.break_off(Fault::Malformed(malformed));
                return Poll::Ready(Ok(()));
            }
        };
        let surplus = &out.filled()[body_begins + taken..];
        if !surplus.is_empty() {
            let mut surplus = BytesMut::from(surplus);
            surplus.unsplit(std::mem::take(&mut self.held));
            self.held = surplus;
            out.set_filled(body_begins + taken);
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what still comes, within bounds.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let last = Instant::now() + LAST_LINGER;
        if self.shared.drain.has_begun() && self.timer.deadline() > last {
            self.timer.as_mut().reset(last);
        }
        let mut scratch = [0; 8 * 1024];
        loop {
            let State::Lingering { left } = &mut self.state else {
                return Poll::Ready(());
            };
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && *left > 0 => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                Poll::Pending if self.timer.as_mut().poll(cx).is_pending() => return Poll::Pending,
                _ => {
                    self.state = State::Ended;
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<T: AsyncRead + Watch + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.state {
                State::Passing { ready: 0, body: Framing::Done } => this.state = State::Head,
                State::Passing { .. } => {
                    let before = out.filled().len();
                    ready!(this.poll_pass(cx, out))?;
                    let is_ended = matches!(this.state, State::Ended | State::Broken);
                    if is_ended || out.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Head => match this.peer.gate.phase() {
                    IDLE => ready!(this.poll_head(cx, out))?,
                    BUSY => ready!(this.poll_busy(cx, out))?,
                    _ => this.state = State::Switched,
                },
                State::Switched if this.held.is_empty() => {
                    return Pin::new(&mut this.io).poll_read(cx, out);
                }
                State::Switched => {
                    this.pass_held(usize::MAX, out);
                    return Poll::Ready(Ok(()));
                }
                // To the library the client has closed; the answer follows in `poll_shutdown`.
                State::Refused { .. } | State::Lingering { .. } | State::Broken | State::Ended => {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Guard<T> {
    /// The result of a write; an error when the client has taken nothing for too long.
    fn unless_stuck(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(_) => self.patience.progress(),
            Poll::Pending => ready!(self.patience.poll(cx)),
        }
        match written {
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            done @ Poll::Ready(_) => done,
        }
    }

    /// Writes the interim responses that wait.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() && self.peer.gate.has_interim() {
            self.interim = self.peer.gate.lock_interim().split();
        }
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.interim))?;
            self.interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Watch + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.unless_stuck(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.unless_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Refused { answer } if !answer.is_empty() => {
                    let written = ready!(Pin::new(&mut this.io).poll_write(cx, answer))?;
                    answer.advance(written);
                }
                // The rest of a request that was answered before its end, or refused.
                State::Refused { .. } | State::Passing { .. } | State::Broken => {
                    ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                    this.timer.as_mut().reset(Instant::now() + LINGER);
                    this.state = State::Lingering { left: LINGER_BYTES };
                }
                State::Lingering { .. } => {
                    ready!(this.poll_linger(cx));
                    return Poll::Ready(Ok(()));
                }
                State::Head | State::Switched | State::Ended => {
                    return Pin::new(&mut this.io).poll_shutdown(cx);
                }
            }
        }
    }
}
