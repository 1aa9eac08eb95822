//! The proxy as a client of its upstream: which connection a request goes on, what is sent twice,
//! what comes early, and what never reaches the next client.

use nono_audit::Outcome;
use nono_proxy::ProxyConfig;
use support::{Connection, TestProxy, Wire};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const MIB: usize = 1024 * 1024;

/// A client and its upstream, whose connection has served one exchange and waits in the pool.
async fn used(wire: &Wire, proxy: &TestProxy) -> (Connection, Connection) {
    let (mut client, mut upstream) = wire.request(proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.body, b"ok");
    (client, upstream)
}

#[tokio::test]
async fn a_request_that_dies_with_its_connection_is_repeated_only_where_that_is_safe() {
    for (method, framing, body, is_repeated) in [
        ("GET", "", "", true),
        ("HEAD", "", "", true),
        ("DELETE", "", "", true),
        ("PUT", "Content-Length: 0\r\n", "", true),
        ("PUT", "Content-Length: 5\r\n", "hello", false),
        ("GET", "Content-Length: 5\r\n", "hello", false),
        ("POST", "", "", false),
        ("POST", "Content-Length: 5\r\n", "hello", false),
        ("PATCH", "", "", false),
    ] {
        let shown = format!("{method} {framing:?}");
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let (mut client, mut upstream) = used(&wire, &proxy).await;
        client.send(proxy.begin(&format!("{method} /api/y")) + framing + "\r\n" + body).await;
        let first = upstream.message().await;
        assert_eq!(first.body, body.as_bytes());
        drop(upstream);
        if is_repeated {
            let mut upstream = wire.accept().await;
            // Byte for byte, credential included.
            assert_eq!(upstream.message().await, first, "{shown}");
            upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            assert_eq!(client.only_head().await.status(), 204, "{shown}");
        } else {
            assert_eq!(client.message().await.status(), 502, "{shown}");
            assert!(wire.is_quiet().await, "{shown}");
        }
        let records = proxy.records(2).await;
        assert_eq!(records.len(), 2, "one for each request: {shown}");
    }
}

#[tokio::test]
async fn a_request_is_sent_again_once() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = used(&wire, &proxy).await;
    client.send(proxy.begin("GET /api/y") + "\r\n").await;
    upstream.message().await;
    drop(upstream);
    let mut upstream = wire.accept().await;
    upstream.message().await;
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert!(wire.is_quiet().await);
}

#[tokio::test]
async fn a_request_is_not_sent_again_once_an_answer_has_begun() {
    for part in ["H", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
        let head = proxy.begin_forward("GET", wire.addr, "/") + "\r\n";
        let (mut client, mut upstream) = wire.request(&proxy, head.clone()).await;
        upstream.send(OK).await;
        client.message().await;
        client.send(head).await;
        upstream.message().await;
        upstream.send(part).await;
        drop(upstream);
        let status = loop {
            let status = client.message().await.status();
            if status != 103 {
                break status;
            }
        };
        assert_eq!(status, 502, "{part:?}");
        assert!(wire.is_quiet().await, "{part:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_or_spoke_while_it_waited_is_not_used() {
    for unasked in ["", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil", "\r\n"] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let (mut client, mut upstream) = used(&wire, &proxy).await;
        if unasked.is_empty() {
            upstream.finish().await;
        } else {
            upstream.send(unasked).await;
        }
        // A request to elsewhere, after which the proxy has seen what came.
        assert_eq!(proxy.get("/nowhere").await.status, 404);
        // One that could not be sent again.
        client.send(proxy.begin("POST /api/y") + "Content-Length: 5\r\n\r\nhello").await;
        let mut fresh = wire.accept().await;
        assert_eq!(fresh.message().await.body, b"hello", "{unasked:?}");
        fresh.send(OK).await;
        assert_eq!(client.message().await.body, b"ok", "{unasked:?}");
        assert!(upstream.rest().await.is_empty(), "nothing of it: {unasked:?}");
    }
}

#[tokio::test]
async fn bytes_behind_a_response_never_reach_the_next_client() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (method, answer) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"),
    ] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let request = proxy.begin(&format!("{method} /api/x")) + "\r\n";
        let (mut client, mut upstream) = wire.request(&proxy, request).await;
        upstream.send(format!("{answer}{evil}")).await;
        client.only_head().await;
        // The connection is not kept: this waits for its end.
        assert!(upstream.rest().await.is_empty(), "{answer:?}");
        let (mut other, mut upstream) =
            wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
        upstream.send(OK).await;
        assert_eq!(other.message().await.body, b"ok", "{answer:?}");
    }
}

#[tokio::test]
async fn an_early_answer_ends_the_exchange_and_its_connection() {
    for answer in [
        "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
    ] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let mut client = Connection::open(proxy.addr()).await;
        client.send(proxy.begin("POST /api/x") + "Content-Length: 9\r\n\r\npart").await;
        let mut upstream = wire.accept().await;
        upstream.only_head().await;
        upstream.exactly(4).await;
        upstream.send(answer).await;
        let reply = client.message().await;
        assert_eq!(reply.status(), 413);
        // What is left of the request must not be the beginning of another one.
        assert!(upstream.rest().await.is_empty(), "{answer:?}");
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.outcome, record.status), (Outcome::Complete, Some(413)));
    }
}

#[tokio::test]
async fn an_upload_goes_on_while_its_answer_does() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let framing = "Transfer-Encoding: chunked\r\n\r\n";
    client.send(proxy.begin("POST /api/x") + framing).await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
    client.only_head().await;
    for n in 0..10 {
        let part = format!("1\r\n{n}\r\n");
        client.send(&part).await;
        assert_eq!(upstream.exactly(6).await, part.as_bytes());
        let part = format!("2\r\n{n}\n\r\n");
        upstream.send(&part).await;
        assert_eq!(client.exactly(7).await, part.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(upstream.exactly(5).await, b"0\r\n\r\n");
    upstream.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
    // Both ways have ended, so both connections go on.
    client.send(proxy.begin("GET /api/y") + "\r\n").await;
    assert_eq!(upstream.message().await.line(), "GET /y HTTP/1.1");
    upstream.send(OK).await;
    assert_eq!(client.message().await.body, b"ok");
}

#[tokio::test]
async fn an_upstream_that_answers_and_closes_within_an_upload_is_heard() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let framing = format!("Content-Length: {}\r\n\r\n", 4 * MIB);
    client.send(proxy.begin("POST /api/x") + &framing).await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    // Half-closed, and the rest never read: what is written to it fails at some point.
    upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    upstream.finish().await;
    client.try_send(vec![0; 4 * MIB]).await;
    let reply = client.message().await;
    assert_eq!((reply.status(), reply.body), (401, b"no".to_vec()));
}

#[tokio::test]
async fn a_client_that_leaves_within_an_upload_that_is_being_answered_ends_both() {
    let wire = Wire::bind().await;
    let routes = vec![support::route("/api", wire.addr)];
    let config = ProxyConfig { routes, max_connections: 1, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let mut client = Connection::open(proxy.addr()).await;
    client.send(proxy.begin("POST /api/x") + "Content-Length: 9\r\n\r\npart").await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart").await;
    client.only_head().await;
    drop(client);
    // Which waits for the rest of the request before it goes on.
    assert_eq!(upstream.rest().await, b"part");
    assert_eq!(proxy.records(1).await[0].outcome, Outcome::ClientAbort);
    // Its place is free.
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn a_switch_of_protocols_within_a_request_is_answered_502() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let ask = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 9\r\n\r\n";
    client.send(proxy.begin("GET /api/x") + ask).await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    upstream
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    assert_eq!(client.message().await.status(), 502);
    assert!(upstream.rest().await.is_empty());
}

#[tokio::test]
async fn interim_responses_pass_without_what_is_of_the_connection_or_promises_a_body() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop, close\r\n\
                   X-Hop: 1\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n\
                   HTTP/1.1 103 Early Hints\r\nContent-Length: 44\r\nLink: </b>\r\n\r\n";
    upstream.send(format!("{interim}{OK}")).await;
    for link in ["link: </a>", "link: </b>"] {
        let hints = client.only_head().await;
        assert_eq!((hints.status(), hints.fields()), (103, vec![link.to_owned()]));
    }
    assert_eq!(client.message().await.body, b"ok");
}
