//! Connections that stop being HTTP: `WebSocket`s through routes and forwards, and tunnels.

use nono_audit::{Mode, Outcome};
use support::{Connection, Origin, REAL_KEY, TestProxy, Wire};

const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

/// Switches both ends of a connection through `proxy`, whose request begins with `head`.
async fn switch(proxy: &TestProxy, wire: &Wire, head: String) -> (Connection, Connection) {
    let mut client = Connection::open(proxy.addr()).await;
    client.send(head + ASK).await;
    let mut upstream = wire.accept().await;
    let seen = upstream.message().await;
    assert_eq!(seen.values("upgrade"), ["websocket"]);
    assert_eq!(seen.values("connection"), ["upgrade"]);
    assert_eq!(seen.values("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    // The first message comes with the switch itself.
    upstream.send(SWITCH.to_owned() + "hello").await;
    let reply = client.message().await;
    assert_eq!(reply.status(), 101);
    assert_eq!(reply.values("upgrade"), ["websocket"]);
    assert_eq!(reply.values("sec-websocket-accept"), ["x"]);
    assert_eq!(client.exactly(5).await, b"hello");
    (client, upstream)
}

/// Messages pass both ways until both sides have closed, and are recorded.
async fn talk(proxy: &TestProxy, (mut client, mut upstream): (Connection, Connection)) {
    for n in 0..10_u8 {
        client.send([n; 100]).await;
        assert_eq!(upstream.exactly(100).await, [n; 100]);
        upstream.send([n; 200]).await;
        assert_eq!(client.exactly(200).await, [n; 200]);
    }
    // Not a request, though it looks like one.
    client.send("GET /api/x HTTP/1.1\r\n\r\n").await;
    assert_eq!(upstream.exactly(23).await, b"GET /api/x HTTP/1.1\r\n\r\n");
    client.finish().await;
    assert!(upstream.rest().await.is_empty());
    upstream.send("bye").await;
    drop(upstream);
    assert_eq!(client.rest().await, b"bye");
    let record = proxy.records(1).await.remove(0);
    assert_eq!((record.status, record.outcome), (Some(101), Outcome::Complete));
    assert_eq!((record.bytes_in, record.bytes_out), (1023, 2008));
}

#[tokio::test]
async fn a_websocket_through_a_route_carries_its_key_and_is_recorded() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let head = proxy.begin("GET /api/x");
    let ends = switch(&proxy, &wire, head).await;
    talk(&proxy, ends).await;
}

#[tokio::test]
async fn a_websocket_through_a_forward_is_recorded() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let head = proxy.begin_forward("GET", wire.addr, "/x");
    let ends = switch(&proxy, &wire, head).await;
    talk(&proxy, ends).await;
}

#[tokio::test]
async fn a_websocket_is_judged_like_any_request() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    for (head, status) in [
        ("GET /api/x HTTP/1.1\r\nHost: p\r\n".to_owned(), 401),
        (proxy.begin("GET /nowhere"), 404),
        (proxy.begin_forward("GET", wire.addr, "/"), 403),
    ] {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(head + ASK).await;
        assert_eq!(client.message().await.status(), status);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_answers_and_the_connection_goes_on() {
    let origin =
        Wire::bind().await.answer("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    for _ in 0..2 {
        client.send(proxy.begin("GET /api/x") + ASK).await;
        assert_eq!(client.message().await.status(), 426);
    }
    assert_eq!(origin.requests()[1].values("authorization"), [format!("Bearer {REAL_KEY}")]);
}

#[tokio::test]
async fn a_switch_to_http_2_is_not_offered_on() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let ask = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    let mut client = Connection::open(proxy.addr()).await;
    client.send(proxy.begin("GET /api/x") + ask).await;
    assert_eq!(client.message().await.body, b"ok");
    for name in ["upgrade", "connection", "http2-settings"] {
        assert!(origin.only().values(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn the_answer_to_connect_has_no_body_and_no_framing() {
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    for fields in ["", "Content-Length: 0\r\n"] {
        let mut client = Connection::open(proxy.addr()).await;
        let token = proxy.proxy_authorization();
        client
            .send(format!("CONNECT {echo} HTTP/1.1\r\nHost: {echo}\r\n{token}{fields}\r\n"))
            .await;
        let reply = client.only_head().await;
        assert_eq!(reply.status(), 200);
        for name in ["content-length", "transfer-encoding", "connection"] {
            assert!(reply.values(name).is_empty(), "{reply:?}");
        }
        client.send("ping").await;
        assert_eq!(client.exactly(4).await, b"ping");
    }
}

#[tokio::test]
async fn what_looks_like_a_request_behind_connect_goes_into_the_tunnel() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let early = "GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n\r\nBAD\0\n\n";
    let mut client = Connection::open(proxy.addr()).await;
    let token = proxy.proxy_authorization();
    let head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{token}\r\n", wire.addr);
    client.send(head + early).await;
    let mut upstream = wire.accept().await;
    assert_eq!(upstream.exactly(early.len()).await, early.as_bytes());
}

#[tokio::test]
async fn either_side_of_a_tunnel_may_close_first_and_still_receive() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    for client_first in [true, false] {
        let mut client = Connection::open(proxy.addr()).await;
        let token = proxy.proxy_authorization();
        client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{token}\r\n", wire.addr)).await;
        let mut upstream = wire.accept().await;
        client.only_head().await;
        let (first, second) =
            if client_first { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        first.send("last words").await;
        first.finish().await;
        assert_eq!(second.rest().await, b"last words");
        second.send(vec![7; 300_000]).await;
        second.finish().await;
        assert_eq!(first.rest().await, vec![7; 300_000]);
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.mode, record.outcome), (Mode::Connect, Outcome::Complete));
        assert_eq!(record.bytes_in + record.bytes_out, 300_010);
    }
}

#[tokio::test]
async fn a_tunnel_to_nobody_is_answered_502_and_the_connection_goes_on() {
    let unused = Wire::bind().await.addr;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let token = proxy.proxy_authorization();
    let mut client = Connection::open(proxy.addr()).await;
    for _ in 0..2 {
        client.send(format!("CONNECT {unused} HTTP/1.1\r\nHost: {unused}\r\n{token}\r\n")).await;
        assert_eq!(client.message().await.status(), 502);
    }
}
