//! A request on its way to an upstream.

use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Request};
use http_body::Body as _;
use nono_credentials::SecretBuf;

use crate::body::Body;
use crate::http1::{Outgoing, fields};
use crate::upstream::Destination;

/// A request being sent; its head holds the credential.
pub(super) type Upload = Outgoing<SecretBuf>;

/// Takes the body out of `request`; the rest can be sent again.
pub(super) fn upload(to: &Destination, request: &mut Request<Body>) -> Upload {
    let body = std::mem::replace(request.body_mut(), Body::empty());
    let body = (!body.is_end_stream()).then_some(body);
    let is_chunked = body.is_some() && !request.headers().contains_key(CONTENT_LENGTH);
    let upload = Upload::new(head(to, request, body.is_some()), body);
    if is_chunked { upload.chunked(true) } else { upload }
}

/// The request line and the fields. The target is in origin-form, or absolute-form for a proxy;
/// the host is the one that was judged, whatever the client's `Host` said.
fn head(to: &Destination, request: &Request<Body>, has_body: bool) -> SecretBuf {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let base = to.base();
    // An empty path is `/` (RFC 9112 §3.2.1); a server as a whole is `*`, but has none behind a proxy
    // (§3.2.4).
    let (slash, target) = match target {
        "*" if !base.is_empty() => ("", ""),
        "*" => ("", "*"),
        path if path.starts_with('/') => ("", path),
        query => ("/", query),
    };
    let method = request.method().as_str();
    // Sized at once, with room for what is written below and the head of a first chunk.
    let size =
        fields::size(headers) + method.len() + base.len() + target.len() + to.host().len() + 128;
    let mut head = SecretBuf::with_capacity(size);
    for part in [method, " ", &*base, slash, target, " HTTP/1.1\r\nhost: "] {
        head.extend_from_slice(part.as_bytes());
    }
    head.extend_from_slice(to.host().as_bytes());
    head.extend_from_slice(b"\r\n");
    fields::put(&mut head, headers.iter().filter(|(name, _)| **name != HOST));
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if !has_body && expects_body(request.method()) && !headers.contains_key(CONTENT_LENGTH) {
        // RFC 9110 §8.6.
        head.extend_from_slice(b"content-length: 0\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

#[cfg(test)]
#[path = "upload/tests.rs"]
mod tests;
