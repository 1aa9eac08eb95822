//! What a client's connection runs on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::departure::Departure;
use crate::ahead::{self, Ahead};

/// See the module.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    /// The inside of an intercepted tunnel. Boxed, since it is large.
    Secured(Box<TlsStream<Ahead<TcpStream>>>),
    /// One stream of an HTTP/2 connection.
    Stream(Box<TokioIo<Upgraded>>),
}

impl Socket {
    /// The socket, where it is one connection's alone.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Secured(tls) => Some(tls.get_ref().0.inner()),
            Self::Stream(_) => None,
        }
    }

    /// Watches whether the client leaves.
    pub(super) fn watch(&self) -> io::Result<Departure> {
        Departure::watch(self.tcp().ok_or(io::ErrorKind::Unsupported)?)
    }

    /// Whether something may have come since it was last read from. No more than a look at what the
    /// system has told already, where that is known.
    pub(super) fn has_news(&self) -> bool {
        self.tcp().is_none_or(|tcp| tcp.try_io(Interest::READABLE, || Ok(())).is_ok())
    }

    /// Has the connection end in a way that cannot be taken for the end of what was sent on it.
    pub(crate) fn reset_when_dropped(&self) {
        // Fails only when the client has left.
        let _ = self.tcp().map(TcpStream::set_zero_linger);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, out),
            Self::Secured(tls) => ahead::poll_read(tls, cx, out, |tls| tls.get_ref().0.is_ahead()),
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Secured(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            Self::Secured(tls) => Pin::new(tls).poll_write_vectored(cx, parts),
            Self::Stream(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Secured(tls) => tls.is_write_vectored(),
            Self::Stream(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Secured(tls) => Pin::new(tls).poll_flush(cx),
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Secured(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
