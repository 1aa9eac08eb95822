//! The two sides of a tunnel, whatever they speak.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::server::http1::Socket;
use crate::upstream::Line;

/// What bytes are relayed to and from.
pub(crate) trait Side: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket, where its bytes are those that are relayed: not under TLS.
    fn plain(&self) -> Option<&TcpStream>;

    /// Has it end in a way that cannot be taken for the end of what was sent on it.
    fn reset_when_dropped(&self);
}

impl Side for Socket {
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Secured(_) | Self::Stream(_) => None,
        }
    }

    fn reset_when_dropped(&self) {
        Self::reset_when_dropped(self);
    }
}

impl Side for Line {
    fn plain(&self) -> Option<&TcpStream> {
        Self::plain(self)
    }

    fn reset_when_dropped(&self) {
        Self::reset_when_dropped(self);
    }
}

impl<T: Side + ?Sized> Side for Box<T> {
    fn plain(&self) -> Option<&TcpStream> {
        (**self).plain()
    }

    fn reset_when_dropped(&self) {
        (**self).reset_when_dropped();
    }
}
