//! The life of a client's connection: reuse, pipelining, HTTP/1.0, time limits, and its end.

use std::time::Duration;

use nono_audit::Outcome;
use nono_proxy::{Limits, ProxyConfig, RouteConfig};
use support::{Connection, REAL_KEY, TestProxy, Wire, route};

#[tokio::test]
async fn pipelined_requests_to_several_routes_are_answered_in_order_with_their_own_keys() {
    let (first, second) =
        (Wire::bind().await.answer(sized("1")), Wire::bind().await.answer(sized("2")));
    let open = Wire::bind().await.answer(sized("3"));
    let routes = vec![
        route("/one", first.addr),
        RouteConfig { inject_header: "x-api-key".into(), ..route("/two", second.addr) },
        RouteConfig { credential_key: None, ..route("/three", open.addr) },
    ];
    let proxy = TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await;
    let mut requests = String::new();
    for n in 0..10 {
        for prefix in ["one", "two", "three"] {
            requests += &proxy.begin(&format!("POST /{prefix}/{n}"));
            requests += "Content-Length: 3\r\n\r\na\r\n";
        }
    }
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(requests).await;
    for _ in 0..10 {
        for body in ["1", "2", "3"] {
            assert_eq!(connection.message().await.body, body.as_bytes());
        }
    }
    let bearer = format!("Bearer {REAL_KEY}");
    for (origin, authorization, key) in
        [(first, vec![bearer], vec![]), (second, vec![], vec![REAL_KEY]), (open, vec![], vec![])]
    {
        assert_eq!(origin.connections(), 1);
        for (n, seen) in origin.requests().into_iter().enumerate() {
            assert_eq!(seen.line(), format!("POST /{n} HTTP/1.1"));
            assert_eq!(seen.values("authorization"), authorization);
            assert_eq!(seen.values("x-api-key"), key);
            assert_eq!(seen.body, b"a\r\n");
        }
    }
    assert_eq!(proxy.drain_audit().len(), 30);
}

fn sized(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_malformed_request_in_a_pipeline_is_answered_after_those_before_it() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let good = proxy.begin("GET /api/x") + "\r\n";
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(format!("{good}{good}BAD\r\n\r\n{good}")).await;
    for status in [200, 200, 400] {
        assert_eq!(connection.message().await.status(), status);
    }
    assert!(connection.rest().await.is_empty());
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn a_request_behind_a_body_is_not_taken_for_part_of_it() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let hidden = "GET /api/hidden HTTP/1.1\r\nHost: p\r\n\r\n";
    let post = proxy.begin("POST /api/x") + &format!("Content-Length: {}\r\n\r\n", hidden.len());
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(post + hidden + hidden).await;
    assert_eq!(connection.message().await.status(), 200);
    // The second one brings no token.
    assert_eq!(connection.message().await.status(), 401);
    assert_eq!(origin.only().body, hidden.as_bytes());
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed_or_kept_as_it_asks() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let head = format!("GET /api/x HTTP/1.0\r\nx-api-key: {}\r\n", proxy.token);
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(format!("{head}\r\n")).await;
    assert_eq!(connection.message().await.body, b"ok");
    assert!(connection.rest().await.is_empty());

    let mut connection = Connection::open(proxy.addr()).await;
    for _ in 0..3 {
        connection.send(format!("{head}Connection: keep-alive\r\n\r\n")).await;
        let reply = connection.message().await;
        assert_eq!(
            (reply.values("connection"), reply.body),
            (vec!["keep-alive".into()], b"ok".into())
        );
    }
    assert!(origin.requests().iter().all(|seen| seen.line() == "GET /x HTTP/1.1"));
}

#[tokio::test]
async fn http_1_0_gets_a_chunked_response_without_chunks_or_interim_responses() {
    let origin = Wire::bind().await.answer(
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    let head = format!("GET /api/x HTTP/1.0\r\nx-api-key: {}\r\n", proxy.token);
    connection.send(format!("{head}Connection: keep-alive\r\n\r\n")).await;
    let reply = connection.only_head().await;
    assert_eq!(reply.status(), 200);
    assert!(reply.values("transfer-encoding").is_empty(), "{reply:?}");
    assert_eq!(connection.rest().await, b"abcde");
}

#[tokio::test]
async fn a_connection_that_asks_to_be_closed_is_closed_behind_the_answer() {
    let origin = Wire::bind().await.ok();
    let limits = Limits { workers: 1, ..Limits::default() };
    let proxy = TestProxy::with_limits(origin.addr, limits).await;
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(proxy.begin("GET /api/x") + "Connection: close\r\n\r\n").await;
    let reply = connection.message().await;
    assert_eq!(reply.values("connection"), ["close"]);
    assert!(connection.rest().await.is_empty());
    // Only the client's side was to be closed.
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn what_comes_behind_the_last_request_does_not_destroy_its_answer() {
    let origin = Wire::bind().await.answer(sized(&"x".repeat(200_000)));
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    let last = proxy.begin("GET /api/x") + "Connection: close\r\n\r\n";
    connection.try_send(last + &"GET /api/more HTTP/1.1\r\n".repeat(5000)).await;
    let reply = connection.message().await;
    assert_eq!((reply.status(), reply.body.len()), (200, 200_000));
    assert!(connection.rest().await.is_empty());
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_refusal_of_a_body_that_has_not_come_says_that_it_is_the_last_answer() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    for (fields, part, last) in [
        ("Content-Length: 5", "hello", false),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", false),
        ("Content-Length: 5", "hell", true),
        ("Content-Length: 5\r\nExpect: 100-continue", "", true),
        ("Content-Length: 9999999", "hello", true),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n", true),
        ("Transfer-Encoding: chunked", "x\r\n", true),
    ] {
        let mut connection = Connection::open(proxy.addr()).await;
        let head = format!("POST /api/x HTTP/1.1\r\nHost: p\r\n{fields}\r\n\r\n{part}");
        connection.send(head).await;
        let reply = connection.message().await;
        let announced = reply.values("connection") == ["close"];
        assert_eq!((reply.status(), announced), (401, last), "{fields} {part:?}");
        if last {
            assert!(connection.rest().await.is_empty(), "{fields} {part:?}");
        } else {
            connection.send(proxy.begin("GET /api/x") + "\r\n").await;
            assert_eq!(connection.message().await.status(), 200, "{fields} {part:?}");
        }
    }
}

#[tokio::test]
async fn a_response_that_is_not_the_last_one_does_not_say_so() {
    let origin = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let origin = Wire::bind().await.answer(origin);
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    for _ in 0..50 {
        connection.send(proxy.begin("GET /api/x") + "\r\n").await;
        let reply = connection.message().await;
        assert_eq!((reply.status(), reply.values("connection")), (200, vec![]));
    }
}

#[tokio::test]
async fn a_refused_request_leaves_its_connection_usable() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    for (head, status) in [
        ("POST /api/x HTTP/1.1\r\nHost: p\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 401),
        (proxy.begin("GET /nowhere") + "\r\n", 404),
        (proxy.begin("TRACE /api/x") + "\r\n", 405),
        (proxy.begin_forward("GET", origin.addr, "/") + "\r\n", 403),
        (proxy.begin("POST /nowhere") + "Content-Length: 5\r\n\r\nhello", 404),
        (proxy.begin("POST /api/x") + "Content-Length: 5\r\n\r\nhello", 200),
    ] {
        connection.send(head).await;
        assert_eq!(connection.message().await.status(), status);
    }
    assert_eq!(origin.only().body, b"hello");
}

fn short_head() -> Limits {
    Limits { head: Duration::from_millis(300), ..Limits::default() }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_at_the_limit() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_limits(origin.addr, short_head()).await;
    let mut connection = Connection::open(proxy.addr()).await;
    // A byte at least every 50 ms, far longer than the limit, until it is answered.
    connection.send("GET ").await;
    let reply = loop {
        assert!(connection.try_send("/").await, "closed without an answer");
        let answered = tokio::time::timeout(Duration::from_millis(50), connection.wait()).await;
        if answered.is_ok() {
            break connection.message().await;
        }
    };
    assert_eq!(reply.status(), 408);
    assert!(connection.rest().await.is_empty());
    assert_eq!(proxy.records(1).await[0].status, Some(408));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_an_answer_or_record() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_limits(origin.addr, short_head()).await;
    let mut fresh = Connection::open(proxy.addr()).await;
    let mut used = Connection::open(proxy.addr()).await;
    used.send(proxy.begin("GET /api/x") + "\r\n").await;
    assert_eq!(used.message().await.status(), 200);
    assert!(fresh.rest().await.is_empty());
    assert!(used.rest().await.is_empty());
    assert_eq!(proxy.drain_audit().len(), 1);
}

#[tokio::test]
async fn a_slow_response_is_not_cut_by_the_limit_for_heads() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_limits(wire.addr, short_head()).await;
    let (mut connection, mut upstream) =
        wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    let silence = tokio::time::timeout(Duration::from_millis(700), connection.wait()).await;
    assert!(silence.is_err(), "answered by itself");
    upstream.send(sized("late")).await;
    assert_eq!(connection.message().await.body, b"late");
    // The time for the next head begins now.
    connection.send(proxy.begin("GET /api/x") + "\r\n").await;
    upstream.message().await;
    upstream.send(sized("again")).await;
    assert_eq!(connection.message().await.body, b"again");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_at_once() {
    let wire = Wire::bind().await;
    let config = ProxyConfig {
        allowed_hosts: vec!["127.0.0.1".into()],
        max_connections: 1,
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"] {
        let (mut client, mut upstream) =
            wire.request(&proxy, proxy.begin_forward("GET", wire.addr, "/") + "\r\n").await;
        if !answer.is_empty() {
            upstream.send(answer).await;
            client.only_head().await;
            client.exactly(4).await;
        }
        drop(client);
        assert_eq!(proxy.records(1).await[0].outcome, Outcome::ClientAbort);
        assert!(upstream.rest().await.is_empty(), "the upstream connection is closed");
    }
    let (mut client, mut upstream) =
        wire.request(&proxy, proxy.begin_forward("GET", wire.addr, "/") + "\r\n").await;
    upstream.send(sized("ok")).await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_with_more_sent_than_is_read_frees_its_place_at_once() {
    let wire = Wire::bind().await;
    let routes = vec![route("/api", wire.addr)];
    let config = ProxyConfig { routes, max_connections: 1, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let get = proxy.begin("GET /api/x") + "\r\n";
    let (mut client, upstream) = wire.request(&proxy, get.clone()).await;
    client.send(get.repeat(100 * 1024 / get.len())).await;
    drop(client);
    let record = proxy.records(1).await.remove(0);
    assert_eq!(record.outcome, Outcome::ClientAbort);
    drop(upstream);
    let (mut client, mut upstream) = wire.request(&proxy, get).await;
    upstream.send(sized("ok")).await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_upload_is_recorded_as_such() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    for (framing, part) in
        [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")]
    {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(proxy.begin("POST /api/x") + framing + "\r\n\r\n" + part).await;
        let mut upstream = wire.accept().await;
        upstream.only_head().await;
        upstream.exactly(part.len()).await;
        drop(client);
        let rest = upstream.rest().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the upstream takes it for whole");
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.outcome, record.bytes_in), (Outcome::ClientAbort, 5), "{framing}");
    }
}

#[tokio::test]
async fn what_is_over_the_limit_is_answered_and_recorded() {
    let wire = Wire::bind().await;
    let routes = vec![route("/api", wire.addr)];
    let config = ProxyConfig { routes, max_connections: 2, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let mut holders = Vec::new();
    for _ in 0..2 {
        let (holder, upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
        holders.push((holder, upstream));
    }
    for _ in 0..20 {
        let reply = proxy.get("/api/x").await;
        assert_eq!((reply.status, reply.code()), (503, "over_limit".into()));
        assert!(reply.head.contains("retry-after: 1\r\n"), "{}", reply.head);
    }
    assert_eq!(proxy.drain_audit().len(), 20);
    let (mut holder, mut upstream) = holders.remove(0);
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(holder.message().await.status(), 200);
    let (mut next, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send(sized("next")).await;
    assert_eq!(next.message().await.body, b"next");
}
