//! Bytes on the socket: whatever they are, an answer or an end, in time; however they are cut, the
//! same requests.

use std::fmt::Write as _;
use std::time::Duration;

use nono_proxy::Limits;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use support::{Connection, Message, TestProxy, Wire};

use crate::{for_all, runtime};

/// Stands for the session token, which is not known to a strategy.
const TOKEN: &str = "TOKEN";

/// Pieces of requests, good and bad.
const PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "CONNECT ",
    "HEAD ",
    "TRACE ",
    "/api/x",
    "/api/",
    "/",
    "*",
    "127.0.0.1:1",
    "http://127.0.0.1:1/",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/9.9\r\n",
    "Host: p\r\n",
    "x-api-key: TOKEN\r\n",
    "Proxy-Authorization: Bearer TOKEN\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 99\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "X: y\r\n",
    " folded\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    "abc",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "GET /api/x HTTP/1.1\r\nHost: p\r\nx-api-key: TOKEN\r\n\r\n",
    "POST /api/x HTTP/1.1\r\nHost: p\r\nx-api-key: TOKEN\r\nTransfer-Encoding: chunked\r\n\r\n",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => proptest::sample::select(PIECES).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

fn replace_token(bytes: &[u8], token: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(5).position(|window| window == TOKEN.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(token.as_bytes());
        rest = &rest[at + 5..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn any_bytes_are_answered_or_ended_in_time_and_recorded_as_often_as_answered() {
    let runtime = runtime();
    let limits = Limits { head: Duration::from_millis(50), workers: 1, ..Limits::default() };
    let origin = runtime.block_on(async { Wire::bind().await.ok() });
    let strategy = (proptest::collection::vec(piece(), 0..12), any::<bool>());
    for_all(&runtime, 200, &strategy, async |(pieces, closes)| {
        let proxy = TestProxy::with_limits(origin.addr, limits.clone()).await;
        let bytes = replace_token(&pieces.concat(), &proxy.token);
        let mut client = Connection::open(proxy.addr()).await;
        client.try_send(&bytes).await;
        // The others wait for the proxy to end the connection. A body that is owed has no time
        // limit that would be short enough here.
        let closes = closes || owes_body(&bytes);
        if closes {
            client.try_finish().await;
        }
        // `rest` fails when nothing ends the connection.
        let seen = client.rest().await;
        drop(client);
        let answers = count_answers(&seen);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        // On a busy machine this client itself can be late.
        let mut asked = 1;
        let status = loop {
            match proxy.get("/api/x").await.status {
                408 => asked += 1,
                status => break status,
            }
        };
        prop_assert_eq!(status, 200, "after {:?}", shown);
        proxy.shutdown(Duration::from_secs(5)).await;
        let records = proxy.drain_audit().len() - asked;
        // An exchange whose client has left may have a record and no answer, never the reverse.
        let unanswered = usize::from(closes);
        prop_assert!((answers..=answers + unanswered).contains(&records), "{shown:?}: {records}");
        Ok(())
    });
}

fn owes_body(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("Content-Length") || text.contains("chunked") || text.contains("CONNECT")
}

/// How many final responses `seen` consists of.
fn count_answers(seen: &[u8]) -> usize {
    let mut count = 0;
    let mut rest = seen;
    while let Some((head, tail)) = Message::split(rest) {
        let status = head.status();
        let length = head.values("content-length").first().map_or(0, |n| n.parse().unwrap());
        // A response to HEAD announces a body that does not come.
        let has_body = tail.len() >= length && !tail.starts_with(b"HTTP/1.1");
        rest = if has_body { &tail[length..] } else { tail };
        count += usize::from(status >= 200);
    }
    count
}

/// A well-formed request, and what of it the origin is to see.
fn request() -> impl Strategy<Value = (String, String, Vec<u8>)> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    let framing = prop_oneof![Just(0), 1_usize..9];
    (body, framing, 0_u32..1000).prop_map(|(body, chunk, n)| {
        let mut head = format!("POST /api/{n} HTTP/1.1\r\nHost: p\r\nx-api-key: {TOKEN}\r\n");
        let mut framed: String = String::new();
        let text =
            |bytes: &[u8]| bytes.iter().map(|byte| char::from(byte % 128)).collect::<String>();
        let content = text(&body).into_bytes();
        if chunk == 0 {
            write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
            framed += &text(&body);
        } else {
            head += "Transfer-Encoding: chunked\r\n\r\n";
            for piece in body.chunks(chunk) {
                write!(framed, "{:x}\r\n{}\r\n", piece.len(), text(piece)).unwrap();
            }
            framed += "0\r\n\r\n";
        }
        (head + &framed, format!("POST /{n} HTTP/1.1"), content)
    })
}

#[test]
fn however_a_pipeline_is_cut_the_origin_sees_the_same_requests() {
    let runtime = runtime();
    let (origin, proxy) = runtime.block_on(async {
        let origin = Wire::bind().await.ok();
        let proxy = TestProxy::with_route(origin.addr).await;
        (origin, proxy)
    });
    let strategy = (
        proptest::collection::vec(request(), 1..6),
        proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    );
    for_all(&runtime, 200, &strategy, async |(requests, cuts)| {
        let before = origin.requests().len();
        let all: String = requests.iter().map(|(text, ..)| text.as_str()).collect();
        let bytes = replace_token(all.as_bytes(), &proxy.token);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut client = Connection::open(proxy.addr()).await;
        for cut in cuts.windows(2) {
            client.send(&bytes[cut[0]..cut[1]]).await;
            // Lets the proxy see this piece alone, most of the time.
            tokio::task::yield_now().await;
        }
        for _ in &requests {
            prop_assert_eq!(client.message().await.status(), 200);
        }
        let seen = origin.requests().split_off(before);
        prop_assert_eq!(seen.len(), requests.len());
        for (seen, (_, line, content)) in seen.iter().zip(&requests) {
            prop_assert_eq!(&seen.line(), line);
            prop_assert_eq!(&seen.content(), content);
        }
        prop_assert_eq!(proxy.drain_audit().len(), requests.len());
        Ok(())
    });
}
