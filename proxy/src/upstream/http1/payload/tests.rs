use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::tests::{ask, destination, endless, pair, payload, pool, until_seen};
use super::{Cut, Payload};
use crate::body::Body;
use crate::upstream::Destination;
use crate::upstream::pool::{Free, Pool};

/// All of a body, and its trailers.
async fn read(payload: &mut Payload) -> Result<(Vec<u8>, Option<HeaderMap>), Cut> {
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(frame) = poll_fn(|cx| payload.poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((body, trailers))
}

/// The response to `method` that begins with `head`, and the other end of its connection.
async fn answered(method: Method, head: &str) -> (Payload, TcpStream) {
    let (connection, mut far) = pair().await;
    far.write_all(head.as_bytes()).await.unwrap();
    (ask(connection, method, Body::empty()).await.unwrap().into_body(), far)
}

const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const OPEN: &str = "HTTP/1.1 200 OK\r\n\r\n";

#[tokio::test]
async fn a_body_that_ends_too_early_is_seen_to() {
    for (head, bytes, is_whole) in [
        (SIZED, "hello", true),
        (SIZED, "hell", false),
        (SIZED, "", false),
        (CHUNKED, "5\r\nhello\r\n0\r\n\r\n", true),
        (CHUNKED, "5\r\nhello\r\n0\r\n", false),
        (CHUNKED, "5\r\nhello\r\n", false),
        (CHUNKED, "5\r\nhell", false),
        (CHUNKED, "", false),
        (OPEN, "hello", true),
        (OPEN, "", true),
    ] {
        let (mut body, mut far) = answered(Method::GET, head).await;
        far.write_all(bytes.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        match read(&mut body).await {
            Ok((seen, _)) => assert!(is_whole && bytes.contains(str::from_utf8(&seen).unwrap())),
            Err(cut) => assert!(!is_whole && matches!(cut, Cut::Closed), "{bytes:?}: {cut}"),
        }
        assert!(body.is_end(), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_reset_is_not_the_end_of_a_body() {
    for head in [SIZED, CHUNKED, OPEN] {
        let (mut body, far) = answered(Method::GET, head).await;
        far.set_zero_linger().unwrap();
        drop(far);
        assert!(matches!(read(&mut body).await, Err(Cut::Failed(_))), "{head:?}");
    }
}

#[tokio::test]
async fn the_length_is_told_as_far_as_it_is_known() {
    for (method, head, length) in [
        (Method::GET, SIZED, Some(5)),
        (Method::HEAD, SIZED, Some(0)),
        (Method::HEAD, CHUNKED, Some(0)),
        (Method::GET, CHUNKED, None),
        (Method::GET, OPEN, None),
    ] {
        let (body, _far) = answered(method, head).await;
        assert_eq!(body.size_hint().exact(), length, "{head:?}");
        assert_eq!(body.is_end(), length == Some(0), "{head:?}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_when_all_was_read_and_nothing_came_behind_it() {
    let keeps = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na";
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na";
    let whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let trailers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n";
    let none = "HTTP/1.1 204 x\r\n\r\n";
    for (method, text, is_kept) in [
        (Method::GET, keeps, true),
        (Method::GET, close, false),
        (Method::GET, old, false),
        (Method::GET, whole, true),
        (Method::GET, trailers, true),
        (Method::GET, none, true),
        (Method::HEAD, SIZED, true),
        (Method::HEAD, CHUNKED, true),
        // What comes behind the end.
        (Method::GET, &format!("{keeps}b"), false),
        (Method::GET, &format!("{whole}HTTP/1.1 200 OK\r\n\r\n"), false),
        (Method::GET, &format!("{trailers}\r\n"), false),
        (Method::GET, &format!("{none}a"), false),
        (Method::HEAD, &format!("{SIZED}hello"), false),
    ] {
        let (pool, to) = (pool(), destination());
        let (mut body, _far) = answered(method, text).await;
        body.return_to(pool.place(&to));
        read(&mut body).await.unwrap();
        assert!(body.is_end());
        assert_eq!(holds_one(&pool, &to), is_kept, "{text:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_left_closes_its_connection() {
    let (pool, to) = (pool(), destination());
    let (mut body, mut far) = answered(Method::GET, SIZED).await;
    body.return_to(pool.place(&to));
    far.write_all(b"hell").await.unwrap();
    poll_fn(|cx| body.poll_frame(cx)).await.unwrap().unwrap();
    drop(body);
    assert!(!holds_one(&pool, &to));
    far.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_body_that_waits_is_woken_by_its_next_bytes() {
    for (head, bytes) in [(SIZED, "hello"), (CHUNKED, "5\r\nhello\r\n0\r\n\r\n")] {
        let (mut body, mut far) = answered(Method::GET, head).await;
        let mut reading = pin!(read(&mut body));
        for byte in bytes.bytes() {
            assert!(reading.as_mut().now_or_never().is_none());
            far.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(reading.await.unwrap().0, b"hello");
    }
}

/// A response of which the head came before the end of the request, whose body and its end are
/// given too.
async fn early(head: &str) -> (Payload, TcpStream, TcpStream) {
    let (connection, mut far) = pair().await;
    far.write_all(head.as_bytes()).await.unwrap();
    let (body, client) = endless().await;
    (ask(connection, Method::POST, body).await.unwrap().into_body(), far, client)
}

#[tokio::test]
async fn a_request_is_sent_on_while_nobody_reads_its_response() {
    for ending in [&b"hi"[..], b"h"] {
        let (pool, to) = (pool(), destination());
        let (mut body, mut far, mut client) = early(SIZED).await;
        body.return_to(pool.place(&to));
        client.write_all(ending).await.unwrap();
        let is_whole = ending == b"hi";
        let mut seen = Vec::new();
        let end: &[u8] = if is_whole { b"2\r\nhi\r\n0\r\n\r\n" } else { b"1\r\nh\r\n" };
        while !seen.ends_with(end) {
            assert!(far.read_buf(&mut seen).await.unwrap() > 0, "{seen:?}");
        }
        tokio::task::yield_now().await;
        far.write_all(b"hello").await.unwrap();
        assert_eq!(read(&mut body).await.unwrap().0, b"hello");
        // With a request that is not whole the connection is of no more use.
        assert_eq!(holds_one(&pool, &to), is_whole);
    }
}

#[tokio::test]
async fn a_request_that_its_response_overtakes_is_left_unended() {
    for head in ["HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 x\r\n\r\n"] {
        let (pool, to) = (pool(), destination());
        let (mut body, mut far, _client) = early(head).await;
        assert!(body.is_end());
        body.return_to(pool.place(&to));
        assert!(!holds_one(&pool, &to));
        let mut seen = Vec::new();
        let end = far.read_to_end(&mut seen).await;
        assert!(end.is_ok_and(|_| !seen.ends_with(b"0\r\n\r\n")), "{head:?}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_ends_its_response_behind_what_came() {
    for part in ["", "hell"] {
        let (mut body, mut far, client) = early(SIZED).await;
        far.write_all(part.as_bytes()).await.unwrap();
        drop(client);
        let mut frames = Vec::new();
        let end = loop {
            match poll_fn(|cx| body.poll_frame(cx)).await {
                Some(Ok(frame)) => frames.extend_from_slice(frame.data_ref().unwrap()),
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(Cut::Request(_)))), "{end:?}");
        assert_eq!(frames, part.as_bytes());
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert!(!seen.ends_with(b"0\r\n\r\n"));
    }
}

#[tokio::test]
async fn what_came_before_the_upstream_took_no_more_of_the_request_is_read() {
    let (mut body, mut far, mut client) = early(SIZED).await;
    far.write_all(b"hello").await.unwrap();
    far.set_zero_linger().unwrap();
    drop(far);
    client.write_all(b"hi").await.unwrap();
    // Lets the sending of it fail.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(read(&mut body).await.unwrap().0, b"hello");
}

#[tokio::test]
async fn a_response_that_is_left_ends_its_upload() {
    let (body, mut far, mut client) = early(SIZED).await;
    drop(body);
    let closed = far.read_to_end(&mut Vec::new()).await;
    assert!(closed.is_ok());
    // The client's body is let go too.
    until_seen(|| {
        let ended = client.read_u8().now_or_never();
        ended.is_some_and(|byte| byte.is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof))
    })
    .await;
}

#[tokio::test]
async fn trailers_are_the_last_frame() {
    let mut body = payload(CHUNKED, "1\r\na\r\n0\r\nX-Sum: 7\r\nX-Sum: 8\r\n\r\n").await;
    let mut frames = Vec::new();
    while let Some(frame) =
        poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
    {
        frames.push(frame.unwrap());
    }
    let trailers = frames.pop().unwrap().into_trailers().unwrap();
    assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["7", "8"]);
    assert!(frames.iter().all(http_body::Frame::is_data));
}

/// Whether a connection waits there; takes it.
fn holds_one(pool: &Arc<Pool>, to: &Destination) -> bool {
    matches!(pool.place(to).take(false), Ok(Free::Ready(_)))
}
