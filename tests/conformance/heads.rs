//! Heads: what passes and how it arrives, and what is refused.

use nono_audit::Outcome;
use support::{Connection, Heard, Message, REAL_KEY, TestProxy, Wire};

async fn setup() -> (Heard, TestProxy) {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    (origin, proxy)
}

/// Sends `request` on a connection of its own, and reads to the end of that.
async fn ask(proxy: &TestProxy, request: impl AsRef<[u8]>) -> Message {
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(request).await;
    connection.message().await
}

#[tokio::test]
async fn a_route_request_arrives_with_its_own_fields_and_those_of_its_upstream_alone() {
    let (origin, proxy) = setup().await;
    let token = &proxy.token;
    for (fields, arrives) in [
        ("", vec![]),
        ("X-One: 1\r\nx-two:2\r\n", vec!["x-one: 1", "x-two: 2"]),
        ("X-Padded: \t a  b \t\r\n", vec!["x-padded: a  b"]),
        ("X-Empty:\r\n", vec!["x-empty: "]),
        ("X-Same: b\r\nX-Same: a\r\n", vec!["x-same: b", "x-same: a"]),
        ("X-Latin: caf\u{e9}\r\n", vec!["x-latin: caf\u{c3}\u{a9}"]),
        ("Accept-Encoding: gzip, br\r\n", vec!["accept-encoding: gzip, br"]),
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", vec![]),
        ("Connection: X-Hop, close\r\nX-Hop: 1\r\nX-Kept: 2\r\n", vec!["x-kept: 2"]),
        ("Connection: x-hop, \u{e9}\r\nX-Hop: 1\r\n", vec![]),
        ("Connection: authorization, host\r\n", vec![]),
        ("TE: trailers, deflate\r\nConnection: te\r\n", vec!["connection: te", "te: trailers"]),
        ("TE: gzip\r\n", vec![]),
        ("Proxy-Connection: keep-alive\r\nProxy-Authenticate: x\r\n", vec![]),
        ("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", vec![]),
    ] {
        let head = format!("GET /api/x?y=%2F&z HTTP/1.1\r\nHost: proxy\r\nx-api-key: {token}\r\n");
        let reply = ask(&proxy, format!("{head}{fields}\r\n")).await;
        assert_eq!((reply.status(), reply.body.as_slice()), (200, &b"ok"[..]), "{fields}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.line(), "GET /x?y=%2F&z HTTP/1.1");
        let mut expected =
            vec![format!("authorization: Bearer {REAL_KEY}"), format!("host: {}", origin.addr)];
        expected.extend(arrives.into_iter().map(str::to_owned));
        expected.sort_by_key(|field| field.split(':').next().unwrap().to_owned());
        assert_eq!(seen.fields(), expected, "{fields}");
        assert!(seen.body.is_empty());
    }
}

#[tokio::test]
async fn a_forwarded_request_gets_its_host_from_its_target() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_hosts(&["127.0.0.1", "localhost"]).await;
    let token = proxy.proxy_authorization();
    let port = origin.addr.port();
    for (target, named, line, host) in [
        ("http://127.0.0.1:{p}", "127.0.0.1:{p}", "GET / HTTP/1.1", "127.0.0.1"),
        ("http://127.0.0.1:{p}?q", "127.0.0.1:{p}", "GET /?q HTTP/1.1", "127.0.0.1"),
        ("http://2130706433:{p}/a//b", "127.1:{p}", "GET /a//b HTTP/1.1", "127.0.0.1"),
        ("http://LOCALHOST.:{p}/", "localhost:{p}", "GET / HTTP/1.1", "localhost"),
    ] {
        let port = port.to_string();
        let (target, named) = (target.replace("{p}", &port), named.replace("{p}", &port));
        let head = format!("GET {target} HTTP/1.1\r\nHost: {named}\r\n{token}\r\n");
        assert_eq!(ask(&proxy, head).await.status(), 200, "{target}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.line(), line);
        assert_eq!(seen.fields(), [format!("host: {host}:{port}")]);
    }
}

#[tokio::test]
async fn a_host_that_is_not_that_of_the_target_is_refused() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_hosts(&["127.0.0.1", "localhost", "evil.example"]).await;
    let (addr, token) = (origin.addr, proxy.proxy_authorization());
    for host in ["evil.example", "localhost", "127.0.0.1:1", "", "a b", "127.0.0.1:x"] {
        let head = format!("GET http://{addr}/ HTTP/1.1\r\nHost: {host}\r\n{token}\r\n");
        assert_eq!(ask(&proxy, head).await.status(), 400, "{host}");
    }
    assert!(origin.requests().is_empty());
}

/// Heads that are refused whoever sends them, with `{t}` where the token's field goes.
const MALFORMED: &[(&str, u16)] = &[
    // Framing that could be read in two ways.
    (
        "POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    (
        "POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        400,
    ),
    (
        "POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
    ),
    (
        "POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: 3, 3\r\n\r\nabc", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: abc\r\n\r\n", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: -1\r\n\r\n", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: +1\r\n\r\na", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: 0x1\r\n\r\na", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length: 18446744073709551616\r\n\r\n", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Transfer-Encoding: xchunked\r\n\r\n", 400),
    (
        "POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    ("POST /api/x HTTP/1.0\r\nHost: p\r\n{t}Transfer-Encoding: chunked\r\n\r\n", 400),
    ("POST /api/x HTTP/1.1\r\nHost: p\r\n{t}Content-Length : 3\r\n\r\nabc", 400),
    ("CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n{t}Content-Length: 3\r\n\r\nabc", 400),
    // Fields.
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}Proxy-Authorization : Basic zz\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X: a\r\n b\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X: a\r\n\tb\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\n Host: p\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X: a\0b\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X: a\rb\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X: a\nY: b\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\nHost: p\n\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}no colon\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}: no name\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X y: z\r\n\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\n{t}X: \x7f\r\n\r\n", 400),
    // Host.
    ("GET /api/x HTTP/1.1\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/1.1\r\nHost: p\r\nHost: p\r\n{t}\r\n", 400),
    // Request lines.
    ("GET /api/x HTTP/9.9\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/1.2\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/2.0\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/11\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x http/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x\r\nHost: p\r\n{t}\r\n", 400),
    ("GET  /api/x HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x  HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/1.1 \r\nHost: p\r\n{t}\r\n", 400),
    ("GET\t/api/x\tHTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET\u{a0}/api/x\u{a0}HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x y HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x HTTP/1.1 extra\r\nHost: p\r\n{t}\r\n", 400),
    (" GET /api/x HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("G(T /api/x HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("GET /api/x#y HTTP/1.1\r\nHost: p\r\n{t}\r\n", 400),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("\x16\x03\x01\x02", 400),
];

#[tokio::test]
async fn a_malformed_head_is_answered_400_recorded_and_never_forwarded() {
    let (origin, proxy) = setup().await;
    let token = format!("Authorization: Bearer {}\r\n", proxy.token);
    for (head, status) in MALFORMED {
        let mut connection = Connection::open(proxy.addr()).await;
        connection.send(head.replace("{t}", &token)).await;
        let reply = connection.message().await;
        assert_eq!(reply.status(), *status, "{head:?}");
        assert_eq!(reply.values("connection"), ["close"], "{head:?}");
        assert!(connection.rest().await.is_empty(), "{head:?}");
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.status, record.outcome), (Some(*status), Outcome::Refused), "{head:?}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn targets_and_methods_that_are_not_served_are_refused() {
    let (origin, proxy) = setup().await;
    for (line, status) in [
        ("OPTIONS *", 400),
        ("GET *", 400),
        ("GET api/x", 400),
        ("GET api", 400),
        ("GET https://proxy/api/x", 400),
        ("GET ftp://proxy/api/x", 400),
        ("TRACE /api/x", 405),
        ("CONNECT /api/x", 400),
        ("CONNECT p", 400),
    ] {
        let proxy_token = proxy.proxy_authorization();
        let head = format!("{line} HTTP/1.1\r\nHost: proxy\r\n{proxy_token}\r\n");
        assert_eq!(ask(&proxy, head).await.status(), status, "{line}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn long_heads_pass_up_to_a_bound_and_are_then_refused() {
    let (origin, proxy) = setup().await;
    let padded = |length| format!("X: {}\r\n", "y".repeat(length));
    for (line, fields, status) in [
        ("GET /api/x".into(), padded(12 * 1024), 200),
        ("GET /api/x".into(), "X: y\r\n".repeat(90), 200),
        (format!("GET /api/{}", "x".repeat(8 * 1024)), String::new(), 200),
        ("GET /api/x".into(), padded(80 * 1024), 431),
        ("GET /api/x".into(), "X: y\r\n".repeat(101), 431),
        (format!("GET /api/{}", "x".repeat(40 * 1024)), String::new(), 414),
    ] {
        let head = proxy.begin(&line) + &fields + "\r\n";
        assert_eq!(ask(&proxy, head).await.status(), status);
    }
    assert_eq!(origin.requests().len(), 3);
    assert_eq!(origin.requests()[0].values("x"), ["y".repeat(12 * 1024)]);
}

#[tokio::test]
async fn an_empty_line_before_a_request_is_skipped_but_not_many() {
    let (origin, proxy) = setup().await;
    assert_eq!(
        ask(&proxy, "\r\n".to_owned() + &proxy.begin("GET /api/x") + "\r\n").await.status(),
        200
    );
    assert_eq!(origin.only().line(), "GET /x HTTP/1.1");
    assert_eq!(ask(&proxy, "\r\n".repeat(40 * 1024)).await.status(), 400);
}
