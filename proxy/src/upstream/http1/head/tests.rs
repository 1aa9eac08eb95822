use bytes::BytesMut;
use http::Method;
use hyper::ext::ReasonPhrase;

use super::{FIELD_LIMIT, Framing, HEAD_LIMIT, Head, parse};

fn parse_for(method: &Method, text: &[u8]) -> Result<Option<Head>, &'static str> {
    parse(&mut BytesMut::from(text), method)
}

/// The head that `lines` are, without the empty line.
fn get(lines: &str) -> Result<Head, &'static str> {
    Ok(parse_for(&Method::GET, format!("{lines}\r\n\r\n").as_bytes())?.expect("a whole head"))
}

/// As [`get`], with the status line of most.
fn with(fields: &str) -> Result<Head, &'static str> {
    get(&format!("HTTP/1.1 200 OK\r\n{fields}"))
}

#[test]
fn status_reason_and_fields_are_as_they_were_sent() {
    let text = b"HTTP/1.1 299 Caf\xe9 au lait\r\nX: caf\xe9\r\nSet-Cookie: b\r\nset-cookie:a \r\n\
                 Empty:\r\n\r\nHTTP/1.1";
    let mut bytes = BytesMut::from(&text[..]);
    let head = parse(&mut bytes, &Method::GET).unwrap().unwrap();
    assert_eq!(bytes, "HTTP/1.1", "what follows is left");
    assert_eq!(head.response.status(), 299);
    let reason = head.response.extensions().get::<ReasonPhrase>().unwrap();
    assert_eq!(reason.as_bytes(), b"Caf\xe9 au lait");
    let fields: Vec<_> =
        head.response.headers().iter().map(|(_, value)| value.as_bytes()).collect();
    assert_eq!(fields, [&b"caf\xe9"[..], b"b", b"a", b""]);
}

#[test]
fn a_usual_reason_is_not_kept_and_any_other_is() {
    for (line, reason) in [
        ("HTTP/1.1 200 OK", None),
        ("HTTP/1.1 200 ok", Some("ok")),
        ("HTTP/1.1 200 ", Some("")),
        ("HTTP/1.1 200", Some("")),
        ("HTTP/1.0 404 Nowhere", Some("Nowhere")),
        ("HTTP/1.1 599  two spaces", Some(" two spaces")),
    ] {
        let head = get(line).unwrap();
        let kept = head.response.extensions().get::<ReasonPhrase>();
        assert_eq!(kept.map(ReasonPhrase::as_bytes), reason.map(str::as_bytes), "{line}");
    }
}

#[test]
fn a_part_of_a_head_is_waited_for() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for end in 0..text.len() {
        assert!(parse_for(&Method::GET, &text[..end]).unwrap().is_none(), "{end}");
    }
}

#[test]
fn the_end_of_the_body_is_what_the_head_says() {
    for (fields, framing) in [
        ("Content-Length: 5", "Sized(5)"),
        ("Content-Length: 005", "Sized(5)"),
        ("Content-Length: 0", "Sized(0)"),
        ("Content-Length: 9223372036854775807", "Sized(9223372036854775807)"),
        ("Transfer-Encoding: chunked", "Chunked"),
        ("transfer-encoding:\tCHUNKED ", "Chunked"),
        ("X: y", "Open"),
    ] {
        let head = with(fields).unwrap();
        assert!(format!("{:?}", head.body).starts_with(framing), "{fields}: {head:?}");
    }
}

#[test]
fn responses_that_have_no_body_have_none_whatever_they_say() {
    for (method, status, fields) in [
        (Method::HEAD, 200, "Content-Length: 5"),
        (Method::HEAD, 200, "Transfer-Encoding: chunked"),
        (Method::HEAD, 404, "X: y"),
        (Method::GET, 100, "Content-Length: 5"),
        (Method::GET, 103, "X: y"),
        (Method::GET, 204, "Content-Length: 5"),
        (Method::GET, 204, "Transfer-Encoding: chunked"),
        (Method::GET, 304, "Content-Length: 5"),
        (Method::GET, 304, "X: y"),
    ] {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n\r\n");
        let head = parse_for(&method, text.as_bytes()).unwrap().unwrap();
        assert!(matches!(head.body, Framing::Sized(0)), "{method} {text:?}");
        assert!(head.is_persistent, "{method} {text:?}");
    }
}

#[test]
fn a_connection_is_kept_only_where_both_sides_know_that_it_is() {
    for (lines, is_persistent) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", true),
        ("HTTP/1.1 200 OK\r\nX: y", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x\r\nConnection: close", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: closed", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: close, keep-alive", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive", false),
    ] {
        assert_eq!(get(lines).unwrap().is_persistent, is_persistent, "{lines:?}");
    }
}

#[test]
fn what_two_readers_could_end_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length: abc",
        "Content-Length:",
        "Content-Length: 9223372036854775808",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        assert!(with(fields).is_err(), "{fields:?}");
    }
    assert!(get("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked").is_err());
}

#[test]
fn heads_that_are_none_are_refused() {
    for text in [
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/11 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n\tfolded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\u{e9}: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n\r\r\n",
    ] {
        assert!(parse_for(&Method::GET, text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn sizes_are_bounded_whether_or_not_the_head_is_whole() {
    let line = "HTTP/1.1 200 OK\r\n";
    let padded = |length: usize| format!("{line}X: {}\r\n\r\n", "y".repeat(length - 24));
    assert!(parse_for(&Method::GET, padded(HEAD_LIMIT).as_bytes()).unwrap().is_some());
    assert!(parse_for(&Method::GET, padded(HEAD_LIMIT + 1).as_bytes()).is_err());
    let endless = format!("{line}X: {}", "y".repeat(HEAD_LIMIT));
    assert!(parse_for(&Method::GET, endless.as_bytes()).is_err());
    let endless = format!("HTTP/1.1 200 {}", "y".repeat(HEAD_LIMIT));
    assert!(parse_for(&Method::GET, endless.as_bytes()).is_err());
    let fields = |count: usize| format!("{line}{}\r\n", "X: y\r\n".repeat(count));
    assert!(parse_for(&Method::GET, fields(FIELD_LIMIT).as_bytes()).unwrap().is_some());
    assert!(parse_for(&Method::GET, fields(FIELD_LIMIT + 1).as_bytes()).is_err());
}
