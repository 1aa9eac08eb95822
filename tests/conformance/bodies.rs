//! Bodies of requests: streamed both ways, continued when asked for, cut where they are wrong.

use nono_audit::Outcome;
use nono_proxy::{ProxyConfig, RouteConfig};
use support::{Connection, TestProxy, Wire, route};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn uploads_keep_their_framing_and_their_bytes() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    for (framing, body, content) in [
        ("Content-Length: 5", "hello", "hello"),
        ("Content-Length: 0", "", ""),
        ("Content-Length: 005", "hello", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("Transfer-Encoding: Chunked", "0\r\n\r\n", ""),
        ("Transfer-Encoding: chunked", "3;x=y\r\nhel\r\n02\r\nlo\r\n0;z\r\n\r\n", "hello"),
    ] {
        let mut connection = Connection::open(proxy.addr()).await;
        connection.send(proxy.begin("POST /api/x") + framing + "\r\n\r\n" + body).await;
        assert_eq!(connection.message().await.status(), 200, "{framing}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.content(), content.as_bytes(), "{framing}");
        let lengths = usize::from(framing.starts_with("Content-Length"));
        assert_eq!(seen.values("content-length").len(), lengths, "{framing}");
        assert_eq!(seen.values("transfer-encoding").len(), 1 - lengths, "{framing}");
        assert_eq!(proxy.only_record().bytes_in, content.len() as u64);
    }
}

#[tokio::test]
async fn a_forwarded_upload_arrives_whole() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut connection = Connection::open(proxy.addr()).await;
    let head = proxy.begin_forward("POST", origin.addr, "/x");
    connection.send(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(connection.message().await.status(), 200);
    assert_eq!(origin.only().content(), b"hello");
}

/// The memory that this process holds, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Uploads and downloads 64 MiB with `framing`; returns the most memory that was held meanwhile.
async fn pass_64_mib(framing: &str, before: &str, after: &str, end: &str) -> usize {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    client.send(proxy.begin("POST /api/x") + framing + "\r\n\r\n").await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
    client.only_head().await;
    // A line ending at the end, so that nothing is held back to look for a secret.
    let content = [vec![b'x'; MIB - 1], vec![b'\n']].concat();
    let block = [before.as_bytes(), &content, after.as_bytes()].concat();
    let mut most = 0;
    for _ in 0..64 {
        // Each way in turn: neither side has more than a block to give or take.
        tokio::join!(client.send(&block), upstream.exactly_any(MIB));
        tokio::join!(upstream.send(&block), client.exactly_any(MIB));
        most = most.max(resident());
    }
    client.send(end).await;
    upstream.send(end).await;
    if !end.is_empty() {
        client.drop_until(end.as_bytes()).await;
    }
    let record = proxy.records(1).await.remove(0);
    assert_eq!(record.bytes_out, 64 * MIB as u64, "{framing}");
    most
}

#[tokio::test]
async fn bodies_larger_than_any_buffer_pass_with_bounded_memory() {
    let before = resident();
    let length = format!("Content-Length: {}", 64 * MIB);
    for most in [
        pass_64_mib(&length, "", "", "").await,
        pass_64_mib("Transfer-Encoding: chunked", "100000\r\n", "\r\n", "0\r\n\r\n").await,
    ] {
        assert!(most < before + 32 * MIB, "{} MiB more", (most - before) / MIB);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_once_and_before_its_body() {
    let origin = Wire::bind()
        .await
        .answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = TestProxy::with_route(origin.addr).await;
    for framing in ["Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
        let mut connection = Connection::open(proxy.addr()).await;
        connection.send(proxy.begin("POST /api/x") + "Expect: 100-continue\r\n" + framing).await;
        let interim = connection.only_head().await;
        assert_eq!(interim.status(), 100);
        let is_sized = framing.starts_with("Content-Length");
        connection.send(if is_sized { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" }).await;
        let reply = connection.message().await;
        assert_eq!((reply.status(), reply.body.as_slice()), (200, &b"ok"[..]));
        assert_eq!(origin.requests().pop().unwrap().content(), b"hello");
    }
}

#[tokio::test]
async fn a_refusal_comes_instead_of_100_continue() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    let head =
        "POST /api/x HTTP/1.1\r\nHost: p\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n";
    connection.send(head).await;
    assert_eq!(connection.message().await.status(), 401);
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn trailers_of_a_request_arrive() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    let head = proxy.begin("POST /api/x") + "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
    connection.send(head + "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n").await;
    assert_eq!(connection.message().await.status(), 200);
    let body = String::from_utf8(origin.only().body).unwrap();
    assert!(body.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{body:?}");
}

#[tokio::test]
async fn trailers_cannot_say_again_what_was_judged_in_the_head() {
    let wire = Wire::bind().await;
    let other = RouteConfig { inject_header: "X-Own-Key".into(), ..route("/other", wire.addr) };
    let routes = vec![route("/api", wire.addr), other];
    let proxy = TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await;
    for name in [
        "Authorization",
        "x-api-key",
        "x-own-key",
        "X-HTTP-Method-Override",
        "Host",
        "Content-Length",
        "Connection",
        "TE",
        "a b",
    ] {
        let mut client = Connection::open(proxy.addr()).await;
        let head = proxy.begin("POST /api/x") + "Transfer-Encoding: chunked\r\nTrailer: ";
        client.send(format!("{head}{name}\r\n\r\n1\r\na\r\n0\r\n")).await;
        let mut upstream = wire.accept().await;
        upstream.only_head().await;
        client.send(format!("{name}: {}\r\n\r\n", proxy.token)).await;
        assert_eq!(client.message().await.status(), 400, "{name}");
        let seen = String::from_utf8(upstream.rest().await).unwrap();
        assert!(!seen.contains(&proxy.token), "{name}: {seen}");
    }
}

#[tokio::test]
async fn a_chunk_that_is_none_ends_the_request_as_malformed() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let long = format!("5;{}\r\nhello\r\n", "x".repeat(1000));
    for chunk in ["x\r\n", "-1\r\n", "5\nhello\r\n", "0x5\r\nhello\r\n", "5 \r\nhello\r\n", &long] {
        let mut client = Connection::open(proxy.addr()).await;
        let head = proxy.begin("POST /api/x") + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        client.send(&head).await;
        let mut upstream = wire.accept().await;
        upstream.only_head().await;
        upstream.exactly(8).await;
        client.send(chunk).await;
        assert_eq!(client.message().await.status(), 400, "{chunk:?}");
        assert!(client.rest().await.is_empty());
        assert!(upstream.rest().await.is_empty(), "nothing of it, and no end");
        assert_eq!(proxy.records(1).await[0].outcome, Outcome::Refused, "{chunk:?}");
    }
}

#[tokio::test]
async fn trailers_without_end_are_cut() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let head = proxy.begin("POST /api/x") + "Transfer-Encoding: chunked\r\n\r\n0\r\n";
    client.send(&(head + &"X: y\r\n".repeat(10_000))).await;
    assert_eq!(client.message().await.status(), 431);
    assert!(client.rest().await.is_empty());
}

/// The upstream answers with `length` bytes at once and reads no more of an upload, of which the
/// client writes `written` bytes before it reads.
async fn answer_early(written: usize, length: usize) {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let framing = format!("Content-Length: {}\r\n\r\n", 10 * MIB);
    client.send(proxy.begin("POST /api/x") + &framing).await;
    let mut upstream = wire.accept().await;
    upstream.only_head().await;
    let answer = "x".repeat(length);
    let head = format!("HTTP/1.1 413 Too Large\r\nContent-Length: {length}\r\n\r\n");
    let ((), reply) = tokio::join!(upstream.send(head + &answer), async {
        client.try_send(vec![0; written]).await;
        client.message().await
    });
    assert_eq!((reply.status(), reply.body.len()), (413, length));
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_is_read_whole() {
    answer_early(MIB / 8, 3 * MIB).await;
}

#[tokio::test]
async fn an_early_answer_is_read_by_who_writes_all_of_its_upload_first() {
    answer_early(10 * MIB, 10_000).await;
}

#[tokio::test]
async fn the_refusal_of_a_large_upload_is_readable_by_who_writes_it_all_first() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let length = 10 * MIB;
    let sized = format!("Content-Length: {length}\r\n\r\n");
    for framing in [sized.clone(), format!("X : y\r\n{sized}")] {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(format!("POST /api/x HTTP/1.1\r\nHost: p\r\n{framing}")).await;
        assert!(client.try_send(vec![0; length]).await, "the proxy takes the rest");
        let status = client.message().await.status();
        assert_eq!(status, if framing == sized { 401 } else { 400 });
        assert!(client.rest().await.is_empty());
    }
    assert!(origin.requests().is_empty());
}
