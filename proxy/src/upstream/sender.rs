//! The sending side of one upstream connection, of either version of HTTP.

use std::net::SocketAddr;

use http::header::{CONNECTION, HOST};
use http::uri::Uri;
use http::{Request, Version};
use hyper::client::conn::http2;

use super::Destination;
use super::http1;
use crate::body::Body;

/// See the module. With it goes the upstream's address, asked for once.
#[derive(Debug)]
pub(super) enum Sender {
    /// Serves one exchange at a time.
    Http1(http1::Connection, Option<SocketAddr>),
    /// Shared by many exchanges.
    Http2(http2::SendRequest<Body>, Option<SocketAddr>),
}

impl Sender {
    /// The upstream's address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(_, peer) | Self::Http2(_, peer) => *peer,
        }
    }
}

/// Absolute-form, of which the pseudo-header fields are made; no field of a connection
/// (RFC 9113 §8.2.2, §8.3.1).
pub(super) fn address_http2(to: &Destination, request: &mut Request<Body>) {
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    let mut parts = to.uri().clone().into_parts();
    if let Some(path) = request.uri().path_and_query() {
        parts.path_and_query = Some(path.clone());
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}
