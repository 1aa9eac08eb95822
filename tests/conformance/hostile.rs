//! Upstreams that break off, or answer what is no answer: the client can tell, and gets nothing
//! that could mislead it.

use nono_audit::Outcome;
use support::{TestProxy, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// All that a client receives when its upstream sends `answer` and closes, and the outcome.
async fn outcome_of(answer: &[u8], is_forward: bool) -> (Vec<u8>, Outcome) {
    let wire = Wire::bind().await;
    let (proxy, head) = if is_forward {
        let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
        let head = proxy.begin_forward("GET", wire.addr, "/");
        (proxy, head)
    } else {
        let proxy = TestProxy::with_route(wire.addr).await;
        let head = proxy.begin("GET /api/x");
        (proxy, head)
    };
    // Asks to close, so that the end of what comes is seen.
    let (mut client, mut upstream) = wire.request(&proxy, head + "Connection: close\r\n\r\n").await;
    upstream.try_send(answer).await;
    drop(upstream);
    let seen = client.rest().await;
    let record = proxy.records(1).await.remove(0);
    (seen, record.outcome)
}

#[tokio::test]
async fn an_upstream_that_dies_within_a_body_is_seen_to_have_died() {
    for is_forward in [false, true] {
        for (answer, part) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                "5\r\nhello\r\n",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
                "5\r\nhello\r\n",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "hello"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ""),
        ] {
            let (seen, outcome) = outcome_of(answer.as_bytes(), is_forward).await;
            let seen = String::from_utf8(seen).unwrap();
            let (head, body) = seen.split_once("\r\n\r\n").unwrap_or_default();
            assert_eq!(outcome, Outcome::UpstreamAbort, "{answer:?}");
            // What came, and not the end of a body.
            assert!(head.starts_with("HTTP/1.1 200") && body == part, "{answer:?}: {seen}");
        }
    }
}

#[tokio::test]
async fn an_old_client_too_can_tell_a_part_of_a_body_from_the_whole() {
    for (end, is_whole) in [("0\r\n\r\n", true), ("", false)] {
        let wire = Wire::bind().await;
        let proxy = TestProxy::with_route(wire.addr).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let head = format!("GET /api/x HTTP/1.0\r\nx-api-key: {}\r\n\r\n", proxy.token);
        client.write_all(head.as_bytes()).await.unwrap();
        let mut upstream = wire.accept().await;
        upstream.only_head().await;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n").await;
        upstream.send(end).await;
        drop(upstream);
        // Its end is that of the connection, which breaks where the body does.
        let mut seen = Vec::new();
        let read = client.read_to_end(&mut seen).await;
        assert_eq!(read.is_ok(), is_whole, "{read:?}");
        assert!(!is_whole || seen.ends_with(b"\r\n\r\na\nb"), "{}", seen.escape_ascii());
    }
}

#[tokio::test]
async fn a_chunk_that_is_none_cuts_the_response() {
    let long = format!("5;{}\r\nhello\r\n", "x".repeat(2000));
    for chunk in [
        "x\r\nhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello",
        "5\r\nhello\n",
        "5\nhello\r\n",
        "5\r\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "\r\n5\r\nhello\r\n",
        "fffffffffffffffff\r\nhello",
        &long,
    ] {
        let answer =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        let (seen, outcome) = outcome_of(answer.as_bytes(), false).await;
        let seen = String::from_utf8(seen).unwrap();
        assert_eq!(outcome, Outcome::UpstreamAbort, "{chunk:?}");
        assert!(!seen.ends_with("0\r\n\r\n"), "{chunk:?}: {seen}");
    }
}

#[tokio::test]
async fn what_is_no_response_is_answered_502() {
    let long_field = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1024 * 1024));
    let many_fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    for is_forward in [false, true] {
        for answer in [
            "",
            "\r\n",
            "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "hello",
            "HTTP/1.1",
            "HTTP/1.1 200 OK\r\nX: y\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/1.1 000 Zero\r\n\r\n",
            "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
            &long_field,
            &many_fields,
        ] {
            let (seen, outcome) = outcome_of(answer.as_bytes(), is_forward).await;
            let shown = &answer[..answer.len().min(80)];
            assert!(
                seen.starts_with(b"HTTP/1.1 502"),
                "{shown:?}: {:?}",
                String::from_utf8_lossy(&seen)
            );
            assert_eq!(outcome, Outcome::UpstreamAbort, "{shown:?}");
        }
    }
}

#[tokio::test]
async fn a_response_with_two_framings_is_not_relayed() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                  0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let (seen, outcome) = outcome_of(answer.as_bytes(), false).await;
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.starts_with("HTTP/1.1 502") && !seen.contains("evil"), "{seen}");
    assert_eq!(outcome, Outcome::UpstreamAbort);
}

#[tokio::test]
async fn a_response_that_nobody_asked_for_is_not_given_to_the_next_request() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    upstream.send(format!("{ok}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!(client.message().await.body, b"ok");
    assert!(upstream.rest().await.is_empty(), "the connection is not kept");
    client.send(proxy.begin("GET /api/x") + "\r\n").await;
    let mut upstream = wire.accept().await;
    upstream.message().await;
    upstream.send(ok).await;
    assert_eq!(client.message().await.body, b"ok");
}

#[tokio::test]
async fn a_switch_of_protocols_that_was_not_asked_for_is_answered_502() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        for is_forward in [false, true] {
            let (seen, outcome) = outcome_of(answer.as_bytes(), is_forward).await;
            let seen = String::from_utf8(seen).unwrap();
            assert!(seen.starts_with("HTTP/1.1 502") && !seen.contains("evil"), "{seen}");
            assert_eq!(outcome, Outcome::UpstreamAbort);
        }
    }
}

#[tokio::test]
async fn a_split_response_is_one_response() {
    // What a vulnerable application makes of `a%0d%0aSet-Cookie:...`; a field of its own at worst.
    let answer = b"HTTP/1.1 200 OK\r\nX: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let (seen, _) = outcome_of(answer, false).await;
    let seen = String::from_utf8(seen).unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_lowercase().contains("transfer-encoding: chunked")
            || head.contains("connection: close")
    );
    assert!(body.contains("evil"), "it is content: {seen}");
    assert!(!body.starts_with("HTTP/1.1 200") || !head.contains("content-length"), "{seen}");
}

#[tokio::test]
async fn interim_responses_without_end_are_cut() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    let flood = "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n".repeat(1000);
    let (cut, ()) = tokio::join!(
        async {
            for _ in 0..1000 {
                if !upstream.try_send(&flood).await {
                    return true;
                }
            }
            false
        },
        async { while client.only_head().await.status() == 103 {} }
    );
    assert!(cut, "a million interim responses were taken");
    assert_eq!(proxy.records(1).await[0].outcome, Outcome::UpstreamAbort);
}

#[tokio::test]
async fn empty_lines_without_end_are_cut() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("\r\n").await;
    assert_eq!(client.message().await.status(), 502);
    assert!(upstream.rest().await.is_empty());
}

#[tokio::test]
async fn chunks_that_are_mostly_extensions_cut_the_response() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(900));
    let (cut, seen) = tokio::join!(
        async {
            for _ in 0..100_000 {
                if !upstream.try_send(&chunk).await {
                    return true;
                }
            }
            false
        },
        client.rest()
    );
    assert!(cut && !seen.ends_with(b"0\r\n\r\n"));
    assert_eq!(proxy.records(1).await[0].outcome, Outcome::UpstreamAbort);
}

#[tokio::test]
async fn trailers_that_are_none_cut_the_response() {
    for section in
        ["no field\r\n\r\n", "A: b\nC: d\r\n\r\n", "A: b\r\n c\r\n\r\n", "\n", "A: b\n\n"]
    {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{section}"
        );
        let (seen, outcome) = outcome_of(answer.as_bytes(), false).await;
        assert_eq!(outcome, Outcome::UpstreamAbort, "{section:?}");
        assert!(!seen.ends_with(b"0\r\n\r\n"), "{section:?}");
    }
}

#[tokio::test]
async fn trailers_without_end_cut_the_response() {
    let flood = "X: y\r\n".repeat(100_000);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n0\r\n{flood}\r\n"
    );
    let (seen, outcome) = outcome_of(answer.as_bytes(), false).await;
    assert_eq!(outcome, Outcome::UpstreamAbort);
    assert!(seen.len() < 10_000, "{} bytes were relayed", seen.len());
}
