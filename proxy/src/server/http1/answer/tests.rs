use std::pin::Pin;
use std::task::Context;

use http::{Response, StatusCode};
use nono_audit::Outcome;

use super::super::head::Said;
use super::answer;
use crate::body::Body;

const NEW: Said = Said {
    is_http_11: true,
    is_head: false,
    is_persistent: true,
    takes_trailers: false,
    expects_continue: false,
};
const OLD: Said = Said { is_http_11: false, ..NEW };

/// What goes out for a response, without its date, and whether the connection goes on.
fn sent(
    status: u16,
    fields: &[(&'static str, &str)],
    body: &'static str,
    said: Said,
    may_persist: bool,
) -> (String, bool) {
    let mut response = Response::new(Body::answer(body, Outcome::Complete));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    let (mut answer, is_persistent) = answer(response, said, may_persist, None);
    let mut to = Vec::new();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(answer.poll(&mut Pin::new(&mut to), &mut cx).is_ready());
    let text = String::from_utf8(to).unwrap();
    let date = text.find("date: ").expect("a date");
    let behind = date + "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".len();
    assert!(text[..behind].ends_with(" GMT\r\n"), "{text}");
    (text[..date].to_owned() + &text[behind..], is_persistent)
}

#[test]
fn a_response_says_where_it_ends_in_one_way() {
    let head = Said { is_head: true, ..NEW };
    let gone = "HTTP/1.1 204 No Content\r\n\r\n";
    for (status, fields, body, said, expected) in [
        (200, &[][..], "hello", NEW, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (
            200,
            &[("content-length", "9")],
            "hello",
            NEW,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (200, &[], "", NEW, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (200, &[("content-length", "9")], "", head, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        (200, &[], "", head, "HTTP/1.1 200 OK\r\n\r\n"),
        (204, &[("content-length", "9")], "", NEW, gone),
        (304, &[("etag", "x")], "", NEW, "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
        (
            299,
            &[("x", "1"), ("x", "2")],
            "",
            NEW,
            "HTTP/1.1 299 \r\nx: 1\r\nx: 2\r\ncontent-length: 0\r\n\r\n",
        ),
    ] {
        assert_eq!(sent(status, fields, body, said, true), (expected.into(), true));
    }
}

#[test]
fn the_end_of_a_connection_is_announced_and_so_is_what_an_old_client_asked_for() {
    for (said, may_persist, expected) in [
        (NEW, true, ""),
        (NEW, false, "connection: close\r\n"),
        (OLD, true, "connection: keep-alive\r\n"),
        (OLD, false, ""),
    ] {
        let (text, is_persistent) = sent(200, &[("connection", "x")], "", said, may_persist);
        let version = if said.is_http_11 { "HTTP/1.1" } else { "HTTP/1.0" };
        assert_eq!(text, format!("{version} 200 OK\r\ncontent-length: 0\r\n{expected}\r\n"));
        assert_eq!(is_persistent, may_persist);
    }
}

#[test]
fn the_date_of_the_upstream_is_kept() {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert("date", "now".parse().unwrap());
    let (mut answer, _) = answer(response, NEW, true, Some(b"HTTP/1.1 103 x\r\n\r\n"));
    let mut to = Vec::new();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(answer.poll(&mut Pin::new(&mut to), &mut cx).is_ready());
    let expected =
        "HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(to).unwrap(), expected);
}
