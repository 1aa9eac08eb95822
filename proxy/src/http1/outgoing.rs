//! Writes a message: its head, and its body as it comes from the other side of the proxy.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::fields::{self, Text};
use crate::body::{Body, BodyError};

/// Data is copied behind the head if both have room in this: one piece costs the kernel less than
/// several, by more than the copy costs. It is less than a page, in which heads with a secret are.
const ONE_PIECE: usize = 4000;

/// See the module. `H` holds the head.
#[derive(Debug)]
pub(crate) struct Outgoing<H> {
    /// What is still to come of the body.
    body: Option<Body>,
    is_chunked: bool,
    takes_trailers: bool,
    outbox: Outbox<H>,
    /// Whether the other end takes nothing now. The body is not asked for more then: what it gave
    /// would gather here.
    is_stalled: bool,
}

/// Why a message was not written to its end.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Its body failed.
    Body(BodyError),
    /// The other end takes no more.
    Write(io::Error),
}

impl<H: Text> Outgoing<H> {
    /// The message that begins with `head`, and goes on with `body` as it comes.
    pub(crate) fn new(head: H, body: Option<Body>) -> Self {
        let outbox = Outbox { head, written: 0, data: Bytes::new(), tail: Vec::new() };
        Self { body, is_chunked: false, takes_trailers: false, outbox, is_stalled: false }
    }

    /// Writes the body in the chunked coding, which its head must announce.
    pub(crate) fn chunked(self, takes_trailers: bool) -> Self {
        Self { is_chunked: self.body.is_some(), takes_trailers, ..self }
    }

    /// Gives the body up, which has failed: what is left to write is what there is of the message.
    pub(crate) fn cut(&mut self) {
        self.body = None;
    }

    /// Writes on; ready when all is written.
    pub(crate) fn poll<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>>
    where
        T: AsyncWrite + Unpin,
    {
        loop {
            // Asked before writing, so that the first of the body goes out with the head.
            let is_waiting = match &mut self.body {
                Some(body) if self.outbox.has_room() && !self.is_stalled => {
                    match Pin::new(body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            self.put(frame);
                            false
                        }
                        Poll::Ready(Some(Err(error))) => {
                            return Poll::Ready(Err(Stopped::Body(error)));
                        }
                        Poll::Ready(None) => {
                            self.end();
                            false
                        }
                        Poll::Pending => true,
                    }
                }
                _ => false,
            };
            let written = self.outbox.poll_write(io, cx);
            self.is_stalled = written.is_pending();
            if let (true, Some(body)) = (self.is_stalled, &self.body) {
                body.rest();
            }
            ready!(written).map_err(Stopped::Write)?;
            if self.body.is_none() || is_waiting {
                ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Stopped::Write)?;
                return if is_waiting { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    fn put(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.outbox.put_data(data, self.is_chunked);
                // Known before the next poll, so that the end goes out with the last of the data.
                if self.body.as_ref().is_some_and(Body::is_end_stream) {
                    self.end();
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.end_with(if self.takes_trailers { Some(&trailers) } else { None });
            }
        }
    }

    fn end(&mut self) {
        self.end_with(None);
    }

    fn end_with(&mut self, trailers: Option<&HeaderMap>) {
        self.body = None;
        if self.is_chunked {
            self.outbox.put_last(trailers);
        }
    }
}

/// What is to be written: at most a head, a chunk, and what is behind it. What is short stands in
/// the head.
struct Outbox<H> {
    head: H,
    /// How much of `head` is written.
    written: usize,
    data: Bytes,
    tail: Vec<u8>,
}

impl<H> fmt::Debug for Outbox<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<H: Text> Outbox<H> {
    fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty()
    }

    fn put_data(&mut self, data: Bytes, is_chunked: bool) {
        // A chunk of no bytes would be the end.
        let is_chunk = is_chunked && !data.is_empty();
        if is_chunk {
            self.head.put(format!("{:x}\r\n", data.len()).as_bytes());
        }
        if self.head.len() + data.len() <= ONE_PIECE {
            self.head.put(&data);
        } else {
            self.data = data;
        }
        if is_chunk {
            self.put_behind(b"\r\n");
        }
    }

    fn put_last(&mut self, trailers: Option<&HeaderMap>) {
        let mut last = b"0\r\n".to_vec();
        fields::put(&mut last, trailers.into_iter().flatten());
        last.extend_from_slice(b"\r\n");
        self.put_behind(&last);
    }

    /// Puts `bytes` behind all that is there.
    fn put_behind(&mut self, bytes: &[u8]) {
        if self.has_room() {
            self.head.put(bytes);
        } else {
            self.tail.extend_from_slice(bytes);
        }
    }

    fn poll_write<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        loop {
            let head = self.head.get(self.written..).unwrap_or_default();
            if head.is_empty() && self.has_room() {
                return Poll::Ready(Ok(()));
            }
            let writing = if self.has_room() {
                Pin::new(&mut *io).poll_write(cx, head)
            } else {
                let parts = [head, &self.data, &self.tail].map(IoSlice::new);
                Pin::new(&mut *io).poll_write_vectored(cx, &parts)
            };
            let written = ready!(writing)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len() - self.written);
        self.written += of_head;
        if self.written == self.head.len() {
            // Overwrites what was in it, if it is memory that does.
            self.head = H::default();
            self.written = 0;
        }
        let of_data = (written - of_head).min(self.data.len());
        self.data.advance(of_data);
        self.tail.drain(..written - of_head - of_data);
    }
}

#[cfg(test)]
#[path = "outgoing/tests.rs"]
mod tests;
