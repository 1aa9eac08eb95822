use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::net::TcpStream;

use super::{Flow, Side};

impl Side for DuplexStream {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn reset_when_dropped(&self) {}
}

/// Takes all at once, and needs a second call to send it on, as TLS does on a socket that is full.
#[derive(Default)]
struct Layered {
    taken: Vec<u8>,
    has_waited: bool,
    sent: usize,
}

impl Side for Layered {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn reset_when_dropped(&self) {}
}

impl AsyncRead for Layered {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Layered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.taken.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_waited, true) {
            return Poll::Pending;
        }
        self.sent = self.taken.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Else the end of a message stays where it is until another follows, for which both sides wait.
#[tokio::test]
async fn what_is_not_sent_on_at_once_is_sent_on_later() {
    let (mut client, mut from) = duplex(1024);
    let (mut flow, mut to) = (Flow::new(Bytes::new()), Layered::default());
    client.write_all(b"the end").await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for sent in [0, 7] {
        assert!(flow.poll(&mut cx, &mut from, &mut to, |_| {}).is_pending());
        assert_eq!((&*to.taken, to.sent), (&b"the end"[..], sent));
    }
}
