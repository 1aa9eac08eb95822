//! Plain http requests in absolute-form: forwarded to allowed hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use nono_audit::redact::REDACTED;
use support::{Connection, Origin, REAL_KEY, TestProxy, Wire, exchange};

#[tokio::test]
async fn an_allowed_host_gets_the_request_without_what_belongs_to_the_proxy() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let request = format!(
        "GET http://{0}/a?b=1 HTTP/1.1\r\nHost: {0}\r\n{1}Proxy-Connection: keep-alive\r\n\
         Connection: x-hop\r\nX-Hop: 1\r\nTE: gzip\r\nX-Kept: 2\r\n\r\n",
        origin.addr,
        proxy.proxy_authorization(),
    );
    assert_eq!(exchange(proxy.addr(), &request).await.text(), "hello");
    let seen = origin.only();
    assert_eq!(seen.target, "/a?b=1");
    let names: Vec<_> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["host", "x-kept"]);
    let record = proxy.only_record();
    assert_eq!((record.status, record.route_id), (Some(200), None));
    assert_eq!(record.path.as_deref(), Some("/a?b=1"));
}

#[tokio::test]
async fn every_slot_that_carries_the_token_is_emptied() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let (addr, token) = (origin.addr, &proxy.token);
    let escaped = format!("%{:x}{}", token.as_bytes()[0], &token[1..]);
    let fields = format!(
        "{}Authorization: Bearer {token}\r\nx-api-key: {token}\r\napi-key: {token}\r\n\
         x-goog-api-key: Key {token}\r\n",
        proxy.proxy_authorization()
    );
    let get = async |target: &str, fields: &str| {
        let head = format!("GET http://{addr}{target} HTTP/1.1\r\nHost: {addr}\r\n{fields}\r\n");
        exchange(proxy.addr(), &head).await
    };
    for (asked, sent) in [
        (format!("/x?key={token}"), "/x"),
        (format!("/x?a=1&key={escaped}&&b=%20"), "/x?a=1&&b=%20"),
        (format!("?{token}"), "/"),
    ] {
        assert_eq!(get(&asked, &fields).await.status, 200, "{asked}");
        let seen = origin.seen().pop().unwrap();
        assert_eq!((&*seen.target, seen.headers.len()), (sent, 1), "{asked}: {seen:?}");
    }
    let arrived = origin.seen().len();
    for target in [format!("/{token}/x"), format!("/x?next=/y%3Fkey%3D{token}")] {
        let reply = get(&target, &fields).await;
        assert_eq!((reply.status, reply.code()), (401, "token_misplaced".into()), "{target}");
        assert!(reply.text().contains("Proxy-Authorization"), "{}", reply.text());
    }
    // None of these slots lets a forward through.
    let theirs = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(get(&format!("/x?key={token}"), &theirs).await.status, 407);
    assert_eq!(origin.seen().len(), arrived);
    for record in proxy.drain_audit() {
        assert!(!record.path.unwrap().contains(token.as_str()));
    }
}

#[tokio::test]
async fn several_requests_share_the_connections() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut connection = Connection::open(proxy.addr()).await;
    for _ in 0..3 {
        let token = proxy.proxy_authorization();
        let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n{token}\r\n", origin.addr);
        connection.send(request).await;
        assert_eq!(connection.reply().await.text(), "hello");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn the_token_is_needed_and_the_host_must_be_allowed() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_hosts(&["allowed.example"]).await;
    let request = |fields: &str| {
        format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n{fields}\r\n", origin.addr)
    };
    let stranger = exchange(proxy.addr(), &request("")).await;
    assert_eq!((stranger.status, stranger.code()), (407, "proxy_token_required".into()));
    let record = proxy.only_record();
    let asked = (origin.addr.ip().to_string(), Some(origin.addr.port()));
    assert_eq!((record.target.to_string(), record.port), asked);
    let refused = exchange(proxy.addr(), &request(&proxy.proxy_authorization())).await;
    assert_eq!((refused.status, refused.code()), (403, "host_not_allowed".into()));
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn what_has_two_meanings_is_malformed() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1", "other.example"]).await;
    let (addr, token) = (origin.addr, proxy.proxy_authorization());
    for request in [
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: other.example\r\n{token}\r\n"),
        format!("GET https://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n{token}\r\n"),
        format!("GET http://u:p@{addr}/ HTTP/1.1\r\nHost: {addr}\r\n{token}\r\n"),
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nHost: {addr}\r\n{token}\r\n"),
    ] {
        let reply = exchange(proxy.addr(), &request).await;
        assert_eq!(reply.status, 400, "{request}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn an_absolute_url_of_the_proxy_itself_is_a_request_to_a_route() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    // As an SDK sends it that uses the proxy for its base URL too.
    let request = format!(
        "GET http://{0}/api/x HTTP/1.1\r\nHost: {0}\r\n{1}Authorization: Bearer {2}\r\n\r\n",
        proxy.addr(),
        proxy.proxy_authorization(),
        proxy.token,
    );
    assert_eq!(exchange(proxy.addr(), &request).await.status, 200);
    assert_eq!(origin.only().header("authorization"), format!("Bearer {REAL_KEY}"));
}

#[tokio::test]
async fn trace_is_refused() {
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let token = proxy.proxy_authorization();
    let request = format!("TRACE http://127.0.0.1:9/ HTTP/1.1\r\nHost: 127.0.0.1:9\r\n{token}\r\n");
    assert_eq!(exchange(proxy.addr(), &request).await.code(), "method_refused");
}

/// RFC 9112 §3.2.4, RFC 9110 §7.6.2.
#[tokio::test]
async fn options_reach_the_server_as_a_whole_as_often_as_they_may_be_passed_on() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let (addr, token) = (origin.addr, proxy.proxy_authorization());
    let ask = async |target: &str, fields: &str| {
        let head = format!("OPTIONS {target} HTTP/1.1\r\nHost: {addr}\r\n{token}{fields}\r\n");
        exchange(proxy.addr(), &head).await
    };
    let server = format!("http://{addr}");
    for (target, line) in
        [(server.clone(), "OPTIONS * HTTP/1.1"), (server.clone() + "/", "OPTIONS / HTTP/1.1")]
    {
        assert_eq!(ask(&target, "Max-Forwards: 1\r\n").await.status, 200, "{target}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.line(), line);
        assert_eq!(seen.fields(), [format!("host: {addr}"), "max-forwards: 0".into()]);
    }
    let reply = ask(&server, "Max-Forwards: 0\r\n").await;
    assert_eq!((reply.status, reply.code()), (405, "method_refused".into()));
    assert!(reply.head.contains("allow: get, head, post"), "{}", reply.head);
    assert_eq!(ask(&server, "Max-Forwards: x\r\n").await.status, 400);
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn no_name_carries_the_token_on() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let (addr, token) = (origin.addr, &proxy.token);
    let fields = format!("{token}: 1\r\nX-{token}: 2\r\n{}", proxy.proxy_authorization());
    let ask = async |method: &str| {
        let head = format!("{method} http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n{fields}\r\n");
        exchange(proxy.addr(), &head).await
    };
    assert_eq!(ask("GET").await.status, 200);
    assert_eq!(origin.only().headers.len(), 1, "{:?}", origin.only());
    assert_eq!(ask(token).await.code(), "method_refused");
    assert_eq!(origin.seen().len(), 1);
    let recorded = proxy.records(2).await;
    assert_eq!(recorded[1].method.as_deref(), Some(REDACTED), "nor half of it");
}
