//! Relays bytes both ways until both sides have closed; a side that closes early leaves the
//! other one open. A direction that carries much between two sockets is left to the kernel.

mod gather;
#[cfg(target_os = "linux")]
mod pipe;
#[cfg(not(target_os = "linux"))]
#[path = "tunnel/no_pipe.rs"]
mod pipe;
mod side;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use nono_audit::{Outcome, Recorder};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;

use crate::exchange::Peer;
use crate::idle::Idle;
use crate::server::http1::Switched;
use crate::server::spin::{self, Awaited};
use crate::upstream::Opened;

use gather::Gather;
use pipe::Pipe;
pub(crate) use side::Side;

/// How much is read at once where it is copied.
const READ: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// How much a direction moves before others have their turn.
const TURN: u64 = 1024 * 1024;

/// So much of a tunnel is its beginning: handshakes, and a small exchange. To look for what comes
/// then, which may be bulk, would take the processor from those who send it.
const BEGINNING: u64 = 16 * 1024;

/// Runs the tunnel, and says how it ended. It is cut when nothing passes for `idle`.
pub(crate) async fn run<T>(
    client: oneshot::Receiver<Switched>,
    server: Opened<T>,
    recorder: &Recorder,
    idle: Duration,
    cut: &CancellationToken,
) -> Outcome
where
    T: Side,
{
    // It left before its connection was a tunnel.
    let Ok(Switched { io: mut client, early: sent, peer }) = client.await else {
        return Outcome::ClientAbort;
    };
    let Opened { io: mut server, early: received } = server;
    let (mut up, mut down) = (Flow::new(sent), Flow::new(received));
    let mut idle = Idle::new(idle);
    let mut is_new = true;
    let relayed = poll_fn(|cx| {
        let sent = up.poll(cx, &mut client, &mut server, |n| recorder.add_bytes_in(n));
        let received = down.poll(cx, &mut server, &mut client, |n| recorder.add_bytes_out(n));
        let (has_sent, has_received) = (up.take_progress(), down.take_progress());
        if has_sent | has_received {
            idle.progress();
        }
        match (sent, received) {
            (Poll::Ready(Err(Failed::Reading)), _) | (_, Poll::Ready(Err(Failed::Writing))) => {
                Poll::Ready(Outcome::ClientAbort)
            }
            (Poll::Ready(Err(Failed::Writing)), _) | (_, Poll::Ready(Err(Failed::Reading))) => {
                Poll::Ready(Outcome::UpstreamAbort)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Outcome::Complete),
            _ => {
                if has_sent | has_received | std::mem::take(&mut is_new) {
                    let is_asked = has_sent && !has_received;
                    let awaited = if is_asked { Awaited::Response } else { Awaited::Request };
                    look_for(awaited, &up, &down, &peer);
                }
                idle.poll(cx).map(|()| Outcome::Timeout)
            }
        }
    });
    let outcome = cut.run_until_cancelled(relayed).await.unwrap_or(Outcome::Shutdown);
    spin::leave(&peer);
    // What was cut short must not look like the end of what was sent, where there is a way to say so:
    // a stream over HTTP/2 has none. A side that cut it itself knows.
    if !matches!(outcome, Outcome::Complete | Outcome::ClientAbort) {
        client.reset_when_dropped();
    }
    if !matches!(outcome, Outcome::Complete | Outcome::UpstreamAbort) {
        server.reset_when_dropped();
    }
    outcome
}

/// Has the worker look for what comes next if this is a tunnel's beginning, and no longer behind it.
fn look_for(awaited: Awaited, up: &Flow, down: &Flow, peer: &Arc<Peer>) {
    if up.state != State::Open {
        spin::leave(peer);
    } else if down.state == State::Open && up.passed + down.passed <= BEGINNING {
        spin::wait_for(awaited, peer, Instant::now());
    } else {
        spin::come(peer);
    }
}

/// The side of a direction that failed.
#[derive(Debug, Clone, Copy)]
enum Failed {
    Reading,
    Writing,
}

/// One direction.
struct Flow {
    /// What was read and could not be written at once: a tunnel that rests has none.
    buffer: BytesMut,
    /// The same, where the kernel moves the bytes; without one while nothing is in it.
    pipe: Option<Pipe>,
    passed: u64,
    gather: Gather,
    /// Whether the kernel cannot move them.
    must_copy: bool,
    has_progressed: bool,
    needs_flush: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reading side has closed; the writing side is being told.
    Closing,
    Closed,
}

impl Flow {
    /// A direction of which `early` has been read already.
    fn new(early: Bytes) -> Self {
        Self {
            buffer: early.into(),
            pipe: None,
            passed: 0,
            gather: Gather::new(),
            must_copy: false,
            has_progressed: false,
            needs_flush: false,
            state: State::Open,
        }
    }

    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Moves what there is; ready when `from` has closed and `to` has been told.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        count: impl Fn(u64),
    ) -> Poll<Result<(), Failed>>
    where
        R: Side,
        W: Side,
    {
        let end_of_turn = self.passed + TURN;
        while self.state == State::Open {
            if self.passed >= end_of_turn {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            while let Some(written) = self.poll_write(cx, to) {
                match ready!(written) {
                    Ok(written) if written > 0 => self.note(written, &count),
                    _ => return Poll::Ready(Err(Failed::Writing)),
                }
            }
            let Poll::Ready(read) = self.poll_read(cx, from, to, &count) else {
                if self.needs_flush {
                    let flushed = ready!(Pin::new(&mut *to).poll_flush(cx));
                    flushed.map_err(|_| Failed::Writing)?;
                    self.needs_flush = false;
                }
                return Poll::Pending;
            };
            if read? == 0 {
                self.state = State::Closing;
            }
        }
        if self.state == State::Closing {
            ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Failed::Writing)?;
            self.state = State::Closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes some of what was read; `None` when there is nothing.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl Side,
    ) -> Option<Poll<io::Result<usize>>> {
        if !self.buffer.is_empty() {
            let written = Pin::new(to).poll_write(cx, &self.buffer);
            if let Poll::Ready(Ok(written)) = written {
                self.buffer.advance(written);
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
            }
            return Some(written);
        }
        let pipe = self.pipe.as_mut()?;
        // It was filled, so both sides are sockets.
        let written = to.plain().map(|to| pipe.poll_drain(cx, to));
        self.pipe.take_if(|pipe| pipe.is_empty());
        written
    }

    /// Reads more, when all that was read before is written; 0 at the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
        count: &impl Fn(u64),
    ) -> Poll<Result<usize, Failed>> {
        if !Gather::is_bulk(self.passed) {
            return self.poll_copy(cx, from, to, count);
        }
        let spliced = match (from.plain(), to.plain()) {
            (Some(from), Some(_)) if !self.must_copy => self.poll_splice(cx, from),
            _ => None,
        };
        let read = match spliced {
            Some(spliced) => spliced.map_err(|_| Failed::Reading),
            None => self.poll_copy(cx, from, to, count),
        };
        match from.plain() {
            Some(socket) if read.is_ready() => self.gather.come(socket, self.passed),
            Some(socket) => self.gather.wait(cx, socket, self.passed),
            None => {}
        }
        read
    }

    /// Reads through the worker's buffer, and writes what `to` takes at once: most often all.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
        count: &impl Fn(u64),
    ) -> Poll<Result<usize, Failed>> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            buffer.reserve(READ);
            let read = ready!(poll_read_buf(Pin::new(from), cx, buffer));
            let read = read.map_err(|_| Failed::Reading)?;
            if read > 0 {
                let written = match Pin::new(to).poll_write(cx, buffer) {
                    Poll::Ready(Ok(written)) if written > 0 => written,
                    Poll::Ready(_) => return Poll::Ready(Err(Failed::Writing)),
                    Poll::Pending => 0,
                };
                self.note(written, count);
                self.buffer.extend_from_slice(&buffer[written..]);
            }
            Poll::Ready(Ok(read))
        })
    }

    /// Reads into a pipe; `None` where that cannot be done.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
    ) -> Option<Poll<io::Result<usize>>> {
        let mut pipe = Pipe::take()?;
        match pipe.poll_fill(cx, from) {
            // Not every kernel can do it for every socket.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.must_copy = true;
                None
            }
            filled => {
                self.pipe = Some(pipe).filter(|pipe| !pipe.is_empty());
                Some(filled)
            }
        }
    }

    fn note(&mut self, written: usize, count: &impl Fn(u64)) {
        self.has_progressed = true;
        self.needs_flush = true;
        self.passed += written as u64;
        count(written as u64);
    }
}

#[cfg(test)]
mod tests;
