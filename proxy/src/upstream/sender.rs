//! The sending side of one upstream connection, of either version of HTTP.

use futures_util::future::Either;
use http::header::{CONNECTION, HOST};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use tokio::task::AbortHandle;

use super::Destination;
use crate::body::Body;

/// A connection over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Body>,
    /// The task that drives it, and that may still be sending a request whose response is over.
    pub(super) task: AbortHandle,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Sender {
    /// Serves one exchange at a time.
    Http1(Connection),
    /// Shared by many exchanges.
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    /// Sends `request` to the end of `to`. Not an `async fn`, whose state would hold the request
    /// once more.
    pub(super) fn send(
        &mut self,
        to: &Destination,
        mut request: Request<Body>,
    ) -> impl Future<Output = Sent> + use<> {
        match self {
            Self::Http1(connection) => {
                address_http1(to, &mut request);
                Either::Left(connection.sender.try_send_request(request))
            }
            Self::Http2(sender) => {
                address_http2(to, &mut request);
                Either::Right(sender.try_send_request(request))
            }
        }
    }
}

/// A response's head, or why there is none, with the request if nothing of it was written.
type Sent = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// Origin-form and a `Host`: the host that was judged, whatever the client's said.
fn address_http1(to: &Destination, request: &mut Request<Body>) {
    request.headers_mut().insert(HOST, to.host().clone());
    let target = request.uri_mut();
    // An empty path is `/` (RFC 9112 §3.2.1).
    let path = target.path_and_query().cloned();
    *target = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;
}

/// Absolute-form, of which the pseudo-header fields are made; no field of a connection
/// (RFC 9113 §8.2.2, §8.3.1).
fn address_http2(to: &Destination, request: &mut Request<Body>) {
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
