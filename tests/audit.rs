//! One record for each exchange, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use nono_audit::{Decision, DenialCategory, Outcome, Overflow, Phase, Protocol};
use nono_proxy::{Limits, ProxyConfig, RouteConfig};
use support::{Connection, Origin, REAL_KEY, TestProxy, Wire, exchange, route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

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
async fn why_a_response_was_cut_is_recorded() {
    for (answer, reason) in [
        (
            "Content-Length: 100\r\n\r\nabc",
            "the upstream closed the connection before the end of the response's body",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "the upstream closed the connection before the end of the response's body",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
            "the response's body is not framed as HTTP says: the size of a chunk is not a number",
        ),
    ] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let (mut client, mut upstream) =
            wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        drop(upstream);
        client.rest().await;
        let record = proxy.records(1).await.remove(0);
        assert_eq!(record.outcome, Outcome::UpstreamAbort);
        assert_eq!(record.reason.as_deref(), Some(reason));
    }
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
    let limits = Limits { audit_records: 3, audit_disk: 0, ..Limits::default() };
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

#[tokio::test]
async fn what_memory_does_not_hold_goes_to_disk_and_comes_back_in_order() {
    let origin = Origin::hello().await;
    let limits = Limits { audit_records: 100, ..Limits::default() };
    let proxy = TestProxy::with_limits(origin.addr, limits).await;
    let mut second = proxy.audit_consumer();
    for n in 0..1000 {
        // The log makes room by itself; a request may come before it has.
        while proxy.get(&format!("/api/{n}?key=x")).await.status == 503 {}
    }
    let records = proxy.drain_audit();
    assert!(records.iter().map(|record| record.sequence).eq(0..1000));
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.path.as_deref(), Some(&*format!("/api/{n}?key=[redacted]")));
        assert_eq!(record.rule.as_deref(), None);
    }
    assert_eq!(second.drain(), records, "every consumer has every record, to the last field");
}

#[tokio::test]
async fn clients_without_the_token_cannot_push_out_the_records_of_others() {
    let origin = Origin::hello().await;
    let limits = Limits { audit_records: 40, audit_disk: 0, ..Limits::default() };
    let proxy = TestProxy::with_limits(origin.addr, limits).await;
    for _ in 0..100 {
        let reply = exchange(proxy.addr(), "GET /api/x HTTP/1.1\r\nHost: p\r\n\r\n").await;
        assert_eq!(reply.status, 401);
    }
    assert_eq!(proxy.get("/api/x").await.status, 200);
    let records = proxy.drain_audit();
    assert!(records.iter().map(|record| record.sequence).eq(0..12));
    assert!(records.iter().any(|record| record.status == Some(200)));
    let gaps: Vec<_> = records.iter().filter(|record| record.phase == Phase::Gap).collect();
    assert!(matches!(gaps[..], [gap] if gap.dropped == Some(90)), "{gaps:#?}");
}

#[tokio::test]
async fn a_full_log_can_count_what_it_does_not_hold() {
    let origin = Origin::hello().await;
    let limits = Limits {
        audit_records: 3,
        audit_disk: 0,
        audit_overflow: Overflow::Count,
        ..Limits::default()
    };
    let proxy = TestProxy::with_limits(origin.addr, limits).await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/api/x").await.status, 200);
    }
    let records = proxy.drain_audit();
    assert!(records.iter().map(|record| record.sequence).eq(0..4));
    assert_eq!(
        records.last().map(|record| (record.phase, record.dropped)),
        Some((Phase::Gap, Some(7)))
    );
}

#[tokio::test]
async fn a_record_says_by_which_rule_to_which_address_and_how_soon() {
    let origin = Origin::hello().await;
    let api = RouteConfig {
        endpoint_rules: vec![("GET".into(), "/v1/*".into())],
        ..route("/api", origin.addr)
    };
    let config = ProxyConfig {
        routes: vec![api],
        denied_hosts: vec!["*.bad.example".into()],
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    let head = proxy.begin("GET /api/v1/x") + "X-Request-Id: mine-1\r\n\r\n";
    assert_eq!(exchange(proxy.addr(), &head).await.status, 200);
    let record = proxy.only_record();
    assert_eq!(record.rule.as_deref(), Some("GET /v1/*"));
    assert_eq!(record.upstream_addr, Some(origin.addr));
    assert_eq!(record.request_id.as_deref(), Some("mine-1"));
    assert_eq!((record.protocol, record.phase), (Some(Protocol::Http11), Phase::End));
    assert!(record.time_to_first_byte_ms.unwrap() <= record.duration_ms);

    let (first, rest) = proxy.token.split_at(1);
    let escaped = format!("%{:02x}{rest}", first.as_bytes()[0]);
    for id in [&proxy.token, &escaped] {
        let head = proxy.begin("GET /api/v1/x") + "X-Request-Id: " + id + "\r\n\r\n";
        exchange(proxy.addr(), &head).await;
        assert_eq!(proxy.only_record().request_id, None, "it holds the token");
    }

    let connect = format!(
        "CONNECT x.bad.example:443 HTTP/1.1\r\nHost: x.bad.example:443\r\n{}\r\n",
        proxy.proxy_authorization()
    );
    assert_eq!(exchange(proxy.addr(), &connect).await.status, 403);
    assert_eq!(proxy.only_record().rule.as_deref(), Some("*.bad.example"));
}

#[tokio::test]
async fn a_tunnel_is_recorded_when_it_opens_and_when_it_ends() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut client = Connection::open(proxy.addr()).await;
    let head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", wire.addr);
    client.send(head + &proxy.proxy_authorization() + "\r\n").await;
    let upstream = wire.accept().await;
    assert!(client.head().await.starts_with("http/1.1 200"));
    let opened = proxy.drain_audit().remove(0);
    assert_eq!((opened.phase, opened.outcome), (Phase::Open, Outcome::Running));
    assert_eq!((opened.status, opened.upstream_addr), (Some(200), Some(wire.addr)));
    assert_eq!(opened.rule.as_deref(), Some("127.0.0.1"));
    client.send("twelve bytes").await;
    drop((client, upstream));
    let ended = proxy.records(1).await.remove(0);
    assert_eq!((ended.id, ended.phase), (opened.id, Phase::End));
    assert_eq!(ended.session, opened.session);
}

#[tokio::test]
async fn what_runs_can_be_listed() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    assert!(proxy.active().is_empty());
    let (client, upstream) = wire.request(&proxy, proxy.begin("GET /api/x?key=1") + "\r\n").await;
    let active = proxy.active();
    assert_eq!(active.len(), 1);
    assert_eq!(active[0].path.as_deref(), Some("/api/x?key=[redacted]"));
    assert_eq!((active[0].phase, active[0].outcome), (Phase::Open, Outcome::Running));
    drop((client, upstream));
    let ended = proxy.records(1).await.remove(0);
    assert_eq!(ended.id, active[0].id);
    assert!(proxy.active().is_empty());
}

#[tokio::test]
async fn what_there_is_no_place_for_reaches_no_upstream() {
    let origin = Origin::hello().await;
    let wire = Wire::bind().await;
    // Tunnels and upgrades need two places: one for the record of their opening.
    for (held, asked) in [(3, "GET"), (3, "CONNECT"), (2, "CONNECT"), (2, "Upgrade")] {
        let limits = Limits { audit_records: 3, audit_disk: 0, ..Limits::default() };
        let proxy = TestProxy::start(ProxyConfig {
            routes: vec![route("/api", origin.addr), route("/late", wire.addr)],
            allowed_hosts: vec!["127.0.0.1".into()],
            limits,
            ..ProxyConfig::default()
        })
        .await;
        for _ in 0..held {
            assert_eq!(proxy.get("/api/x").await.status, 200);
        }
        let (seen, free) =
            (origin.seen().len(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        free.set_nonblocking(true).unwrap();
        let request = match asked {
            "GET" => proxy.begin("GET /api/x") + "\r\n",
            "CONNECT" => {
                let host = free.local_addr().unwrap();
                let head = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
                head + &proxy.proxy_authorization() + "\r\n"
            }
            _ => proxy.begin("GET /api/x") + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        };
        let reply = exchange(proxy.addr(), &request).await;
        assert_eq!((reply.status, &*reply.code()), (503, "audit_log_full"), "{asked}");
        assert_eq!(origin.seen().len(), seen, "{asked}");
        assert_eq!(free.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "{asked}");
        // Where there was a place for one record, the refusal has it.
        assert_eq!(proxy.drain_audit().len(), 3, "{asked}");
    }
}

#[tokio::test]
async fn who_sends_no_whole_head_in_time_leaves_one_record() {
    let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
    let proxy = TestProxy::start(ProxyConfig { limits, ..ProxyConfig::default() }).await;
    let mut client = Connection::open(proxy.addr()).await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    assert!(String::from_utf8(client.rest().await).unwrap().starts_with("HTTP/1.1 408 "));
    let record = proxy.records(1).await.remove(0);
    assert_eq!((record.outcome, record.status), (Outcome::Timeout, Some(408)));
    proxy.shutdown(Duration::ZERO).await;
    assert!(proxy.drain_audit().is_empty(), "there is no second one");
}

#[tokio::test]
async fn an_upstream_that_resets_leaves_one_record() {
    for (answer, status) in [("", 502), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 200)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = TestProxy::with_route(listener.local_addr().unwrap()).await;
        let mut client = Connection::open(proxy.addr()).await;
        client.send(proxy.begin("POST /api/x") + "Content-Length: 0\r\n\r\n").await;
        let (mut upstream, _) = listener.accept().await.unwrap();
        upstream.read_u8().await.unwrap();
        upstream.write_all(answer.as_bytes()).await.unwrap();
        if !answer.is_empty() {
            client.head().await;
        }
        // What it has not read makes its end a reset.
        drop(upstream);
        if answer.is_empty() {
            assert_eq!(client.reply().await.status, status);
        } else {
            client.rest().await;
        }
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.outcome, record.status), (Outcome::UpstreamAbort, Some(status)));
        proxy.shutdown(Duration::ZERO).await;
        assert!(proxy.drain_audit().is_empty(), "there is no second one");
    }
}
