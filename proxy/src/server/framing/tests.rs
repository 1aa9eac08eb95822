use http::HeaderName;

use super::{Chunks, Framing, HEAD_LIMIT, LINE_LIMIT, Malformed, head};

fn request(rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}\r\n")
}

fn status(text: &str) -> u16 {
    head(text.as_bytes()).unwrap_err().status
}

#[test]
fn a_whole_head_tells_its_length_and_its_body() {
    let text = request("Content-Length: 5\r\n") + "hello";
    let parsed = head(text.as_bytes()).unwrap().unwrap();
    assert_eq!(parsed.length, text.len() - 5);
    assert!(matches!(parsed.body, Framing::Sized(length) if length.get() == 5));
    let text = request("Transfer-Encoding: Chunked\r\n");
    let parsed = head(text.as_bytes()).unwrap().unwrap();
    assert_eq!(parsed.body, Framing::Chunked(Chunks::Size { line: Vec::new() }));
    for length in ["", "Content-Length: 0\r\n"] {
        assert_eq!(head(request(length).as_bytes()).unwrap().unwrap().body, Framing::Done);
    }
}

#[test]
fn a_part_of_a_head_is_waited_for() {
    let text = request("X: y\r\n");
    for end in 0..text.len() {
        assert_eq!(head(&text.as_bytes()[..end]), Ok(None), "{end}");
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
    assert_eq!(status(&request(&"X: y\r\n".repeat(101))), 431);
}

/// Feeds `bytes` in pieces of `size` and returns how many belonged to the body.
fn consume(body: &mut Framing, bytes: &[u8], size: usize) -> Result<usize, Malformed> {
    let mut total = 0;
    for piece in bytes.chunks(size) {
        let taken = body.advance(piece, &[HeaderName::from_static("x-own-key")])?;
        total += taken;
        if taken < piece.len() {
            break;
        }
    }
    Ok(total)
}

fn chunked() -> Framing {
    Framing::Chunked(Chunks::Size { line: Vec::new() })
}

#[test]
fn the_end_of_a_chunked_body_is_found_however_it_is_cut() {
    for text in ["0\r\n\r\n", "5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n"] {
        let followed = format!("{text}GET / HTTP/1.1");
        for size in 1..followed.len() {
            let mut body = chunked();
            assert_eq!(consume(&mut body, followed.as_bytes(), size), Ok(text.len()));
            assert_eq!(body, Framing::Done);
        }
    }
}

#[test]
fn trailers_are_fields_and_bounded_ones() {
    let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(101));
    let long = format!("0\r\na: {}\r\n\r\n", "b".repeat(9000));
    for (text, status) in [
        ("0\r\nX-Own-Key: a\r\n\r\n", 400),
        ("0\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", 400),
        ("0\r\ncontent-length: 3\r\n\r\n", 400),
        ("0\r\nno field\r\n\r\n", 400),
        ("0\r\na: b\nc: d\r\n\r\n", 400),
        ("0\r\na: b\r\n c\r\n\r\n", 400),
        (&*many, 431),
        (&*long, 431),
    ] {
        for size in [1, 7, text.len()] {
            let error = consume(&mut chunked(), text.as_bytes(), size).unwrap_err();
            assert_eq!(error.status, status, "{text:?}");
        }
    }
}

#[test]
fn chunks_that_are_none_are_refused() {
    let long = format!("5;{}\r\n", "x".repeat(300));
    for text in
        ["x\r\n", "\r\n", "5\n", " 5\r\n", "0x5\r\n", "-1\r\n", "ffffffffffffffff\r\n", &long]
    {
        assert!(consume(&mut chunked(), text.as_bytes(), 7).is_err(), "{text:?}");
    }
}
