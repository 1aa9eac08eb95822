//! A WebSocket over HTTP/2 inside a tunnel (RFC 8441), to an upstream that knows of none.

use std::io;

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use nono_audit::{Mode, Outcome, Protocol as Version};
use nono_proxy::{InterceptConfig, ProxyConfig, RouteConfig};
use support::{Authority, Connection, Http2, KEY_VARIABLE, REAL_KEY, TestProxy, Wire};

/// An upstream over TLS that a test answers for, and a client inside a tunnel to it.
struct Place {
    wire: Wire,
    authority: Authority,
    proxy: TestProxy,
    client: Http2,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let (wire, authority) = (Wire::bind().await, Authority::new());
        let dir = tempfile::tempdir().unwrap();
        let route = RouteConfig {
            prefix: "/ws".into(),
            upstream: format!("https://localhost:{}", wire.addr.port()),
            credential_key: Some(format!("env://{KEY_VARIABLE}")),
            tls_ca: Some(authority.pem_file()),
            endpoint_rules: vec![("GET".into(), "/chat".into())],
            ..RouteConfig::default()
        };
        let intercept = InterceptConfig { ca_dir: dir.path().into(), ..InterceptConfig::default() };
        let config = ProxyConfig {
            routes: vec![route],
            intercept: Some(intercept),
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        let client = proxy.inside_http2(wire.addr.port()).await;
        let mut place = Self { wire, authority, proxy, client, _dir: dir };
        // The answer comes behind the settings, which say that the protocol is known.
        let refused = place.ask("/not", None).await;
        assert_eq!(refused.status(), 403);
        place
    }

    /// A request for `path`: of `protocol` by `CONNECT`, or `GET`.
    fn request(&self, path: &str, protocol: Option<&'static str>) -> Request<Body> {
        let empty = Empty::new().map_err(|never| match never {}).boxed();
        let uri = format!("https://localhost:{}{path}", self.wire.addr.port());
        let request = Request::get(uri).header("sec-websocket-version", "13");
        let mut request = request.body(empty).unwrap();
        if let Some(protocol) = protocol {
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request
    }

    async fn ask(&mut self, path: &str, protocol: Option<&'static str>) -> Response<Incoming> {
        let request = self.request(path, protocol);
        self.client.send_request(request).await.unwrap()
    }

    /// Asks for a WebSocket, and has the upstream answer with what `reply` makes of the key's
    /// answer.
    async fn open(&mut self, reply: impl Fn(&str) -> String) -> (Response<Incoming>, Connection) {
        let request = self.request("/chat", Some("websocket"));
        let asking = self.client.send_request(request);
        let answering = async {
            let identity = self.authority.identity(&["localhost"]);
            let mut upstream = self.wire.accept_secured(identity).await;
            let seen = upstream.message().await;
            assert!(seen.line().starts_with("GET /chat HTTP/1.1"), "{}", seen.line());
            for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
                assert_eq!(seen.values(name), [value]);
            }
            assert_eq!(seen.values("sec-websocket-version"), ["13"]);
            assert_eq!(seen.values("authorization"), [format!("Bearer {REAL_KEY}")]);
            let keys = seen.values("sec-websocket-key");
            assert_eq!(base64::prelude::BASE64_STANDARD.decode(&keys[0]).unwrap().len(), 16);
            upstream.send(reply(&accept(&keys[0]))).await;
            upstream
        };
        let (asked, upstream) = tokio::join!(asking, answering);
        (asked.unwrap(), upstream)
    }
}

type Body = BoxBody<Bytes, io::Error>;

/// The answer to a key, as another implementation has it.
fn accept(key: &str) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}

fn switch(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhi"
    )
}

#[tokio::test]
async fn it_becomes_an_upgrade_upstream_with_the_key_and_is_recorded() {
    let mut place = Place::new().await;
    let (response, mut upstream) = place.open(switch).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let stream = hyper::upgrade::on(response).await.unwrap();
    let mut client = Connection::over(TokioIo::new(stream));
    assert_eq!(client.exactly(2).await, b"hi");
    let bulk = vec![7; 400_000];
    let ((), came) = tokio::join!(client.send(&bulk[..]), upstream.exactly(bulk.len()));
    assert!(came == bulk);
    // Beside it, requests go on.
    assert_eq!(place.ask("/not", None).await.status(), 403);
    client.finish().await;
    assert!(upstream.rest().await.is_empty());
    upstream.send("bye").await;
    upstream.finish().await;
    assert_eq!(client.rest().await, b"bye");
    let records = place.proxy.records(4).await;
    let record = records.iter().find(|record| record.status == Some(101)).unwrap();
    assert_eq!((record.mode, record.protocol), (Mode::ConnectIntercept, Some(Version::Http2)));
    assert_eq!((record.path.as_deref(), record.outcome), (Some("/chat"), Outcome::Complete));
    assert_eq!((record.bytes_in, record.bytes_out), (400_000, 5));
    assert_eq!(record.managed_credential_active, Some(true));
}

#[tokio::test]
async fn an_upstream_that_opens_none_is_not_taken_for_one_that_does() {
    for (reply, status, told) in [
        (switch("c29tZXRoaW5nIGVsc2U="), 502, "Sec-WebSocket-Accept"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into(), 502, "did not switch"),
        ("HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno".into(), 426, "no"),
    ] {
        let mut place = Place::new().await;
        let (response, _upstream) = place.open(|_| reply.clone()).await;
        assert_eq!(response.status(), status);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(told), "{body:?}");
    }
}

#[tokio::test]
async fn it_is_judged_like_any_request_and_other_protocols_are_refused() {
    let mut place = Place::new().await;
    assert_eq!(place.ask("/not", Some("websocket")).await.status(), 403);
    assert_eq!(place.ask("/chat", Some("connect-udp")).await.status(), 405);
    assert!(place.wire.is_quiet().await);
}

#[tokio::test]
async fn a_client_that_leaves_ends_it_upstream() {
    let mut place = Place::new().await;
    let (response, mut upstream) = place.open(switch).await;
    drop(hyper::upgrade::on(response).await.unwrap());
    upstream.rest().await;
    drop(upstream);
    let records = place.proxy.records(3).await;
    assert!(records.iter().any(|record| record.status == Some(101)));
}
