//! What is read here as a request, the HTTP library reads as the same request, and ends where it
//! is ended here.

use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use tokio::io::AsyncWriteExt as _;

use super::whole::{self, WholeRequest};

/// Follows a request; whoever takes it for a part of that, or a part of that for it, is seen.
const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nHost: m\r\n\r\n";

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "POST / HTTP/1.1\r\n",
        "DELETE http://h:1/x?y HTTP/1.1\r\n",
        "GET /caf\u{e9}%2f..;a//[|] HTTP/1.1\r\n",
        "GET /a HTTP/1.0\r\n",
        "PUT /a?b HTTP/1.1\r\n",
        "Host: x\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\n",
        "content-length:07 \r\n",
        "X: y\r\n",
        "x: caf\u{e9}\t\r\n",
        "Set-Cookie: a=b; c\r\n",
        "Content-Length: 3, 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: CHUNKED\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "X:\r\n",
        "Connection: keep-alive\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "\r\n",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "3;a=b\r\nabc\r\n",
        "00\r\n",
        "A: b\r\n",
        "hello",
        "GET / HTTP/1.1\r\n",
    ];
    prop_oneof![
        19 => proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

/// A request line and a Host, which nearly every request has, and then anything.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let start = proptest::sample::select(vec!["POST / HTTP/1.1\r\nHost: x\r\n", ""]);
    let framing = proptest::sample::select(vec![
        "",
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n",
    ]);
    (start, framing, proptest::collection::vec(lines(), 0..8)).prop_map(|(start, framing, rest)| {
        [start.as_bytes(), framing.as_bytes(), &rest.concat()].concat()
    })
}

/// The requests that the library finds in `bytes`.
async fn library(bytes: &[u8]) -> Vec<WholeRequest> {
    let found = Mutex::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        if let Ok(body) = body.collect().await {
            let trailers = body.trailers().cloned();
            found.lock().unwrap().push(WholeRequest {
                // It does not say.
                length: 0,
                method: parts.method,
                uri: parts.uri,
                version: parts.version,
                fields: parts.headers,
                body: body.to_bytes().into(),
                trailers,
            });
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let (mut client, server) = tokio::io::duplex(1024 * 1024);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let connection =
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
    // Its error, if any, is in what it did not find.
    let _ = connection.await;
    found.into_inner().unwrap()
}

#[test]
fn the_library_reads_every_request_as_it_is_read_here() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 4000, failure_persistence: None, ..Config::default() };
    let whole = std::cell::Cell::new(0);
    let ran = TestRunner::new(config).run(&(requests(), 1_usize..50), |(bytes, size)| {
        let read = whole::read(&bytes, size);
        prop_assert_eq!(&whole::read(&bytes, usize::MAX), &read, "in pieces of {}", size);
        let Ok(Some(mut read)) = read else { return Ok(()) };
        whole.set(whole.get() + 1);
        let followed = [&bytes[..std::mem::take(&mut read.length)], MARKER].concat();
        let shown = followed.escape_ascii().to_string();
        let mut found = runtime.block_on(library(&followed)).into_iter();
        // Of HTTP/1.0 it is, unless the request says otherwise.
        let may_be_last = read.version == Version::HTTP_10;
        prop_assert_eq!(found.next(), Some(read), "{}", &shown);
        match found.next() {
            Some(next) => prop_assert_eq!(next.uri, Uri::from_static("/marker")),
            None => prop_assert!(may_be_last, "{shown}"),
        }
        prop_assert!(found.next().is_none(), "{shown}");
        Ok(())
    });
    ran.unwrap();
    assert!(whole.get() > 400, "only {} whole requests", whole.get());
}
