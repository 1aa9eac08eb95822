//! What HTTP/2 is written to: the frames of a turn of the connection are gathered, and go out
//! together behind it. The library asks for each to be written at once, which would be a record of
//! TLS, a call and a wake-up of the client for every frame.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::requests::Requests;

/// How much is gathered at most: as much as TLS encrypts at once.
const LENGTH: usize = 64 * 1024;

/// See the module. Shared by the library, which writes, and by who polls it and then has what was
/// gathered written.
#[derive(Debug)]
pub(super) struct Gathered<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    held: BytesMut,
    requests: Requests,
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Gathered<T> {
    /// Gathers for `io`.
    pub(super) fn new(io: T) -> Self {
        Self(Arc::new(Mutex::new(Inner { io, held: BytesMut::new(), requests: Requests::new() })))
    }

    /// Whether any request runs.
    pub(super) fn has_requests(&self) -> bool {
        self.lock().requests.are_running()
    }

    /// How many requests have begun.
    pub(super) fn begun(&self) -> usize {
        self.lock().requests.begun()
    }

    /// Another number each time that something happened to one.
    pub(super) fn moves(&self) -> usize {
        self.lock().requests.moves()
    }

    /// Polls `connection`, which writes here, and writes what it has gathered. Ready when either
    /// is at its end.
    pub(super) fn poll_turn(
        &self,
        connection: Pin<&mut impl Future>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let has_ended = connection.poll(cx).is_ready();
        // Also at an end without a farewell, as far as the client takes it at once.
        let released = self.lock().poll_release(cx);
        if has_ended || matches!(released, Poll::Ready(Err(_))) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // What a panic leaves behind is not written to: the task ends with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        // Gives the memory back: a connection rests longer than it writes.
        self.held = BytesMut::new();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.requests.went(&self.held[..written]);
                    self.held.advance(written);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes of `bytes` what there is room for.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(LENGTH - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        taken
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let before = out.filled().len();
        let polled = Pin::new(&mut inner.io).poll_read(cx, out);
        inner.requests.came(&out.filled()[before..]);
        polled
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.held.len() == LENGTH {
            ready!(inner.poll_drain(cx))?;
        }
        Poll::Ready(Ok(parts.iter().map(|part| inner.gather(part)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says that it is done: [`Gathered::poll_turn`] does it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_release(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::{Gathered, LENGTH};

    /// More than there is room for, here and on the way, in pieces as frames have them.
    #[tokio::test]
    async fn all_arrives_in_order_also_where_the_client_is_slow() {
        let sent: Vec<u8> = (0..251).cycle().take(LENGTH * 5).collect();
        let (near, mut far) = duplex(LENGTH / 3);
        let gathered = Gathered::new(near);
        let mut writer = gathered.clone();
        let pieces = sent.clone();
        let writing = async move {
            for piece in pieces.chunks(16 * 1024) {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
            // A connection that stays.
            std::future::pending::<()>().await;
        };
        let mut writing = pin!(writing);
        let mut turns = pin!(poll_fn(|cx| gathered.poll_turn(writing.as_mut(), cx)));
        let mut came = vec![0; sent.len()];
        tokio::select! {
            () = &mut turns => panic!("it has ended"),
            read = far.read_exact(&mut came) => drop(read.unwrap()),
        }
        assert!(came == sent);
        drop(far);
    }

    #[tokio::test]
    async fn frames_of_a_turn_go_out_together_at_its_end() {
        let (near, mut far) = duplex(LENGTH);
        let gathered = Gathered::new(near);
        let mut writer = gathered.clone();
        let mut connection = pin!(async {
            for piece in ["one ", "two ", "three"] {
                writer.write_all(piece.as_bytes()).await.unwrap();
                writer.flush().await.unwrap();
            }
            assert_eq!(&*gathered.lock().held, b"one two three");
            std::future::pending::<()>().await;
        });
        let mut turn = pin!(poll_fn(|cx| gathered.poll_turn(connection.as_mut(), cx)));
        assert!(futures_util::poll!(&mut turn).is_pending());
        let mut came = [0; 32];
        let length = far.read(&mut came).await.unwrap();
        assert_eq!(&came[..length], b"one two three");
    }

    #[tokio::test]
    async fn a_client_that_has_left_ends_the_connection() {
        let (near, far) = duplex(LENGTH);
        drop(far);
        let gathered = Gathered::new(near);
        let mut writer = gathered.clone();
        let mut connection = pin!(async {
            writer.write_all(b"late").await.unwrap();
            std::future::pending::<()>().await;
        });
        poll_fn(|cx| gathered.poll_turn(connection.as_mut(), cx)).await;
    }
}
