use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Method, Request};
use nono_audit::{Bounds, Log, Mode, Outcome, Overflow, Recorder, Session};
use tokio::io::{AsyncReadExt as _, AsyncWrite, duplex};

use super::super::tests::{destination, endless, payload};
use super::upload;
use crate::body::Body;
use crate::exchange::Peer;
use crate::http1::Stopped;

/// Takes so many bytes at a time, and every other time none yet.
struct Narrow {
    taken: Vec<u8>,
    step: usize,
    is_ready: bool,
}

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_ready = !self.is_ready;
        if !self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let taken = bytes.len().min(self.step);
        self.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn request(
    method: &Method,
    uri: &str,
    fields: &[(&'static str, &str)],
    body: Body,
) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.parse().unwrap();
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// What goes out for `request`, `step` bytes at a time.
async fn sent(mut request: Request<Body>, step: usize) -> (String, Result<(), Stopped>) {
    let mut upload = upload(&destination(), &mut request);
    let mut to = Narrow { taken: Vec::new(), step, is_ready: false };
    let result = std::future::poll_fn(|cx| upload.poll(&mut to, cx)).await;
    (String::from_utf8(to.taken).unwrap(), result)
}

/// A method, fields, a body, and what goes out behind `Host`.
type Case = (Method, &'static [(&'static str, &'static str)], fn() -> Body, &'static str);

#[tokio::test]
async fn a_request_says_where_its_body_ends_in_one_way() {
    let full = || Body::answer("hello", Outcome::Complete);
    let cases: [Case; 8] = [
        (Method::GET, &[("x", "y")], Body::empty, "x: y\r\n\r\n"),
        (Method::HEAD, &[], Body::empty, "\r\n"),
        (Method::DELETE, &[], Body::empty, "\r\n"),
        (Method::POST, &[], Body::empty, "content-length: 0\r\n\r\n"),
        (Method::PUT, &[], Body::empty, "content-length: 0\r\n\r\n"),
        (Method::PATCH, &[("content-length", "0")], Body::empty, "content-length: 0\r\n\r\n"),
        (Method::GET, &[("content-length", "5")], full, "content-length: 5\r\n\r\nhello"),
        (
            Method::POST,
            &[("host", "elsewhere"), ("x", "1"), ("x", "2")],
            full,
            "x: 1\r\nx: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ];
    for (method, fields, body, rest) in cases {
        for step in [1, 3, 1000] {
            let (text, result) = sent(request(&method, "/a?b", fields, body()), step).await;
            assert!(result.is_ok());
            assert_eq!(text, format!("{method} /a?b HTTP/1.1\r\nhost: upstream.example\r\n{rest}"));
        }
    }
}

#[tokio::test]
async fn an_empty_path_is_a_slash() {
    for (uri, target) in [("http://x", "/"), ("http://x?q", "/?q"), ("/", "/")] {
        let (text, _) = sent(request(&Method::GET, uri, &[], Body::empty()), 1000).await;
        assert!(text.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{text}");
    }
}

#[tokio::test]
async fn chunks_are_sent_on_with_their_trailers() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for step in [1, 7, 1000] {
        let body = payload(head, "3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        let (text, result) = sent(request(&Method::POST, "/", &[], body), step).await;
        assert!(result.is_ok());
        let (_, chunks) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(chunks, "3\r\nabc\r\n1\r\nd\r\n0\r\nx-sum: 7\r\n\r\n");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_ended() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = payload(head, "3\r\nabc\r\n").await;
    let (text, result) = sent(request(&Method::POST, "/", &[], body), 1000).await;
    assert!(matches!(result, Err(Stopped::Body(_))));
    assert!(text.ends_with("3\r\nabc\r\n"), "{text}");
}

#[tokio::test]
async fn the_head_shows_itself_to_nobody() {
    let method: Method = "X".repeat(300).parse().unwrap();
    let secret = "s3cret".repeat(50);
    let fields = [("authorization", secret.as_str())];
    let body = Body::answer("hello", Outcome::Complete);
    let mut request = request(&method, "/", &fields, body);
    let shown = format!("{:?}", upload(&destination(), &mut request));
    assert!(!shown.contains("s3cret") && !shown.contains("115, 51, 99"), "{shown}");
}

/// So the time for the response runs while the upstream takes nothing.
#[tokio::test]
async fn the_client_is_not_waited_for_while_the_upstream_does_not_take_the_head() {
    let bounds = Bounds { records: 1, disk: 0, overflow: Overflow::Refuse };
    let (sender, _log) = Log::open(Session(7), bounds, Vec::new()).unwrap();
    let permit = sender.try_reserve().unwrap();
    let recorder = Recorder::open(permit, Mode::Reverse, "127.0.0.1:9".into());
    let peer = Arc::new(Peer::new("127.0.0.1:9".into()));
    let (mut body, _more) = endless().await;
    body.tap_request(&recorder, &peer);
    let mut upload = upload(&destination(), &mut Request::new(body));
    let (mut near, mut far) = duplex(16);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(upload.poll(&mut near, &mut cx).is_pending());
    assert!(!peer.gate.is_awaited());
    while !peer.gate.is_awaited() {
        assert_ne!(far.read(&mut [0; 16]).await.unwrap(), 0);
        assert!(upload.poll(&mut near, &mut cx).is_pending());
    }
}
