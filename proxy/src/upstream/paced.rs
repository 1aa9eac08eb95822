//! What HTTP/2 upstreams are read from: much at a time, but not all that there is, so that what came
//! is passed on, and leave given for more, while the upstream still sends. The library reads for as
//! long as there is something, which is a whole window: then either end waits for the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read before others have their turn.
const TURN: usize = 128 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Paced<T> {
    line: T,
    /// How much may still be read in this turn.
    left: usize,
}

impl<T> Paced<T> {
    /// Reads from `line`.
    pub(super) fn new(line: T) -> Self {
        Self { line, left: TURN }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            self.left = TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = out.filled().len();
        let read = Pin::new(&mut self.line).poll_read(cx, out);
        let came = out.filled().len() - before;
        self.left = if read.is_pending() { TURN } else { self.left.saturating_sub(came) };
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.line).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.line).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.line.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::{Paced, TURN};

    #[tokio::test]
    async fn others_have_their_turn_while_there_is_more_to_read() {
        let (mut far, near) = duplex(2 * TURN);
        far.write_all(&vec![7; 2 * TURN]).await.unwrap();
        let mut paced = Paced::new(near);
        for _ in 0..2 {
            let mut came = vec![0; TURN];
            paced.read_exact(&mut came).now_or_never().unwrap().unwrap();
            assert!(paced.read_u8().now_or_never().is_none());
        }
        // Those that follow are waited for, and read at once.
        far.write_all(&vec![7; TURN]).await.unwrap();
        let mut came = vec![0; TURN];
        paced.read_exact(&mut came).now_or_never().unwrap().unwrap();
        drop(far);
        assert_eq!(paced.read(&mut came).await.unwrap(), 0);
    }
}
