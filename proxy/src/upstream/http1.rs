//! HTTP/1.1 towards an upstream: one connection, one exchange at a time, driven by the task of the
//! exchange itself.
//!
//! An own client, and not the library's, which gives each connection a task and two channels: a
//! request then wakes three tasks where one would do, and an idle stream holds twice the memory.
//! What it costs is that reading responses is ours: `head.rs` and `payload.rs` refuse whatever two
//! readers could end in two ways (RFC 9112 §6.3), and all that the library's own client refuses;
//! `agreement.rs` compares the two.

mod head;
mod payload;
mod upload;
#[cfg(feature = "fuzzing")]
pub(crate) mod whole;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead as _, ReadBuf};

use super::line::Line;
use super::{Destination, Opened};
use crate::body::Body;
use crate::error::Upstream as Failure;
use crate::http1::{Stopped, read};

use head::Head;
pub(crate) use payload::{Cut, Payload};
use upload::{Upload, upload};

/// The most interim responses to one request.
const INTERIM_LIMIT: u32 = 32;

/// A connection between two exchanges, or before its first.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Box<Line>,
}

/// What came of a request.
pub(super) enum Reply {
    /// A response, with its body still to be read.
    Response(Response<Payload>),
    /// The upstream speaks another protocol from here on; some of it may have come already.
    Switched(Response<()>, Opened<Box<Line>>),
}

/// Why no response came.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) failure: Failure,
    /// Whether the request can be sent again without being done twice.
    pub(super) is_repeatable: bool,
}

impl Connection {
    pub(super) fn new(line: Line) -> Self {
        Self { io: Box::new(line) }
    }

    /// The upstream's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.io.peer()
    }

    /// Whether it is open and silent, as it must be between two exchanges. Costs no system call
    /// unless something came.
    pub(super) fn is_idle(&mut self) -> bool {
        let read = poll_fn(|cx| {
            let mut byte = [0];
            Pin::new(&mut *self.io).poll_read(cx, &mut ReadBuf::new(&mut byte))
        });
        // A task that has used up its turn would be told that nothing came, whatever did.
        tokio::task::coop::unconstrained(read).now_or_never().is_none()
    }

    /// Sends `request` and reads the head of its response; `interim` is given the heads of
    /// interim ones. Dropping the future closes the connection.
    pub(super) async fn exchange(
        self,
        to: &Destination,
        request: &mut Request<Body>,
        interim: &mut (dyn FnMut(&Response<()>) + Send),
    ) -> Result<Reply, Lost> {
        let is_safe_to_repeat = request.method().is_idempotent() && is_empty(request.body());
        let mut exchange = Exchange {
            io: self.io,
            upload: Some(upload(to, request)),
            came: BytesMut::new(),
            interims: 0,
            write_error: None,
        };
        let method = request.method();
        match poll_fn(|cx| exchange.poll(cx, method, interim)).await {
            Ok(head) => Ok(exchange.into_reply(head)),
            Err(End::Closed(reason)) => {
                Err(Lost { failure: closed(reason.as_ref()), is_repeatable: is_safe_to_repeat })
            }
            Err(End::Failed(failure)) => Err(Lost { failure, is_repeatable: false }),
        }
    }
}

fn is_empty(body: &Body) -> bool {
    http_body::Body::is_end_stream(body)
}

fn closed(reason: Option<&io::Error>) -> Failure {
    let reason = match reason {
        Some(error) => format!("the connection failed before it answered: {error}"),
        None => "it closed the connection before it answered".into(),
    };
    Failure::BadResponse(reason)
}

/// How an exchange ends without a response.
enum End {
    /// The connection, before a byte of the response.
    Closed(Option<io::Error>),
    Failed(Failure),
}

/// A request on its way, until the head of its response is there.
struct Exchange {
    io: Box<Line>,
    /// Empty when all is sent.
    upload: Option<Upload>,
    /// Read, not yet understood.
    came: BytesMut,
    interims: u32,
    /// Why sending stopped. Told only when no response comes: an upstream that refuses a large
    /// body answers, and closes.
    write_error: Option<io::Error>,
}

impl Exchange {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        interim: &mut (dyn FnMut(&Response<()>) + Send),
    ) -> Poll<Result<Head, End>> {
        self.poll_upload(cx).map_err(End::Failed)?;
        loop {
            match head::parse(&mut self.came, method) {
                Ok(Some(head)) if !is_interim(head.response.status()) => {
                    return Poll::Ready(self.judge_head(head));
                }
                Ok(Some(head)) => self.count_interim(&head.response, interim)?,
                Ok(None) => {
                    let came = ready!(read::poll_some(&mut *self.io, cx, &mut self.came));
                    self.judge_end(came)?;
                }
                Err(reason) => return Poll::Ready(Err(bad(reason))),
            }
        }
    }

    /// Sends what can be sent now.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        match upload.poll(&mut *self.io, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Stopped::Body(_))) => return Err(Failure::RequestCut),
            Poll::Ready(Err(Stopped::Write(error))) => self.write_error = Some(error),
        }
        self.upload = None;
        Ok(())
    }

    fn count_interim(
        &mut self,
        head: &Response<()>,
        interim: &mut (dyn FnMut(&Response<()>) + Send),
    ) -> Result<(), End> {
        self.interims += 1;
        if self.interims > INTERIM_LIMIT {
            return Err(bad("it sent too many interim responses"));
        }
        interim(head);
        Ok(())
    }

    /// A tunnel that began within the request would carry the rest of it as its first bytes.
    fn judge_head(&self, head: Head) -> Result<Head, End> {
        let is_sent = self.upload.is_none() && self.write_error.is_none();
        if head.response.status() == StatusCode::SWITCHING_PROTOCOLS && !is_sent {
            return Err(bad("it switched protocols within the request"));
        }
        Ok(head)
    }

    fn judge_end(&mut self, came: io::Result<usize>) -> Result<(), End> {
        match came {
            Ok(1..) => Ok(()),
            Ok(0) if !self.came.is_empty() || self.interims > 0 => {
                Err(bad("it closed the connection within the head of its response"))
            }
            Ok(0) => Err(End::Closed(self.write_error.take())),
            Err(error) if self.came.is_empty() && self.interims == 0 => {
                Err(End::Closed(Some(self.write_error.take().unwrap_or(error))))
            }
            Err(error) => Err(End::Failed(Failure::BadResponse(format!(
                "the connection failed within the head of its response: {error}"
            )))),
        }
    }

    fn into_reply(self, Head { response, body, is_persistent }: Head) -> Reply {
        let Self { io, upload, came, write_error, .. } = self;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Reply::Switched(response, Opened { io, early: came.freeze() });
        }
        let is_persistent = is_persistent && write_error.is_none();
        let payload = Payload::new(io, upload, came, body, is_persistent);
        Reply::Response(response.map(|()| payload))
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn bad(reason: &'static str) -> End {
    End::Failed(Failure::BadResponse(reason.into()))
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
