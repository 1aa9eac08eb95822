use bytes::BytesMut;
use http::{Method, Version};

use super::{FIELD_LIMIT, HEAD_LIMIT, Head, LINE_LIMIT, Said, parse};
use crate::error::Malformed;
use crate::http1::{Chunks, Framing};

fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    parse(&mut BytesMut::from(bytes))
}

fn request(rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}\r\n")
}

fn status(text: &str) -> u16 {
    head(text.as_bytes()).unwrap_err().status
}

#[test]
fn a_whole_head_is_taken_off_and_tells_what_is_asked_for() {
    let text = "PURGE /a//b?c=%2F&d HTTP/1.1\r\nHost: x\r\nX-A:\t1 \r\nx-a: caf\u{e9}\r\n\r\nrest";
    for skipped in ["", "\r\n"] {
        let mut came = BytesMut::from(&*format!("{skipped}{text}"));
        let Head { request, body, .. } = parse(&mut came).unwrap().unwrap();
        assert_eq!(came, "rest");
        assert_eq!((request.method().as_str(), body), ("PURGE", Framing::DONE));
        assert_eq!(request.uri(), "/a//b?c=%2F&d");
        assert_eq!(request.version(), Version::HTTP_11);
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, [&b"1"[..], "caf\u{e9}".as_bytes()]);
    }
    for (target, method) in
        [("http://x:1/a?b", Method::GET), ("x:443", Method::CONNECT), ("*", Method::OPTIONS)]
    {
        let text = format!("{method} {target} HTTP/1.0\r\n\r\n");
        let request = head(text.as_bytes()).unwrap().unwrap().request;
        assert_eq!((request.uri().to_string(), request.method()), (target.into(), &method));
        assert_eq!(request.version(), Version::HTTP_10);
    }
}

#[test]
fn where_the_body_ends_is_said_in_one_way() {
    for (fields, body) in [
        ("", Framing::DONE),
        ("Content-Length: 0\r\n", Framing::DONE),
        ("Content-Length: 05\r\n", Framing::Sized(5)),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked(Chunks::strict())),
    ] {
        assert_eq!(head(request(fields).as_bytes()).unwrap().unwrap().body, body, "{fields}");
    }
}

#[test]
fn what_a_client_says_of_its_connection_is_heard() {
    let all = Said { is_http_11: true, is_persistent: true, ..Said::default() };
    let old = Said::default();
    for (line, fields, said) in [
        ("GET / HTTP/1.1", "", all),
        ("HEAD / HTTP/1.1", "", Said { is_head: true, ..all }),
        ("GET / HTTP/1.1", "Connection: x, Close\r\n", Said { is_persistent: false, ..all }),
        ("GET / HTTP/1.0", "", old),
        ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", Said { is_persistent: true, ..old }),
        ("GET / HTTP/1.0", "Connection: keep-alive, close\r\n", old),
        ("GET http://x/ HTTP/1.0", "Connection: keep-alive\r\n", old),
        ("GET http://x/ HTTP/1.1", "", all),
        ("GET / HTTP/1.1", "TE: gzip\r\nTE: Trailers\r\n", Said { takes_trailers: true, ..all }),
        ("GET / HTTP/1.1", "Expect: 100-Continue\r\n", Said { expects_continue: true, ..all }),
        ("GET / HTTP/1.0", "Expect: 100-continue\r\n", old),
        ("GET / HTTP/1.1", "Expect: something\r\n", all),
    ] {
        let text = format!("{line}\r\nHost: x\r\n{fields}\r\n");
        assert_eq!(head(text.as_bytes()).unwrap().unwrap().said, said, "{text}");
    }
}

#[test]
fn a_part_of_a_head_is_waited_for() {
    let text = request("X: y\r\n");
    for end in 0..text.len() {
        assert!(head(&text.as_bytes()[..end]).unwrap().is_none(), "{end}");
    }
}

#[test]
fn what_two_servers_could_read_in_two_ways_is_refused() {
    for rest in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: abc\r\n",
        "Content-Length:\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: y\r\n",
        "X : y\r\n",
        "X: y\r\n folded\r\n",
        "X: y\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X\r\n",
        ": y\r\n",
    ] {
        assert_eq!(status(&request(rest)), 400, "{rest:?}");
    }
}

#[test]
fn request_lines_that_are_none_are_refused() {
    for line in [
        "GET / HTTP/9.9",
        "GET / HTTP/2.0",
        "GET /",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1 extra",
        "GE T / HTTP/1.1",
        "G\u{a0}T / HTTP/1.1",
        "",
    ] {
        assert_eq!(status(&format!("{line}\r\nHost: x\r\n\r\n")), 400, "{line:?}");
    }
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400, "no Host");
    for host in ["a b", "a/b", "a@b", "a?b", "a\"b", "a,b c", "\u{e4}", "a\\b", "a#b", "<a>"] {
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
    }
    for host in ["", "A-1.b_c~", "[::1]:80", "a:", "%41!$&'()*+,;=", "a:80"] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(head(text.as_bytes()).is_ok(), "{host}");
    }
    assert!(head(b"GET / HTTP/1.0\r\n\r\n").is_ok());
    assert_eq!(status("\x16\x03\x01"), 400, "TLS");
    assert_eq!(status("GET / HTTP/1.1\nHost"), 400);
}

#[test]
fn sizes_are_bounded() {
    let padded = |length: usize| request(&format!("X: {}\r\n", "y".repeat(length)));
    assert!(head(padded(12 * 1024).as_bytes()).unwrap().is_some());
    assert_eq!(status(&padded(HEAD_LIMIT)), 431);
    assert_eq!(status(&"x".repeat(HEAD_LIMIT + 1)), 431);
    assert_eq!(status(&format!("GET /{}", "x".repeat(LINE_LIMIT))), 414);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(LINE_LIMIT));
    assert_eq!(status(&long), 414);
    let many = |count| request(&"X: y\r\n".repeat(count));
    assert!(head(many(FIELD_LIMIT - 1).as_bytes()).unwrap().is_some());
    assert_eq!(status(&many(FIELD_LIMIT)), 431);
}

#[test]
fn a_refusal_says_what_is_wrong() {
    for (text, reason) in [
        ("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "NUL"),
        ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", "carriage return within"),
        ("GET / HTTP/1.1\r\nX: a\n\r\n\r\n", "without a carriage return"),
        ("GET / HTTP/1.1\nHost: x\n\nX: a\r\n\r\n", "without a carriage return"),
        ("GET / HTTP/9.9\r\n\r\n", "version"),
        ("GET / HTTP/1.1\r\nX y: z\r\n\r\n", "name of a header field"),
        ("GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", "target"),
        ("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", "method"),
    ] {
        let malformed = head(text.as_bytes()).unwrap_err();
        assert!(malformed.reason.contains(reason), "{text:?}: {}", malformed.reason);
    }
}

#[test]
fn options_without_a_path_is_of_the_server() {
    for (line, path) in [
        ("OPTIONS http://x", "*"),
        ("OPTIONS HTTP://x:80", "*"),
        ("OPTIONS *", "*"),
        ("OPTIONS http://x/", "/"),
        ("OPTIONS http://x?q", "/"),
        ("OPTIONS https://x", "/"),
        ("GET http://x", "/"),
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(head(text.as_bytes()).unwrap().unwrap().request.uri().path(), path, "{line}");
    }
}
