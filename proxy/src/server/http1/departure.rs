//! Notices that a client leaves although more has come from it than is read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A second registration of a client's socket, whose readiness may be cleared without a read:
/// what is in the socket's buffer would otherwise hide the end behind it. An end that the client's
/// system still holds back, behind more than that buffer takes, nobody can see.
pub(crate) struct Departure(AsyncFd<OwnedFd>);

impl Departure {
    /// Watches `socket`.
    pub(super) fn watch(socket: &impl AsFd) -> io::Result<Self> {
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
