//! Time limits: whoever rests for too long is cut, whichever side it is, and whoever goes on is
//! not.

use std::future::pending;
use std::time::Duration;

use nono_audit::Outcome;
use nono_proxy::{Limits, ProxyConfig};
use support::{Connection, Origin, TestProxy, Wire, route};
use tokio::time::timeout;

const IDLE: Duration = Duration::from_millis(300);

/// A proxy with one place, a route `/api` to `wire`, and a short limit for idle bodies.
async fn proxy(wire: &Wire) -> TestProxy {
    let config = ProxyConfig {
        allowed_hosts: vec!["127.0.0.1".into()],
        routes: vec![route("/api", wire.addr)],
        max_connections: 1,
        limits: Limits { idle: IDLE, ..Limits::default() },
        ..ProxyConfig::default()
    };
    TestProxy::start(config).await
}

/// Lets a part of the limit go by.
async fn rest() {
    timeout(IDLE / 3, pending::<()>()).await.unwrap_err();
}

/// The place is free, at the latest a moment after the record says that the exchange is over.
async fn assert_place_is_free(proxy: &TestProxy, wire: &Wire) {
    let freed = async { while proxy.get("/nowhere").await.status == 503 {} };
    timeout(Duration::from_secs(20), freed).await.expect("the place is still taken");
    let (mut client, mut upstream) = wire.request(proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn a_tunnel_is_cut_when_nothing_passes_and_only_then() {
    let (echo, wire) = (Origin::echo().await, Wire::bind().await);
    let proxy = proxy(&wire).await;
    let mut tunnel = Connection::open(proxy.addr()).await;
    let token = proxy.proxy_authorization();
    tunnel.send(format!("CONNECT {echo} HTTP/1.1\r\nHost: {echo}\r\n{token}\r\n")).await;
    tunnel.head().await;
    for _ in 0..12 {
        tunnel.send("ping").await;
        assert_eq!(tunnel.exactly(4).await, b"ping");
        rest().await;
    }
    assert!(tunnel.rest().await.is_empty());
    let record = proxy.records(1).await.remove(0);
    assert_eq!((record.outcome, record.bytes_in, record.bytes_out), (Outcome::Timeout, 48, 48));
    assert_place_is_free(&proxy, &wire).await;
}

#[tokio::test]
async fn an_upload_that_rests_is_cut_and_a_slow_one_is_not() {
    let wire = Wire::bind().await;
    let proxy = proxy(&wire).await;
    let head = proxy.begin("POST /api/x") + "Content-Length: 20\r\n\r\n";
    for sent in [20, 7] {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(&head).await;
        let mut upstream = wire.accept().await;
        upstream.only_head().await;
        for _ in 0..sent {
            client.send("x").await;
            assert_eq!(upstream.exactly(1).await, b"x");
            rest().await;
        }
        if sent == 20 {
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(client.message().await.status(), 200);
            assert_eq!(proxy.only_record().outcome, Outcome::Complete);
        } else {
            assert!(upstream.rest().await.is_empty(), "the upstream is told");
            assert_eq!(client.message().await.status(), 408);
            let record = proxy.only_record();
            assert_eq!((record.outcome, record.bytes_in), (Outcome::Timeout, 7));
        }
    }
    assert_place_is_free(&proxy, &wire).await;
}

#[tokio::test]
async fn a_client_that_rests_within_its_upload_is_not_mistaken_for_an_upstream_that_does() {
    let wire = Wire::bind().await;
    let config = ProxyConfig {
        routes: vec![route("/api", wire.addr)],
        limits: Limits { response_head: IDLE / 3, idle: IDLE * 3, ..Limits::default() },
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    let head = proxy.begin("POST /api/x") + "Content-Length: 20\r\n\r\nhello";
    let mut client = Connection::open(proxy.addr()).await;
    client.send(&head).await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    assert_eq!(upstream.rest().await, b"hello", "the upstream is told");
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (408, "request_timeout".into()));
    // With all that it asked for it is the upstream's turn.
    let (mut client, upstream) = wire.request(&proxy, head + &"x".repeat(15)).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (504, "response_timeout".into()));
    drop(upstream);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_cut() {
    let wire = Wire::bind().await;
    let proxy = proxy(&wire).await;
    let (client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    // More than fits into all buffers on the way.
    while upstream.try_send(vec![0; 1024 * 1024]).await {}
    let record = proxy.records(1).await.remove(0);
    assert_eq!(record.outcome, Outcome::ClientAbort);
    assert_place_is_free(&proxy, &wire).await;
    drop(client);
}
