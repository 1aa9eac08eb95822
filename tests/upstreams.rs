//! What upstreams speak and send back: HTTP/2 where they offer it, and no key that they echo.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "upstreams/shared.rs"]
mod shared;

use std::sync::Arc;
use std::time::Duration;

use http::{Response, Version};
use http_body_util::{BodyExt, Full};
use nono_audit::Outcome;
use nono_proxy::{Limits, ProxyConfig, RouteConfig};
use support::{Authority, Connection, Origin, REAL_KEY, Seen, TestProxy, Wire, exchange, route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const LONG: Duration = Duration::from_mins(10);

/// An origin that offers HTTP/2, and a proxy with one worker, `idle` as its limit for bodies, and
/// a route `/api` that leads to `/v1` there.
async fn over_http2(
    idle: Duration,
    edit: impl FnOnce(RouteConfig) -> RouteConfig,
) -> (Origin, TestProxy) {
    let authority = Authority::new();
    let identity = authority.identity(&["localhost"]).with_http2();
    let origin = Origin::start(Some(identity), |seen: &Seen| {
        Response::new(Full::from(format!("got {}", seen.body.len())).boxed())
    })
    .await;
    let config = edit(RouteConfig {
        upstream: format!("https://localhost:{}/v1", origin.addr.port()),
        tls_ca: Some(authority.pem_file()),
        ..route("/api", origin.addr)
    });
    let limits = Limits { workers: 1, idle, ..Limits::default() };
    let config = ProxyConfig { routes: vec![config], limits, ..ProxyConfig::default() };
    (origin, TestProxy::start(config).await)
}

#[tokio::test]
async fn http2_is_spoken_where_the_upstream_offers_it_and_shares_a_connection() {
    let (origin, proxy) = over_http2(LONG, |config| config).await;
    assert_eq!(proxy.get("/api/x?y=1").await.text(), "got 0");
    let replies = (0..20).map(|_| proxy.get("/api/x"));
    for reply in futures_util::future::join_all(replies).await {
        assert_eq!(reply.status, 200);
    }
    let seen = origin.seen();
    assert_eq!(seen[0].target, format!("https://localhost:{}/v1/x?y=1", origin.addr.port()));
    assert!(seen.iter().all(|seen| seen.version == Version::HTTP_2));
    assert_eq!(seen[0].header("authorization"), format!("Bearer {REAL_KEY}"));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn trailers_pass_over_http2_but_for_those_that_are_keys() {
    let own = |config| RouteConfig { inject_header: "X-Own-Key".into(), ..config };
    let (origin, proxy) = over_http2(LONG, own).await;
    let head = proxy.begin("POST /api/x") + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n";
    for (name, status) in [("X-Sum", 200), ("X-Own-Key", 400), ("Authorization", 400)] {
        let reply = exchange(proxy.addr(), &format!("{head}{name}: theirs\r\n\r\n")).await;
        assert_eq!(reply.status, status, "{name}");
    }
    let seen = origin.only();
    assert_eq!((seen.version, seen.header("x-own-key")), (Version::HTTP_2, REAL_KEY));
    assert_eq!(seen.trailers["x-sum"], "theirs");
}

#[tokio::test]
async fn an_upload_over_http2_that_rests_or_is_cut_is_told_from_one_that_failed() {
    let (origin, proxy) = over_http2(Duration::from_millis(100), |config| config).await;
    let head = proxy.begin("POST /api/x") + "Content-Length: 9\r\n\r\npart";
    let reply = exchange(proxy.addr(), &head).await;
    assert_eq!((reply.status, reply.code()), (408, "request_timeout".into()));
    assert_eq!(proxy.only_record().outcome, Outcome::Timeout);
    let mut client = Connection::open(proxy.addr()).await;
    client.send(&head).await;
    client.finish().await;
    assert_eq!(proxy.records(1).await[0].outcome, Outcome::ClientAbort);
    assert_eq!(proxy.get("/api/x").await.text(), "got 0");
    assert_eq!((origin.seen().len(), origin.connections()), (1, 1));
}

#[tokio::test]
async fn over_tls_a_body_ends_with_its_connection_only_if_that_is_said_there() {
    let authority = Authority::new();
    let config = authority.identity(&["localhost"]).server_config();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = RouteConfig {
        upstream: format!("https://localhost:{}", addr.port()),
        tls_ca: Some(authority.pem_file()),
        ..route("/api", addr)
    };
    let config = ProxyConfig { routes: vec![config], ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    for (framing, says_end, outcome) in [
        ("", true, Outcome::Complete),
        // Whoever sits between can cut a connection, but cannot say that it ended.
        ("", false, Outcome::UpstreamAbort),
        ("Content-Length: 5\r\n", false, Outcome::Complete),
        ("Content-Length: 9\r\n", true, Outcome::UpstreamAbort),
    ] {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(proxy.begin("GET /api/x") + "Connection: close\r\n\r\n").await;
        let (stream, _) = listener.accept().await.unwrap();
        let mut upstream = acceptor.accept(stream).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            upstream.read_buf(&mut head).await.unwrap();
        }
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\nhello");
        upstream.write_all(answer.as_bytes()).await.unwrap();
        upstream.flush().await.unwrap();
        if says_end {
            upstream.shutdown().await.unwrap();
        }
        drop(upstream);
        client.rest().await;
        let record = proxy.records(1).await.remove(0);
        assert_eq!(record.outcome, outcome, "{framing:?} {says_end}");
    }
}

#[tokio::test]
async fn a_key_that_the_upstream_echoes_is_overwritten() {
    let origin = Origin::start(None, |seen: &Seen| {
        let echoed = seen.header("authorization").to_owned();
        let response = Response::builder().header("x-echo", &echoed);
        response.body(Full::from(format!("you sent {echoed}, I think")).boxed()).unwrap()
    })
    .await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let reply = proxy.get("/api/x").await;
    let stars = "*".repeat(REAL_KEY.len());
    assert_eq!(reply.text(), format!("you sent Bearer {stars}, I think"));
    assert!(reply.head.contains(&format!("x-echo: bearer {stars}")), "{}", reply.head);
}

#[tokio::test]
async fn a_key_that_is_echoed_in_two_chunks_or_in_interim_heads_is_overwritten() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    let (first, second) = REAL_KEY.split_at(10);
    upstream.send(format!("HTTP/1.1 103 Early Hints\r\nLink: <{REAL_KEY}>\r\n\r\n")).await;
    let early = client.head().await;
    assert!(early.starts_with("http/1.1 103") && !early.contains(REAL_KEY), "{early}");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    upstream.send(format!("{:x}\r\na\n{first}\r\n", first.len() + 2)).await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"a\n");
    upstream.send(format!("{:x}\r\n{second}\n\r\n0\r\n\r\n", second.len() + 1)).await;
    let rest = client.chunk().await.unwrap();
    assert_eq!(rest, format!("{}\n", "*".repeat(REAL_KEY.len())).as_bytes());
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_given_up() {
    let wire = Wire::bind().await;
    let limits = Limits { response_head: Duration::from_millis(100), ..Limits::default() };
    let proxy = TestProxy::with_limits(wire.addr, limits).await;
    let (reply, held) = tokio::join!(proxy.get("/api/x"), wire.accept());
    assert_eq!((reply.status, reply.code()), (504, "response_timeout".into()));
    assert_eq!(proxy.only_record().outcome, Outcome::Timeout);
    drop(held);
}

#[tokio::test]
async fn an_upstream_that_stops_in_the_middle_is_cut_and_seen_to_be() {
    let wire = Wire::bind().await;
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let proxy = TestProxy::with_limits(wire.addr, limits).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf\n").await;
    client.head().await;
    assert_eq!(client.rest().await, b"half\n");
    let record = proxy.only_record();
    assert_eq!(record.outcome, Outcome::Timeout);
    let reason = "nothing of the response's body came for too long";
    assert_eq!(record.reason.as_deref(), Some(reason));
}
