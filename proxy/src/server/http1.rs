//! HTTP/1.1 towards clients: one connection, one exchange at a time, all in the connection's own
//! task.
//!
//! An own server, and not the library's, which cannot be told to refuse what two servers could read
//! in two ways: each head would have to be parsed, judged and copied before it, and parsed again.
//! Here [`head`] is the one reader of what clients send: what it parses is what is judged and sent
//! on. `agreement.rs` compares it with the library's.
//!
//! While an exchange runs, the connection goes on reading, within bounds, to notice that the client
//! leaves; that ends the exchange. What it reads is the next request, which begins when the response
//! has been written. A connection that rests holds no buffer.

mod answer;
mod departure;
pub(crate) mod head;
mod line;
mod socket;
#[cfg(any(feature = "fuzzing", test))]
pub(crate) mod whole;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::body::Body;
use crate::error::Malformed;
use crate::exchange::{Arrival, Peer};
use crate::http1::Stopped;
use crate::idle::{Idle, Timer};
use crate::layers::{record, respond};
use crate::server::spin::{self, Awaited};
use crate::stack::{HttpService, Shared};

use answer::{Answer, answer, opening};
use departure::Departure;
use head::Head;
pub(crate) use line::Intake;
use line::{Came, Line, Writer};
pub(crate) use socket::Socket;

/// A connection that stopped being HTTP.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) io: Socket,
    /// What came of what it is now.
    pub(crate) early: Bytes,
    /// Whose it is. Held, since it says that the connection is in use, and in its place.
    pub(crate) peer: Arc<Peer>,
}

/// Takes such a connection.
pub(crate) type Handover = oneshot::Sender<Switched>;

/// How much is read and thrown away, and for how long, before a connection is closed that more
/// comes on: closing with unread bytes would destroy the answer on its way. Some clients read only
/// when they have written all.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// How long, once the proxy drains: its end must not wait for a client that does not listen.
const LAST_LINGER: Duration = Duration::from_millis(200);

/// Serves the requests that come from `peer` on `socket`.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stack: S, socket: Socket, peer: Arc<Peer>)
where
    S: HttpService,
{
    let mut connection = Connection::new(Arc::clone(&shared), socket, peer);
    let mut serving = pin!(connection.serve(stack));
    // How it ended is in the records of its exchanges.
    if shared.drain.run_until_begun(serving.as_mut()).await.is_none() {
        // It goes on to the end of the exchange that runs.
        shared.cut.run_until_cancelled(serving).await;
    }
}

/// See the module.
struct Connection {
    line: Arc<Line>,
    /// Wakes the connection at the earliest time at which its head can be late.
    timer: Timer,
    /// When waiting for the current head began.
    since: Instant,
    /// Whether the request being served has a body: most have none, of which to read nothing.
    has_body: bool,
    /// Cuts a client that does not take what is written to it.
    patience: Idle,
    /// Made when more has come than is read.
    departure: Option<Departure>,
    /// Interim responses being written.
    interim: BytesMut,
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// The end.
    Close,
    /// The end, once the client has read what was written.
    Linger,
    /// Nothing: the client left, or what it received must not look like a whole response, or the
    /// connection is a tunnel now.
    Gone,
}

impl Connection {
    /// A connection whose every head may take up to its limit, idle time before it included.
    fn new(shared: Arc<Shared>, socket: Socket, peer: Arc<Peer>) -> Self {
        let limits = &shared.settings.limits;
        let since = Instant::now();
        spin::wait_for(Awaited::Request, &peer, since.into_std());
        Self {
            timer: Box::pin(tokio::time::sleep_until(since + limits.head)),
            since,
            has_body: false,
            patience: Idle::new(limits.idle),
            departure: None,
            interim: BytesMut::new(),
            line: Line::new(socket, shared, peer),
        }
    }

    fn shared(&self) -> &Shared {
        &self.line.shared
    }

    async fn serve<S: HttpService>(&mut self, mut stack: S) {
        loop {
            let next = match poll_fn(|cx| self.poll_head(cx)).await {
                Came::Head(head) => self.exchange(&mut stack, head).await,
                Came::Malformed(malformed) => self.refuse(malformed).await,
                Came::End => Next::Close,
            };
            match next {
                Next::Request => {}
                Next::Close => return self.shutdown().await,
                Next::Linger => {
                    self.shutdown().await;
                    return self.linger().await;
                }
                Next::Gone => return,
            }
        }
    }

    /// Waits for a whole head.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        if self.shared().drain.has_begun() {
            return Poll::Ready(Came::End);
        }
        if let Poll::Ready(came) = self.line.poll_head(cx) {
            return Poll::Ready(came);
        }
        ready!(self.poll_late(cx));
        Poll::Ready(if self.line.has_part() {
            Came::Malformed(Malformed::LATE_HEAD)
        } else {
            Came::End
        })
    }

    /// Ready when the time for the current head has passed. The timer is set anew only when it
    /// fires, not for every request.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.since + self.shared().settings.limits.head;
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }

    /// Has a request served, and writes the response.
    async fn exchange<S: HttpService>(&mut self, stack: &mut S, head: Head) -> Next {
        let Head { request, body, said } = head;
        self.has_body = !body.is_done();
        let body = self.line.lend(body, said.expects_continue);
        let arrival = Arrival {
            request: Box::new(request.map(|()| body)),
            peer: Arc::clone(&self.line.peer),
        };
        let Ok(()) = poll_fn(|cx| stack.poll_ready(cx)).await;
        let Some(mut response) = self.respond(stack.call(arrival)).await else {
            return Next::Gone;
        };
        let interim = self.take_interim();
        if let Some(handover) = response.body_mut().take_handover() {
            return self.switch(opening(&response, said, interim.as_deref()), handover).await;
        }
        let is_read =
            !self.has_body || poll_fn(|cx| Poll::Ready(self.line.try_end(cx))).await != Some(false);
        let may_persist = said.is_persistent && is_read && !self.shared().drain.has_begun();
        let (mut answer, is_persistent) = answer(response, said, may_persist, interim.as_deref());
        match self.write(&mut answer).await {
            Some(Ok(())) => {}
            Some(Err(Stopped::Body(_))) => return self.cut(answer, said.is_http_11).await,
            Some(Err(Stopped::Write(_))) | None => return Next::Gone,
        }
        self.end(is_persistent).await
    }

    /// Waits for the response, and relays what comes before it; `None` if the client leaves.
    async fn respond<F>(&mut self, response: F) -> Option<Response<Body>>
    where
        F: Future<Output = Result<Response<Body>, Infallible>>,
    {
        let mut response = pin!(response);
        self.unless_left(|connection, cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(response.ok());
            }
            connection.poll_interim(cx).map(|_failed| None)
        })
        .await
        .flatten()
    }

    /// Does `work` until it is done, or until the client leaves: then `None`.
    async fn unless_left<T>(
        &mut self,
        mut work: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let mut has_begun = false;
        poll_fn(|cx| {
            // Before the work, which may fail for the same reason; but not before it has begun,
            // since most work ends at once.
            let may_have_left = std::mem::replace(&mut has_begun, true) && self.line.has_news();
            if may_have_left && self.line.poll_departure(cx, &mut self.departure).is_ready() {
                return Poll::Ready(None);
            }
            match work(self, cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => self.line.poll_departure(cx, &mut self.departure).map(|()| None),
            }
        })
        .await
    }

    /// Writes interim responses as they come; ready when that fails.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            if self.interim.is_empty() {
                match self.line.peer.gate.take_interim() {
                    Some(interim) => self.interim = interim,
                    None => return Poll::Pending,
                }
            }
            let mut writer = Writer { line: &self.line, patience: &mut self.patience };
            while !self.interim.is_empty() {
                match ready!(Pin::new(&mut writer).poll_write(cx, &self.interim)) {
                    Ok(written) => self.interim.advance(written),
                    Err(error) => return Poll::Ready(error),
                }
            }
            if let Err(error) = ready!(Pin::new(&mut writer).poll_flush(cx)) {
                return Poll::Ready(error);
            }
        }
    }

    /// The interim responses, or the rest of one, that are not written yet.
    fn take_interim(&mut self) -> Option<BytesMut> {
        let more = self.line.peer.gate.take_interim();
        if self.interim.is_empty() {
            return more;
        }
        let mut interim = std::mem::take(&mut self.interim);
        interim.extend_from_slice(&more.unwrap_or_default());
        Some(interim)
    }

    /// Writes a response; `None` if the client leaves meanwhile.
    async fn write(&mut self, answer: &mut Answer) -> Option<Result<(), Stopped>> {
        self.unless_left(|connection, cx| {
            let mut writer = Writer { line: &connection.line, patience: &mut connection.patience };
            answer.poll(&mut writer, cx)
        })
        .await
    }

    /// Ends a response whose body failed. Its head may have waited for the first of the body: it is
    /// what the record says that the client saw.
    async fn cut(&mut self, mut answer: Answer, is_http_11: bool) -> Next {
        answer.cut();
        // It may be too late for that too.
        let _ = self.write(&mut answer).await;
        if !is_http_11 {
            self.line.reset_when_dropped();
        }
        Next::Gone
    }

    /// Hands the connection over to what it is after this response.
    async fn switch(&mut self, mut answer: Answer, handover: Handover) -> Next {
        if let Some(Ok(())) = self.write(&mut answer).await
            && let Some((io, early)) = self.line.take()
        {
            // Who waits for it may have been cut.
            let peer = Arc::clone(&self.line.peer);
            let _ = handover.send(Switched { io, early, peer });
        }
        Next::Gone
    }

    /// What comes behind a response that was written.
    async fn end(&mut self, is_persistent: bool) -> Next {
        let is_read = !self.has_body || poll_fn(|cx| Poll::Ready(self.line.end(cx))).await;
        // What was to be written before the response is too late now.
        let _ = self.take_interim();
        if !is_read || self.line.peer.gate.fault().is_some() {
            return Next::Linger;
        }
        if !is_persistent {
            return if self.line.has_part() { Next::Linger } else { Next::Close };
        }
        self.since = Instant::now();
        spin::wait_for(Awaited::Request, &self.line.peer, self.since.into_std());
        self.departure = None;
        Next::Request
    }

    /// Records and answers a request that cannot be understood.
    async fn refuse(&mut self, malformed: Malformed) -> Next {
        let peer = &self.line.peer;
        let open = |permit| record::open(permit, peer.mode(), peer);
        let recorder = self.shared().audit.try_reserve().map(open);
        let answer = respond::malformed(malformed, recorder.as_deref());
        let mut answer = Answer::new(answer, None);
        let mut writer = Writer { line: &self.line, patience: &mut self.patience };
        // Also to who has closed his side already.
        match poll_fn(|cx| answer.poll(&mut writer, cx)).await {
            Ok(()) => Next::Linger,
            Err(_) => Next::Gone,
        }
    }

    /// Tells the client that nothing more comes.
    async fn shutdown(&mut self) {
        let mut writer = Writer { line: &self.line, patience: &mut self.patience };
        // Fails when the client has left.
        let _ = poll_fn(|cx| Pin::new(&mut writer).poll_shutdown(cx)).await;
    }

    /// Throws away what still comes, until the client has read its answer, within bounds.
    async fn linger(&mut self) {
        self.timer.as_mut().reset(Instant::now() + LINGER);
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            let last = Instant::now() + LAST_LINGER;
            if self.shared().drain.has_begun() && self.timer.deadline() > last {
                self.timer.as_mut().reset(last);
            }
            while left > 0 {
                match self.line.poll_discard(cx) {
                    Poll::Ready(0) => break,
                    Poll::Ready(came) => left = left.saturating_sub(came),
                    Poll::Pending => return self.timer.as_mut().poll(cx),
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Connection {
    /// Closes the connection although the body of a request may be held elsewhere.
    fn drop(&mut self) {
        // Not if it is a tunnel now.
        if self.line.take().is_some() {
            spin::leave(&self.line.peer);
        }
    }
}

#[cfg(test)]
mod agreement;
