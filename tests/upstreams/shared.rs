//! HTTP/2 connections to upstreams: how many exchanges share one, when another is opened, and when
//! one is given up.

use std::time::Duration;

use futures_util::future::join_all;
use nono_audit::Outcome;
use nono_proxy::{Limits, ProxyConfig, RouteConfig};
use support::frames::MAX_CONCURRENT_STREAMS;
use support::scripted::{Act, Asked, Scripted};
use support::{Authority, Connection, TestProxy, exchange, route};

use super::LONG;

/// The most connections of one worker to one upstream that are shared.
const MOST: usize = 32;

/// One exchange at a time on each connection.
const ONE_AT_A_TIME: &[(u16, u32)] = &[(MAX_CONCURRENT_STREAMS, 1)];

/// A server that does what `script` says, and a proxy with one worker and a route `/api` to it.
async fn scripted(
    limits: Limits,
    settings: &'static [(u16, u32)],
    script: impl Fn(Asked) -> Act + Clone + Send + 'static,
) -> (Scripted, TestProxy) {
    let authority = Authority::new();
    let identity = authority.identity(&["localhost"]).with_http2();
    let server = Scripted::start(identity, settings, script).await;
    let config = RouteConfig {
        upstream: format!("https://localhost:{}", server.addr.port()),
        tls_ca: Some(authority.pem_file()),
        ..route("/api", server.addr)
    };
    let limits = Limits { workers: 1, ..limits };
    let config = ProxyConfig { routes: vec![config], limits, ..ProxyConfig::default() };
    (server, TestProxy::start(config).await)
}

/// Begins a request, and reads the beginning of its response.
async fn begun(proxy: &TestProxy) -> Connection {
    let mut client = Connection::open(proxy.addr()).await;
    client.send(proxy.begin("GET /api/events") + "\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"begun\n");
    client
}

#[tokio::test]
async fn a_connection_on_which_no_answer_came_is_left_to_those_that_use_it() {
    let limits = Limits { response_head: Duration::from_millis(100), ..Limits::default() };
    let (server, proxy) = scripted(limits, &[], |asked| match asked {
        (1, 1) => Act::Begin,
        (1, 2) => Act::Wait,
        _ => Act::Answer,
    })
    .await;
    let mut client = begun(&proxy).await;
    let reply = proxy.get("/api/x").await;
    assert_eq!((reply.status, reply.code()), (504, "response_timeout".into()));
    assert_eq!(proxy.get("/api/x").await.text(), "2");
    server.finish();
    assert_eq!(client.chunk().await.unwrap(), b"1");
    assert_eq!(server.asked(), [(1, 1), (1, 2), (2, 1)]);
}

/// Some servers say so where what is behind them has died.
#[tokio::test]
async fn a_response_that_is_reset_without_an_error_is_not_whole() {
    let (_server, proxy) = scripted(Limits::default(), &[], |_| Act::Break).await;
    let mut client = begun(&proxy).await;
    assert_eq!(client.rest().await, b"", "no last chunk, and the connection's end");
    let record = proxy.only_record();
    assert_eq!(record.outcome, Outcome::UpstreamAbort);
    let reason = "the upstream reset its stream before the end of the response's body";
    assert_eq!(record.reason.as_deref(), Some(reason));
}

/// As Node's servers do it.
#[tokio::test]
async fn a_response_without_bytes_is_whole_though_its_end_comes_apart() {
    let (_server, proxy) = scripted(Limits::default(), &[], |_| Act::Empty).await;
    for ask in ["GET", "HEAD"] {
        let reply = exchange(proxy.addr(), &(proxy.begin(&format!("{ask} /api/x")) + "\r\n")).await;
        assert_eq!(reply.status, 200);
        assert_eq!(proxy.only_record().outcome, Outcome::Complete, "{ask}");
    }
}

#[tokio::test]
async fn a_connection_that_fell_silent_costs_one_request() {
    let limits = Limits { response_head: Duration::from_millis(100), ..Limits::default() };
    let script = |asked| if matches!(asked, (1, 2..)) { Act::FallSilent } else { Act::Answer };
    let (server, proxy) = scripted(limits, &[], script).await;
    assert_eq!(proxy.get("/api/x").await.text(), "1");
    assert_eq!(proxy.get("/api/x").await.status, 504);
    for _ in 0..3 {
        assert_eq!(proxy.get("/api/x").await.text(), "2");
    }
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn a_connection_that_rested_for_too_long_is_not_used_again() {
    let limits = Limits { pool_idle: Duration::from_nanos(1), ..Limits::default() };
    let (_, proxy) = scripted(limits, &[], |_| Act::Answer).await;
    assert_eq!(proxy.get("/api/x").await.text(), "1");
    assert_eq!(proxy.get("/api/x").await.text(), "2");
}

#[tokio::test]
async fn where_a_connection_has_no_room_another_is_opened() {
    let script = |asked| if asked == (1, 1) { Act::Begin } else { Act::Answer };
    let (server, proxy) = scripted(Limits::default(), ONE_AT_A_TIME, script).await;
    let mut client = begun(&proxy).await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/api/x").await.text(), "2");
    }
    server.finish();
    assert_eq!(client.chunk().await.unwrap(), b"1");
    assert_eq!(client.chunk().await, None);
    // What ended made room.
    assert_eq!(proxy.get("/api/x").await.text(), "1");
    for reply in join_all((0..8).map(|_| proxy.get("/api/x"))).await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[tokio::test]
async fn a_response_that_is_dropped_makes_room() {
    let script = |asked| if asked == (1, 1) { Act::Begin } else { Act::Answer };
    let (_, proxy) = scripted(Limits::default(), ONE_AT_A_TIME, script).await;
    drop(begun(&proxy).await);
    assert_eq!(proxy.records(1).await[0].outcome, Outcome::ClientAbort);
    assert_eq!(proxy.get("/api/x").await.text(), "1");
}

#[tokio::test]
async fn where_no_connection_has_room_and_there_are_enough_a_request_waits_for_a_while() {
    let script = |asked: Asked| if asked.1 == 1 { Act::Begin } else { Act::Answer };
    let limits = Limits { connect: Duration::from_secs(2), ..Limits::default() };
    let (server, proxy) = scripted(limits, ONE_AT_A_TIME, script).await;
    let mut clients = Vec::new();
    for _ in 0..MOST {
        clients.push(begun(&proxy).await);
    }
    let reply = proxy.get("/api/x").await;
    assert_eq!((reply.status, reply.code()), (503, "upstream_busy".into()));
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
    assert_eq!(server.asked().len(), MOST);
    let (reply, ()) = tokio::join!(proxy.get("/api/x"), async {
        drop(clients.pop());
    });
    assert_eq!(reply.text(), MOST.to_string());
}

#[tokio::test]
async fn a_request_that_a_closing_connection_does_not_take_is_sent_on_another() {
    let (server, proxy) = scripted(Limits::default(), &[], |asked| match asked {
        (1, 2) => Act::Wait,
        (1, 3) => Act::GoAway,
        _ => Act::Answer,
    })
    .await;
    assert_eq!(proxy.get("/api/x").await.text(), "1");
    let (first, second) = tokio::join!(proxy.get("/api/x"), proxy.get("/api/x"));
    let mut by = [first.text().to_owned(), second.text().to_owned()];
    by.sort();
    assert_eq!(by, ["1", "2"]);
    assert_eq!(proxy.get("/api/x").await.text(), "2");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn a_request_that_was_refused_unprocessed_is_sent_once_more() {
    let script = |asked| if asked == (1, 2) { Act::Refuse } else { Act::Answer };
    let (server, proxy) = scripted(Limits::default(), &[], script).await;
    assert_eq!(proxy.get("/api/x").await.text(), "1");
    // Not idempotent, but nothing was done.
    let head = proxy.begin("POST /api/x") + "Content-Length: 0\r\n\r\n";
    assert_eq!(exchange(proxy.addr(), &head).await.text(), "2");
    assert_eq!(server.asked(), [(1, 1), (1, 2), (2, 1)]);
    assert_eq!(proxy.records(2).await[1].outcome, Outcome::Complete);

    let (server, proxy) = scripted(Limits::default(), &[], |_| Act::Refuse).await;
    let reply = proxy.get("/api/x").await;
    assert_eq!((reply.status, reply.code()), (502, "upstream_failed".into()));
    assert_eq!(server.asked(), [(1, 1), (2, 1)]);
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_sent_again() {
    let limits = Limits { response_head: LONG, ..Limits::default() };
    let (server, proxy) = scripted(limits, &[], |_| Act::Refuse).await;
    let head = proxy.begin("POST /api/x") + "Content-Length: 4\r\n\r\nbody";
    let reply = exchange(proxy.addr(), &head).await;
    assert_eq!((reply.status, reply.code()), (502, "upstream_failed".into()));
    assert_eq!(server.asked(), [(1, 1)]);
}
