//! What is read here as a response, the HTTP library reads as the same response; what it refuses
//! is refused here.

use std::cell::Cell;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use proptest::prelude::{Strategy, TestCaseError, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::tests::{destination, pair, request};
use super::{Cut, Failure, Reply};
use crate::body::{Body, BodyError};

/// Why a response that the library takes may be refused here.
const STRICTER: &[&str] = &[
    "its response does not begin with a status line",
    "it sent both Content-Length and Transfer-Encoding",
    "it sent a Transfer-Encoding that it was not asked for",
    "its Content-Length is not a number",
    "it sent more than one Content-Length",
    "it sent too many interim responses",
    "its response has more than 128 header fields",
    "the head of its response is too long",
    "the size of a chunk is not a number",
    "the line of a chunk's size is too long",
    "its trailers are not header fields",
    "its trailers are too long",
];

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 \r\n",
        "HTTP/1.1 299\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n",
        "HTTP/1.1 404 caf\u{e9}\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "content-length:05 \r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:\tCHUNKED\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Connection: close\r\n",
        "X: y\r\n",
        "X:\r\n",
        "X: a\n",
        " folded\r\n",
        "Set-Cookie: caf\u{e9}\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "hello",
        "5\r\nhello\r\n",
        "5\nhello\r\n",
        "3;a=b\r\nabc\r\n",
        "3;a\rb\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "3\r\r\nabc\r\n",
        "A\r\n0123456789\r\n",
        "0\r\n\r\n",
        "00\r\n\r\n",
        "0\r\n",
        "A: b\r\n",
        "A: b\nC: d\r\n",
        "Content-Length: 3\r\n\r\n",
        "fffffffffffffff\r\n",
        "0000000000000000000005\r\nhello\r\n",
    ];
    prop_oneof![
        19 => proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

/// A head, which nearly every response has, and then anything.
fn responses() -> impl Strategy<Value = Vec<u8>> {
    let begin = proptest::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.0 404 Nowhere\r\n\r\n",
        "",
    ]);
    (begin, proptest::collection::vec(pieces(), 0..8))
        .prop_map(|(begin, rest)| [begin.as_bytes(), &rest.concat()].concat())
}

/// A response as its reader saw it.
#[derive(Debug, PartialEq)]
struct Seen {
    status: StatusCode,
    /// Unless it is the usual one, or not of ASCII, of which the library knows nothing.
    reason: Option<Vec<u8>>,
    fields: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Seen {
    fn new<B>(head: &Response<B>, body: Vec<u8>, trailers: Option<HeaderMap>) -> Self {
        let reason = head.extensions().get::<ReasonPhrase>().map(|reason| reason.as_bytes().into());
        Self {
            status: head.status(),
            reason: reason.filter(|reason: &Vec<u8>| reason.is_ascii() && !reason.is_empty()),
            fields: head.headers().clone(),
            body,
            trailers,
        }
    }
}

/// Waits for a request and answers it with `bytes`, cut at `cuts`.
async fn answer<T>(mut far: T, bytes: &[u8], cuts: &[usize])
where
    T: tokio::io::AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if far.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    for cut in cuts.windows(2) {
        if far.write_all(&bytes[cut[0]..cut[1]]).await.is_err() {
            return;
        }
        // The reader sees this piece alone.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    let _ = far.shutdown().await;
    while far.read_buf(&mut head).await.unwrap_or(0) > 0 {
        head.clear();
    }
}

async fn library(method: Method, bytes: &[u8], cuts: &[usize]) -> Option<Seen> {
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let mut builder = http1::Builder::new();
    builder.max_headers(128);
    let (mut sender, connection) = builder.handshake(TokioIo::new(near)).await.unwrap();
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    let reading = async {
        let response = sender.send_request(request).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?;
        let trailers = body.trailers().cloned();
        Some(Seen::new(&Response::from_parts(head, ()), body.to_bytes().into(), trailers))
    };
    let mut reading = std::pin::pin!(reading.fuse());
    let mut connection = std::pin::pin!(connection.fuse());
    let mut answering = std::pin::pin!(answer(far, bytes, cuts).fuse());
    loop {
        futures_util::select_biased! {
            _ = connection => {}
            () = answering => {}
            seen = reading => return seen,
        }
    }
}

async fn own(method: Method, bytes: &[u8], cuts: &[usize]) -> Result<Seen, String> {
    let (connection, far) = pair().await;
    far.set_nodelay(true).unwrap();
    let to = destination();
    let mut request = request(method, Body::empty());
    let reading = async {
        let reply = connection.exchange(&to, &mut request, &mut |_| {}).await;
        match reply.map_err(|lost| reason(lost.failure))? {
            Reply::Switched(head, _) => Ok(Seen::new(&head, Vec::new(), None)),
            Reply::Response(response) => {
                let (head, body) = response.into_parts();
                let body = Body::payload(body).collect().await.map_err(|error| cut(&error))?;
                let trailers = body.trailers().cloned();
                Ok(Seen::new(&Response::from_parts(head, ()), body.to_bytes().into(), trailers))
            }
        }
    };
    tokio::join!(reading, answer(far, bytes, cuts)).0
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::BadResponse(reason) => reason,
        other => format!("{other:?}"),
    }
}

fn cut(error: &BodyError) -> String {
    match error {
        BodyError::Upstream(Cut::Malformed(reason)) => (*reason).to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn the_library_reads_every_response_as_it_is_read_here() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let method = proptest::sample::select(vec![Method::GET, Method::HEAD, Method::POST]);
    let cuts = proptest::collection::vec(any::<Index>(), 0..6);
    let whole = Cell::new(0);
    let ran = TestRunner::new(config).run(&(method, responses(), cuts), |(method, bytes, cuts)| {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let shown = bytes.escape_ascii().to_string();
        runtime.block_on(async {
            let theirs = library(method.clone(), &bytes, &cuts).await;
            match (own(method, &bytes, &cuts).await, theirs) {
                (Ok(ours), Some(theirs)) => {
                    whole.set(whole.get() + 1);
                    prop_assert_eq!(ours, theirs, "{}", shown);
                }
                (Ok(ours), None) => prop_assert!(false, "the library refuses {shown}: {ours:?}"),
                (Err(reason), Some(_)) => {
                    prop_assert!(STRICTER.contains(&&*reason), "{reason} refused: {shown}");
                }
                (Err(_), None) => {}
            }
            Ok::<_, TestCaseError>(())
        })
    });
    ran.unwrap();
    assert!(whole.get() > 400, "only {} whole responses", whole.get());
}
