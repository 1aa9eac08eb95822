use bytes::BytesMut;
use http::HeaderMap;

use super::{Chunks, EXTENSION_LIMIT, FIELD_LIMIT, LINE_LIMIT, Part, TRAILER_LIMIT, Wrong};

/// A body, its trailers, and how much is left behind its end.
type Whole = (Vec<u8>, Option<HeaderMap>, usize);

/// The body that comes in pieces of `size`; `None` if it has no end.
fn read(text: &[u8], size: usize) -> Result<Option<Whole>, Wrong> {
    let (mut chunks, mut held, mut body) = (Chunks::padded(), BytesMut::new(), Vec::new());
    let mut read = 0;
    for piece in text.chunks(size) {
        held.extend_from_slice(piece);
        read += piece.len();
        while let Some(part) = chunks.next(&mut held)? {
            match part {
                Part::Data(data) => {
                    assert!(!data.is_empty(), "an empty frame is no progress");
                    body.extend_from_slice(&data);
                }
                Part::End(trailers) => {
                    return Ok(Some((body, trailers, text.len() - read + held.len())));
                }
            }
        }
    }
    Ok(None)
}

/// As [`read`], however the body is cut.
fn body(text: &[u8]) -> Result<Option<Whole>, Wrong> {
    let whole = read(text, usize::MAX);
    for size in [1, 2, 3, 7] {
        assert_eq!(read(text, size), whole, "{:?} by {size}", text.escape_ascii().to_string());
    }
    whole
}

#[test]
fn content_trailers_and_end_are_found_however_they_are_cut() {
    for (text, content, trailers) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("2\r\nhe\r\n03\r\nllo\r\n000\r\n\r\n", "hello", ""),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""),
        ("5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n", "hello", ""),
        ("5 \t\r\nhello\r\n0 ;e\r\n\r\n", "hello", ""),
        ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", ""),
        ("1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n", "a", "7"),
        ("1\r\na\r\n0\r\nX-Sum:\r\nOther: 8\r\n\r\n", "a", ""),
    ] {
        let followed = format!("{text}HTTP/1.1 200 OK\r\n");
        let (body, fields, left) = body(followed.as_bytes()).unwrap().unwrap();
        assert_eq!(body, content.as_bytes(), "{text:?}");
        assert_eq!(left, followed.len() - text.len(), "{text:?}");
        let sum = fields.as_ref().and_then(|fields| fields.get("x-sum"));
        assert_eq!(sum.map_or("", |sum| sum.to_str().unwrap()), trailers, "{text:?}");
        assert_eq!(fields.is_some(), text.contains("X-Sum"), "{text:?}");
    }
}

#[test]
fn what_is_not_whole_is_waited_for() {
    let text = b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(body(&text[..end]), Ok(None), "{end}");
    }
}

#[test]
fn chunks_that_are_none_are_refused() {
    for text in [
        "x\r\n",
        "\r\n",
        " 5\r\n",
        "5\n",
        "5\r\r\n",
        "5\x0c\r\n",
        "5 5\r\n",
        "0x5\r\n",
        "+5\r\n",
        "-1\r\n",
        ";a\r\n",
        "5;a\n",
        "5;a\rb\r\n",
        "1000000000000000\r\n",
        "5\r\nhello0\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\rx",
        "5\r\nhello\r\n\r\n",
    ] {
        assert!(body(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn a_request_has_no_blanks_behind_a_size() {
    for (text, is_one) in
        [("5\r\n", true), ("5;a b\r\n", true), ("5 \r\n", false), ("5\t;a\r\n", false)]
    {
        let strict = Chunks::strict().next(&mut BytesMut::from(text));
        assert_eq!(strict, if is_one { Ok(None) } else { Err(Wrong::Size) }, "{text:?}");
        assert_eq!(Chunks::padded().next(&mut BytesMut::from(text)), Ok(None), "{text:?}");
    }
}

#[test]
fn trailers_that_are_none_are_refused() {
    for section in [
        "no field\r\n\r\n",
        "A : b\r\n\r\n",
        ": b\r\n\r\n",
        " A: b\r\n\r\n",
        "A: b\r\n c\r\n\r\n",
        "A: b\nC: d\r\n\r\n",
        "A: b\r\n\n",
        "A: b\n\n",
        "\n",
        "A: b\rC: d\r\n\r\n",
        "A: b\0\r\n\r\n",
        "\rA: b\r\n\r\n",
    ] {
        assert!(body(format!("0\r\n{section}").as_bytes()).is_err(), "{section:?}");
    }
}

#[test]
fn what_nobody_reads_is_bounded() {
    // In few pieces, since what is long is read again with each one.
    let at_once = |text: &[u8]| {
        let whole = read(text, usize::MAX);
        assert_eq!(read(text, 1000), whole);
        whole
    };
    let lines = |length: usize| format!("1;{}\r\na\r\n", "x".repeat(length - 2));
    let fields = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    let field = |length: usize| format!("0\r\na: {}\r\n\r\n", "b".repeat(length - 7));
    assert_eq!(at_once(lines(LINE_LIMIT - 2).as_bytes()), Ok(None));
    assert!(at_once(lines(LINE_LIMIT).as_bytes()).is_err());
    assert!(at_once("0".repeat(LINE_LIMIT).as_bytes()).is_err(), "without an end");
    let chunks = EXTENSION_LIMIT / 200;
    assert_eq!(at_once(lines(200).repeat(chunks).as_bytes()), Ok(None));
    assert!(at_once(lines(200).repeat(chunks + 2).as_bytes()).is_err(), "in all");
    assert!(at_once(fields(FIELD_LIMIT).as_bytes()).unwrap().is_some());
    assert!(at_once(fields(FIELD_LIMIT + 1).as_bytes()).is_err());
    assert!(at_once(field(TRAILER_LIMIT - 1).as_bytes()).unwrap().is_some());
    assert!(at_once(field(TRAILER_LIMIT).as_bytes()).is_err());
    assert!(at_once(format!("0\r\na: {}", "b".repeat(TRAILER_LIMIT)).as_bytes()).is_err());
}
