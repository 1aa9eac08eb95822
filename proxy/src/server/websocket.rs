//! A WebSocket that is asked for over HTTP/2 (RFC 8441), as the upgrade that HTTP/1.1 has for it:
//! so it passes the same layers, and goes to upstreams that know of nothing else.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::http1::{Socket, Switched};
use crate::body::Body;
use crate::exchange::Peer;

/// What a server puts behind the key that it answers (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key of an opening handshake that is the proxy's own; on requests that it asks with.
#[derive(Debug, Clone)]
pub(crate) struct Challenge(HeaderValue);

impl Challenge {
    fn new() -> Option<Self> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).ok()?;
        HeaderValue::try_from(BASE64.encode(nonce)).ok().map(Self)
    }

    /// Whether `headers` are those of a server that has read the key (RFC 6455 §4.1).
    pub(crate) fn is_met_by(&self, headers: &HeaderMap) -> bool {
        let whole = [self.0.as_bytes(), GUID].concat();
        let expected = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole));
        headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == expected.as_str())
    }
}

/// Makes of a `CONNECT` for a WebSocket the request that HTTP/1.1 has for it, and returns what
/// becomes the client's side. Other requests, also those for other protocols, stay as they are.
pub(super) fn translate(request: &mut Request<Body>) -> Option<OnUpgrade> {
    let is_websocket = request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|it| it.as_str() == "websocket");
    // Without random numbers it stays a `CONNECT`, which is refused.
    let challenge = is_websocket.then(Challenge::new)??;
    let client = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_KEY, challenge.0.clone());
    request.extensions_mut().insert(challenge);
    Some(client)
}

/// Makes of the `response` that switches protocols the one that opens a stream, which `client`
/// then is; `peer` is held as long. Other responses stay as they are.
pub(super) fn answer(response: &mut Response<Body>, client: OnUpgrade, peer: Arc<Peer>) {
    let Some(handover) = response.body_mut().take_handover() else { return };
    *response.status_mut() = StatusCode::OK;
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        response.headers_mut().remove(name);
    }
    tokio::spawn(async move {
        // Fails when the client has left; what waits for it then sees that nothing comes.
        if let Ok(upgraded) = client.await {
            let io = Socket::Stream(Box::new(TokioIo::new(upgraded)));
            let _ = handover.send(Switched { io, early: Bytes::new(), peer });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Challenge, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT};

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_answer_to_a_key_is_the_one_of_the_rfc() {
        let challenge = Challenge(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let mut headers = HeaderMap::new();
        assert!(!challenge.is_met_by(&headers));
        for (accept, is_right) in
            [("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", true), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=", false)]
        {
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(challenge.is_met_by(&headers), is_right);
        }
    }
}
