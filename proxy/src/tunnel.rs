//! Relays bytes both ways until both sides have closed; a side that closes early leaves the
//! other one open.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use nono_audit::{Outcome, Recorder};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio_util::sync::CancellationToken;

/// Bytes buffered in each direction: with fewer, bulk transfers slow down.
const BUFFER: usize = 64 * 1024;

/// Runs the tunnel and ends its record.
pub(crate) async fn run<T>(
    client: OnUpgrade,
    mut server: T,
    recorder: &Recorder,
    cut: &CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // What the client sent right behind its request is in the upgraded stream's buffer.
    let Ok(client) = client.await else {
        return recorder.finish(Outcome::ClientAbort);
    };
    let mut client = Counted { io: TokioIo::new(client), recorder };
    let copied = cut
        .run_until_cancelled(copy_bidirectional_with_sizes(
            &mut client,
            &mut server,
            BUFFER,
            BUFFER,
        ))
        .await;
    recorder.finish(match copied {
        Some(Ok(_)) => Outcome::Complete,
        Some(Err(_)) => Outcome::UpstreamAbort,
        None => Outcome::Shutdown,
    });
}

/// The client's side, counting what passes.
struct Counted<'a, T> {
    io: T,
    recorder: &'a Recorder,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.recorder.add_bytes_in((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.recorder.add_bytes_out(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
