//! The sending side of one upstream connection, of either version of HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{http1, http2};

/// See the module.
#[derive(Debug)]
pub(super) enum Sender {
    /// Serves one exchange at a time.
    Http1(http1::Connection),
    /// A place on one that is shared by many exchanges.
    Http2(Arc<http2::Stream>),
}

impl Sender {
    /// The upstream's address.
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Http1(connection) => connection.peer(),
            Self::Http2(stream) => stream.peer(),
        }
    }
}
