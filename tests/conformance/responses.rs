//! Responses of well-behaved upstreams: each byte that matters arrives.

use nono_audit::Outcome;
use nono_proxy::{ProxyConfig, RouteConfig};
use support::{Connection, REAL_KEY, TestProxy, Wire, route};

/// What a client sees of `answer` to a request with `method`.
async fn client_of(method: &str, answer: impl Into<Vec<u8>>) -> (Connection, TestProxy) {
    let origin = Wire::bind().await.answer(answer);
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(proxy.begin(&format!("{method} /api/x")) + "\r\n").await;
    (connection, proxy)
}

#[tokio::test]
async fn status_reason_fields_and_body_pass_as_they_are() {
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
    for (head, body) in [
        ("HTTP/1.1 200 OK\r\nX-Latin: caf\u{e9}\r\n", &b"hello"[..]),
        ("HTTP/1.1 299 Custom Reason\r\n", b"x"),
        ("HTTP/1.1 200 \r\n", b"x"),
        ("HTTP/1.1 404 caf\u{e9} ferm\u{e9}\r\n", b"x"),
        ("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n", b"no"),
        ("HTTP/1.1 500 Oops\r\nRetry-After: 5\r\n", b""),
        ("HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/?a=b#c\r\n", b""),
        ("HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\n", b""),
        ("HTTP/1.1 200 OK\r\nSet-Cookie: b=2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", b""),
        ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: \"x\"\r\nVary: *\r\n", gzip),
        ("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n", b"whose?"),
    ] {
        let length = format!("Content-Length: {}\r\nDate: now\r\n", body.len());
        // As Latin-1, so that each character of the table is one byte.
        let mut answer: Vec<u8> = head.chars().map(|c| u8::try_from(c).unwrap()).collect();
        answer.extend_from_slice(format!("{length}\r\n").as_bytes());
        answer.extend_from_slice(body);
        let (mut connection, _proxy) = client_of("GET", answer).await;
        let reply = connection.message().await;
        let mut lines = head.lines();
        assert_eq!(reply.line(), lines.next().unwrap(), "{head}");
        let mut expected: Vec<_> = lines.chain(length.lines()).map(lower_name).collect();
        expected.sort_by_key(|field| field.split(':').next().unwrap().to_owned());
        assert_eq!(reply.fields(), expected, "{head}");
        assert_eq!(reply.body, body, "{head}");
    }
}

fn lower_name(field: &str) -> String {
    let (name, value) = field.split_once(':').unwrap();
    format!("{}:{value}", name.to_lowercase())
}

#[tokio::test]
async fn fields_of_the_upstreams_connection_end_at_the_proxy() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\
                  Content-Length: 0\r\nX-Kept: 2\r\nDate: now\r\n\r\n";
    let (mut connection, _proxy) = client_of("GET", answer).await;
    let reply = connection.message().await;
    assert_eq!(reply.fields(), ["content-length: 0", "date: now", "x-kept: 2"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Wire::bind().await.ok();
    let location = format!("Location: http://{}/\r\nContent-Length: 0\r\n\r\n", target.addr);
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "308 Permanent Redirect"]
    {
        let answer = format!("HTTP/1.1 {status}\r\n{location}");
        let (mut connection, _proxy) = client_of("GET", answer).await;
        assert_eq!(connection.message().await.line(), format!("HTTP/1.1 {status}"));
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nDate: now\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: now\r\n\r\n"),
        ("HEAD", "HTTP/1.1 404 Not Found\r\nDate: now\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nDate: now\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\nDate: now\r\n\r\n"),
        ("GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\nDate: now\r\n\r\n"),
    ] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let mut connection = Connection::open(proxy.addr()).await;
        let mut upstream = None;
        // The second one shows where the first one ended, on both sides.
        for _ in 0..2 {
            connection.send(proxy.begin(&format!("{method} /api/x")) + "\r\n").await;
            let origin = match &mut upstream {
                Some(origin) => origin,
                None => upstream.insert(wire.accept().await),
            };
            assert_eq!(origin.only_head().await.line(), format!("{method} /x HTTP/1.1"));
            origin.send(answer).await;
            let reply = connection.only_head().await;
            assert_eq!(reply.line(), answer.lines().next().unwrap());
            let length = reply.values("content-length");
            let is_sized = method == "HEAD" && answer.contains("Content-Length");
            assert!(!is_sized || length == ["12345"], "{method} {answer:?}: {reply:?}");
            let record = proxy.records(1).await.remove(0);
            assert_eq!((record.outcome, record.bytes_out), (Outcome::Complete, 0));
        }
    }
}

#[tokio::test]
async fn interim_responses_pass_in_order_and_only_to_who_asked() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n\
                  HTTP/1.1 100 Continue\r\n\r\n\
                  HTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (mut connection, proxy) = client_of("GET", answer).await;
    let hints = connection.only_head().await;
    assert_eq!((hints.status(), hints.values("link")), (103, vec!["</a>; rel=preload".into()]));
    assert_eq!(connection.only_head().await.status(), 102);
    let reply = connection.message().await;
    assert_eq!((reply.status(), reply.body), (200, b"ok".to_vec()));
    assert_eq!(proxy.only_record().status, Some(200));
}

#[tokio::test]
async fn an_interim_response_does_not_wait_for_the_final_one() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut connection, mut upstream) =
        wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(connection.only_head().await.status(), 103);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(connection.message().await.body, b"ok");
}

#[tokio::test]
async fn trailers_of_a_response_arrive_where_the_client_takes_them() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";
    let origin = Wire::bind().await.answer(answer);
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(proxy.begin("GET /api/x") + "TE: trailers\r\nConnection: te\r\n\r\n").await;
    let reply = connection.message().await;
    assert_eq!(reply.content(), b"hello");
    let body = String::from_utf8(reply.body).unwrap();
    assert!(body.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{body:?}");
    connection.send(proxy.begin("GET /api/x") + "\r\n").await;
    let body = String::from_utf8(connection.message().await.body).unwrap();
    assert!(body.ends_with("\r\n0\r\n\r\n"), "unasked: {body:?}");
}

#[tokio::test]
async fn every_framing_of_a_response_brings_its_bytes_and_its_end() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let (mut connection, proxy) = client_of("GET", answer).await;
        let reply = connection.message().await;
        assert_eq!((reply.line(), reply.content()), ("HTTP/1.1 200 OK".into(), b"hello".to_vec()));
        assert_eq!(proxy.only_record().outcome, Outcome::Complete, "{answer:?}");
        // The end of a body that ends with its connection is told on a connection that goes on.
        connection.send(proxy.begin("GET /api/x") + "\r\n").await;
        assert_eq!(connection.message().await.content(), b"hello", "{answer:?}");
    }
}

/// A response that goes on behind these `chunks`.
fn chunked(chunks: &[&str]) -> String {
    let chunks = chunks.iter().map(|text| format!("{:x}\r\n{text}\r\n", text.len()));
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunks.collect::<String>())
}

#[tokio::test]
async fn an_upstream_that_waits_for_an_answer_is_heard_though_its_words_may_be_half_a_secret() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let head = proxy.begin("POST /api/x") + "Transfer-Encoding: chunked\r\n\r\n";
    let mut client = Connection::open(proxy.addr()).await;
    client.send(head).await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    upstream.send(chunked(&["what is your name?"])).await;
    assert_eq!(client.only_head().await.status(), 200);
    assert_eq!(client.chunk().await.unwrap(), b"what is your name?");
    client.send("3\r\nBob\r\n0\r\n\r\n").await;
    upstream.drop_until(b"Bob\r\n").await;
    upstream.send("6\r\nhi Bob\r\n0\r\n\r\n").await;
    assert_eq!(client.chunk().await.unwrap(), b"hi Bob");
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn what_came_before_an_upstream_failed_is_passed_on_but_for_half_a_secret() {
    let (half, _) = REAL_KEY.split_at(REAL_KEY.len() / 2);
    for (chunks, seen) in [
        (vec!["data: one\n\n", "the last words"], "the last words".to_owned()),
        (vec![&*format!("so it is: {half}")], "so it is: ".to_owned()),
        (vec![&*format!("{REAL_KEY}, {half}")], format!("{}, ", "*".repeat(REAL_KEY.len()))),
    ] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let (mut client, mut upstream) =
            wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
        upstream.send(chunked(&chunks)).await;
        drop(upstream);
        let text = String::from_utf8(client.rest().await).unwrap();
        let end = format!("\r\n{seen}\r\n");
        assert!(text.ends_with(&end), "{text:?} does not end with {end:?}");
        assert_eq!(proxy.records(1).await[0].outcome, Outcome::UpstreamAbort);
    }
}

#[tokio::test]
async fn a_route_may_leave_bodies_as_they_are() {
    let wire = Wire::bind().await;
    let open = RouteConfig { scrub_bodies: false, ..route("/api", wire.addr) };
    let proxy =
        TestProxy::start(ProxyConfig { routes: vec![open], ..ProxyConfig::default() }).await;
    let head = proxy.begin("GET /api/x") + "TE: trailers\r\nConnection: te\r\n\r\n";
    let (mut client, mut upstream) = wire.request(&proxy, head).await;
    let words = chunked(&[REAL_KEY]).replacen(
        "\r\n",
        &format!("\r\nTrailer: x-end\r\nX-Key: {REAL_KEY}\r\n"),
        1,
    );
    upstream.send(words + &format!("0\r\nX-End: {REAL_KEY}\r\n\r\n")).await;
    let reply = client.message().await;
    let stars = "*".repeat(REAL_KEY.len());
    assert_eq!(reply.values("x-key"), [&*stars]);
    assert_eq!(reply.content(), REAL_KEY.as_bytes());
    let end = format!("\r\n0\r\nx-end: {stars}\r\n\r\n");
    assert!(reply.body.ends_with(end.as_bytes()), "{reply:?}");
}
