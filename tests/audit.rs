//! One record for each exchange, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use nono_audit::{Decision, DenialCategory, Outcome};
use nono_proxy::{Limits, ProxyConfig};
use support::{Connection, Origin, REAL_KEY, TestProxy, Wire, exchange, route};

#[tokio::test]
async fn a_request_leaves_one_record_by_the_time_its_response_is_whole() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    for n in 0..50 {
        proxy.get("/api/v1/models?api_key=abc&page=2").await;
        let record = proxy.only_record();
        assert_eq!(record.sequence, n);
        assert_eq!(record.path.as_deref(), Some("/api/v1/models?api_key=[redacted]&page=2"));
        assert_eq!((record.status, record.outcome), (Some(200), Outcome::Complete));
        assert_eq!(
            (record.decision, record.managed_credential_active),
            (Decision::Allow, Some(true))
        );
        assert_eq!(record.route_id.as_deref(), Some("api"));
        assert_eq!(record.port, Some(origin.addr.port()));
        let shown = serde_json::to_string(&record).unwrap();
        assert!(!shown.contains(&proxy.token) && !shown.contains(REAL_KEY));
    }
}

#[tokio::test]
async fn a_refusal_has_the_id_of_its_record() {
    let proxy = TestProxy::with_hosts(&[]).await;
    let request = format!(
        "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n{}\r\n",
        proxy.proxy_authorization()
    );
    let reply = exchange(proxy.addr(), &request).await;
    let record = proxy.only_record();
    assert_eq!(reply.json()["request_id"], record.id.to_string());
    assert_eq!(record.status, Some(reply.status));
    assert_eq!(record.reason.as_deref(), reply.json()["message"].as_str());
}

#[tokio::test]
async fn what_is_not_http_leaves_a_record_too() {
    let proxy = TestProxy::with_hosts(&[]).await;
    for (bytes, status) in [
        ("NOT HTTP AT ALL\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", 400),
    ] {
        let mut connection = Connection::open(proxy.addr()).await;
        connection.send(bytes).await;
        let answer = String::from_utf8(connection.rest().await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{bytes:?}: {answer}");
        let record = proxy.records(1).await.remove(0);
        assert_eq!(record.status, Some(status), "{bytes:?}");
        assert_eq!(record.denial_category, Some(DenialCategory::InvalidRequest));
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_recorded_and_gives_its_place_back() {
    let wire = Wire::bind().await;
    let config = ProxyConfig {
        routes: vec![route("/api", wire.addr)],
        max_connections: 1,
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    for _ in 0..3 {
        let (client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
        drop(client);
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.outcome, record.status), (Outcome::ClientAbort, None));
        assert!(upstream.rest().await.is_empty(), "the upstream connection is closed");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_response_is_recorded() {
    let origin = Origin::start(None, |_| {
        let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 1024]))));
        Response::new(BoxBody::new(StreamBody::new(endless)))
    })
    .await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    client.send(proxy.begin("GET /api/x") + "\r\n").await;
    client.head().await;
    client.chunk().await.unwrap();
    drop(client);
    let record = proxy.records(1).await.remove(0);
    assert_eq!((record.outcome, record.status), (Outcome::ClientAbort, Some(200)));
    assert!(record.bytes_out >= 1024);
}

#[tokio::test]
async fn an_upstream_that_dies_in_the_middle_is_visible_to_the_client_and_recorded() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"hello\n");
    drop(upstream);
    assert!(client.rest().await.is_empty(), "cut, without the chunk that ends a body");
    let record = proxy.records(1).await.remove(0);
    assert_eq!(record.outcome, Outcome::UpstreamAbort);
}

#[tokio::test]
async fn over_the_limit_is_answered_503_and_recorded() {
    let wire = Wire::bind().await;
    let config = ProxyConfig {
        routes: vec![route("/api", wire.addr)],
        max_connections: 1,
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    let mut holder = Connection::open(proxy.addr()).await;
    holder.send(proxy.begin("GET /api/x") + "\r\n").await;
    let _upstream = wire.accept().await;
    let reply = proxy.get("/api/x").await;
    assert_eq!((reply.status, reply.code()), (503, "over_limit".into()));
    assert!(reply.head.contains("retry-after: 1"));
    assert_eq!(proxy.only_record().denial_category, Some(DenialCategory::OverLimit));
}

#[tokio::test]
async fn a_full_log_refuses_requests_and_loses_none() {
    let origin = Origin::hello().await;
    let limits = Limits { audit_records: 3, ..Limits::default() };
    let config =
        ProxyConfig { routes: vec![route("/api", origin.addr)], limits, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(proxy.get("/api/x").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
    assert_eq!(proxy.drain_audit().len(), 3);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(proxy.only_record().sequence, 3);
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_order_and_recorded() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let request = |path: &str| proxy.begin(&format!("GET {path}")) + "\r\n";
    client.send(request("/api/1") + &request("/nothing") + &request("/api/3")).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.reply().await.status);
    }
    assert_eq!(statuses, [200, 404, 200]);
    assert_eq!(proxy.drain_audit().len(), 3);
}

#[tokio::test]
async fn a_refused_head_request_leaves_its_connection_usable() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    client.send("HEAD /api/x HTTP/1.1\r\nHost: p\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 401") && head.contains("content-length: "), "{head}");
    assert_eq!(proxy.only_record().outcome, Outcome::Refused);
    client.send("GET /api/x HTTP/1.1\r\nHost: p\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 401);
}

#[tokio::test]
async fn a_connection_too_many_is_answered_503() {
    let limits = Limits { max_client_connections: 1, ..Limits::default() };
    let proxy = TestProxy::start(ProxyConfig { limits, ..ProxyConfig::default() }).await;
    let mut first = Connection::open(proxy.addr()).await;
    first.send("GET / HTTP/1.1\r\nHost: p\r\n\r\n").await;
    assert_eq!(first.reply().await.status, 401);
    let reply = exchange(proxy.addr(), "GET / HTTP/1.1\r\nHost: p\r\n\r\n").await;
    assert_eq!((reply.status, reply.code()), (503, "too_many_connections".into()));
    assert!(reply.head.contains("retry-after: 1\r\n"), "{}", reply.head);
    assert_eq!(proxy.drain_audit().len(), 2);
}

#[tokio::test]
async fn a_crowd_of_connections_too_many_is_answered_to_the_last_one() {
    let origin = Origin::hello().await;
    let limits = Limits { max_client_connections: 1, ..Limits::default() };
    let proxy = TestProxy::with_limits(origin.addr, limits).await;
    let _first = Connection::open(proxy.addr()).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(Connection::open(proxy.addr()).await);
    }
    for connection in &mut crowd {
        assert_eq!(connection.reply().await.status, 503);
        assert!(connection.rest().await.is_empty());
    }
    assert_eq!(proxy.records(200).await.len(), 200);
}
