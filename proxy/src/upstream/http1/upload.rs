//! Sends a request: its head, and its body as it comes from the client.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap};
use http::{Method, Request};
use http_body::{Body as _, Frame};
use nono_credentials::SecretBuf;
use tokio::io::AsyncWrite;

use crate::body::{Body, BodyError};
use crate::upstream::Destination;

/// A request being sent.
#[derive(Debug)]
pub(super) struct Upload {
    /// What is still to come of the body.
    body: Option<Body>,
    is_chunked: bool,
    outbox: Outbox,
}

/// Why a request was not sent to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client's body failed.
    Body(BodyError),
    /// The upstream takes no more.
    Write(io::Error),
}

impl Upload {
    /// Takes the body out of `request`; the rest can be sent again.
    pub(super) fn new(to: &Destination, request: &mut Request<Body>) -> Self {
        let body = std::mem::replace(request.body_mut(), Body::empty());
        let body = (!body.is_end_stream()).then_some(body);
        let is_chunked = body.is_some() && !request.headers().contains_key(CONTENT_LENGTH);
        let outbox = Outbox { head: head(to, request, body.is_some()), ..Outbox::default() };
        Self { body, is_chunked, outbox }
    }

    /// Sends on; ready when all is sent.
    pub(super) fn poll<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>>
    where
        T: AsyncWrite + Unpin,
    {
        loop {
            // Asked before writing, so that the first of the body goes out with the head.
            let is_waiting = match &mut self.body {
                Some(body) if self.outbox.has_room() => match Pin::new(body).poll_frame(cx) {
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
                },
                _ => false,
            };
            ready!(self.outbox.poll_write(io, cx)).map_err(Stopped::Write)?;
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
                if let Ok(trailers) = frame.into_trailers() {
                    self.end_with(&trailers);
                }
            }
        }
    }

    fn end(&mut self) {
        self.end_with(&HeaderMap::new());
    }

    fn end_with(&mut self, trailers: &HeaderMap) {
        self.body = None;
        if self.is_chunked {
            self.outbox.put_last(trailers);
        }
    }
}

/// The request line and the fields. The target is in origin-form; `Host` is the host that was
/// judged, whatever the client's said.
fn head(to: &Destination, request: &Request<Body>, has_body: bool) -> SecretBuf {
    let headers = request.headers();
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    // An empty path is `/` (RFC 9112 §3.2.1).
    let slash = if target.starts_with('/') { "" } else { "/" };
    let method = request.method().as_str();
    // Sized at once, with room for what is written below and the head of a first chunk.
    let size = size + method.len() + target.len() + to.host().len() + 128;
    let mut head = SecretBuf::with_capacity(size);
    for part in [method, " ", slash, target, " HTTP/1.1\r\nhost: "] {
        head.extend_from_slice(part.as_bytes());
    }
    head.extend_from_slice(to.host().as_bytes());
    head.extend_from_slice(b"\r\n");
    put_fields(headers, |part| head.extend_from_slice(part));
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if !has_body && expects_body(request.method()) && !headers.contains_key(CONTENT_LENGTH) {
        // RFC 9110 §8.6.
        head.extend_from_slice(b"content-length: 0\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn put_fields(fields: &HeaderMap, mut put: impl FnMut(&[u8])) {
    for (name, value) in fields {
        if *name != HOST {
            put(name.as_str().as_bytes());
            put(b": ");
            put(value.as_bytes());
            put(b"\r\n");
        }
    }
}

fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// What is to be written: at most a head, a chunk, and what is behind it.
#[derive(Default)]
struct Outbox {
    /// Holds the credential.
    head: SecretBuf,
    /// How much of `head` is written.
    written: usize,
    data: Bytes,
    tail: Vec<u8>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Outbox {
    fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty()
    }

    fn put_data(&mut self, data: Bytes, is_chunked: bool) {
        // A chunk of no bytes would be the end.
        if is_chunked && !data.is_empty() {
            self.head.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            self.tail.extend_from_slice(b"\r\n");
        }
        self.data = data;
    }

    fn put_last(&mut self, trailers: &HeaderMap) {
        self.tail.extend_from_slice(b"0\r\n");
        put_fields(trailers, |part| self.tail.extend_from_slice(part));
        self.tail.extend_from_slice(b"\r\n");
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
            // Overwrites the credential.
            self.head = SecretBuf::default();
            self.written = 0;
        }
        let of_data = (written - of_head).min(self.data.len());
        self.data.advance(of_data);
        self.tail.drain(..written - of_head - of_data);
    }
}

#[cfg(test)]
#[path = "upload/tests.rs"]
mod tests;
