//! Whether a request's path has one meaning only.
//!
//! A path that is matched against rules, or joined to an upstream's base path, must mean to the
//! upstream what it meant here. Servers differ on encoded dots and slashes, `;` parameters,
//! backslashes and double encoding, so a path that holds any of those is ambiguous. Parameters
//! behind the name of a segment alone are not: they are matched with and without.

use std::borrow::Cow;

/// Why `path` (without query) is ambiguous, if it is.
pub(crate) fn ambiguity(path: &str) -> Option<&'static str> {
    let bytes = path.as_bytes();
    if bytes.iter().all(|byte| is_unsuspicious(*byte)) {
        return None;
    }
    if bytes.contains(&b'\\') {
        return Some("it holds a backslash");
    }
    if bytes.contains(&b'#') {
        return Some("it holds a `#`");
    }
    if bytes.iter().any(|b| b.is_ascii_control() || *b == b' ') {
        return Some("it holds a control character or space");
    }
    if path.split('/').any(is_dot_segment) {
        return Some("it holds a dot segment");
    }
    if path.contains("/;") {
        return Some("a segment of it begins with `;`");
    }
    escapes(bytes)
}

/// Whether `byte` takes no part in anything that is ambiguous. Most paths hold no other, and are
/// looked at only once.
fn is_unsuspicious(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b'%' | b'.' | b';')
}

/// `.`, `..`, and those with a `;` parameter, which some servers cut off first.
fn is_dot_segment(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or(segment);
    matches!(name, "." | "..")
}

/// Judges percent-escapes: each must be well-formed and of a byte that has no role in a path.
fn escapes(bytes: &[u8]) -> Option<&'static str> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Some("it holds a broken escape");
        };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
            return Some("it holds a broken escape");
        };
        let byte = high << 4 | low;
        match byte {
            b'.' | b'/' | b'\\' | b'%' | b';' | b'#' => {
                return Some("it escapes one of `. / \\ % ; #`");
            }
            0..=0x1f | 0x7f => return Some("it escapes a control character"),
            _ => decoded.push(byte),
        }
        rest = tail;
    }
    // Overlong forms of `.` and `/` are not UTF-8 either.
    std::str::from_utf8(&decoded).is_err().then_some("it is not UTF-8 once unescaped")
}

/// `path` without escapes of characters that mean the same without (RFC 3986 §2.3): so rules are
/// written, and so paths are matched against them.
pub(crate) fn plain(path: &str) -> Cow<'_, str> {
    let Some((before, escaped)) = path.split_once('%') else { return path.into() };
    let mut plain = before.to_owned();
    for part in escaped.split('%') {
        let unreserved = match part.as_bytes() {
            [high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        if let Some(byte) = unreserved.filter(|byte| is_unreserved(*byte)) {
            plain.push(byte.into());
            plain.push_str(&part[2..]);
        } else {
            plain.push('%');
            plain.push_str(part);
        }
    }
    plain.into()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `path` as servers read it that leave out `;` and what follows it in a segment.
pub(crate) fn without_parameters(path: &str) -> String {
    let names = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::{ambiguity, plain, without_parameters};

    #[test]
    fn plain_paths_have_one_meaning() {
        for path in
            ["/", "/v1/chat/completions", "/a%20b", "/%E4%BD%A0", "/a.b/..c", "/x;v=1", "//a"]
        {
            assert_eq!(ambiguity(path), None, "{path}");
        }
    }

    #[test]
    fn what_servers_read_in_two_ways_is_found() {
        for path in [
            "/a/../b",
            "/..",
            "/.",
            "/a/%2e%2e/b",
            "/a%2fb",
            "/a%5cb",
            "/a\\b",
            "/..;/b",
            "/..;x=1/b",
            "/;x",
            "/a/;x=1/b",
            "/a%252e",
            "/%c0%ae",
            "/%ff",
            "/%0a",
            "/%00",
            "/%",
            "/%2",
            "/%zz",
            "/a#b",
            "/a b",
            "/a\nb",
            "/a\u{7f}b",
        ] {
            assert!(ambiguity(path).is_some(), "{path}");
        }
    }

    #[test]
    fn escapes_that_say_nothing_are_undone_and_no_others() {
        for (path, expected) in [
            ("/a-b", "/a-b"),
            ("/%73ecret/%7e%7E%2d", "/secret/~~-"),
            ("/%20%41%3a%E4%BD%A0%", "/%20A%3a%E4%BD%A0%"),
            ("/%4", "/%4"),
            ("/%4\u{e4}", "/%4\u{e4}"),
            ("/%%41", "/%A"),
        ] {
            assert_eq!(plain(path), expected);
        }
    }

    #[test]
    fn parameters_end_with_their_segment() {
        assert_eq!(without_parameters("/a;b=c;d/e/f;"), "/a/e/f");
    }
}
