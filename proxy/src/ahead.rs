//! What TLS runs on: a stream that is read ahead. TLS asks for one record at a time, and besides
//! the call each read of a socket costs an acknowledgement, and a wake-up of the other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http1::read;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    /// Read, not yet asked for.
    came: BytesMut,
    io: T,
}

impl<T> Ahead<T> {
    /// `io`, of which `came` was read already.
    pub(crate) fn new(came: Bytes, io: T) -> Self {
        Self { came: came.into(), io }
    }

    /// The stream itself.
    pub(crate) fn inner(&self) -> &T {
        &self.io
    }

    /// Whether more was read than was asked for.
    pub(crate) fn is_ahead(&self) -> bool {
        !self.came.is_empty()
    }
}

/// Reads from `tls` into `out`: at least once, and then as long as that takes no call, since what
/// `is_ahead` need only be decrypted.
pub(crate) fn poll_read<S>(
    tls: &mut S,
    cx: &mut Context<'_>,
    out: &mut ReadBuf<'_>,
    is_ahead: impl Fn(&S) -> bool,
) -> Poll<io::Result<()>>
where
    S: AsyncRead + Unpin,
{
    ready!(Pin::new(&mut *tls).poll_read(cx, out))?;
    while out.remaining() > 0 && is_ahead(tls) {
        let before = out.filled().len();
        match Pin::new(&mut *tls).poll_read(cx, out) {
            // What failed fails again: TLS keeps its errors, and a socket's becomes an end without
            // TLS's own, which is one.
            Poll::Ready(Ok(())) if out.filled().len() > before => {}
            _ => break,
        }
    }
    Poll::Ready(Ok(()))
}

impl<T: AsyncRead + Unpin> AsyncRead for Ahead<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { came, io } = &mut *self;
        if came.is_empty() && ready!(read::poll_some(io, cx, came))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let taken = came.len().min(out.remaining());
        out.put_slice(&came[..taken]);
        came.advance(taken);
        if came.is_empty() {
            // Gives the memory back, which many share.
            *came = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Ahead<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
