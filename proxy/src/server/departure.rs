//! Notices that a client leaves although more has come from it than is read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::intercept::Rewind;

/// A connection that a client's departure can be watched on.
pub(crate) trait Watch {
    /// Watches the socket that it runs on.
    fn watch(&self) -> io::Result<Departure>;
}

impl Watch for TcpStream {
    fn watch(&self) -> io::Result<Departure> {
        Departure::watch(self)
    }
}

impl Watch for TlsStream<Rewind<TcpStream>> {
    fn watch(&self) -> io::Result<Departure> {
        self.get_ref().0.inner().watch()
    }
}

/// A second registration of a client's socket, whose readiness may be cleared without a read:
/// what is in the socket's buffer would otherwise hide the end behind it. An end that the client's
/// system still holds back, behind more than that buffer takes, nobody can see.
pub(crate) struct Departure(AsyncFd<OwnedFd>);

impl Departure {
    /// Watches `socket`.
    fn watch(socket: &impl AsFd) -> io::Result<Self> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        #[expect(deprecated, reason = "safe code has nothing else; the copy is its own")]
        AsyncFd::with_interest(copy, Interest::READABLE).map(Self)
    }

    /// Ready when the client has closed, or its sending side.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.0.poll_read_ready(cx)) {
                Ok(mut ready) if !ready.ready().is_read_closed() => ready.clear_ready(),
                _ => return Poll::Ready(()),
            }
        }
    }
}
