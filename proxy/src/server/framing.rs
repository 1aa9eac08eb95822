//! Where a request on a connection ends and the next one begins (RFC 9112 §2.2, §6.3, §7.1).
//!
//! Stricter than it must be: whatever two servers could read in two ways is refused here, before
//! the HTTP library sees it. Pure functions of bytes; nothing is read or written.

use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::sync::LazyLock;

use http::HeaderName;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use memchr::memmem::Finder;

use crate::headers::{METHOD_OVERRIDES, is_hop_by_hop};

/// The longest request line that is read.
pub(crate) const LINE_LIMIT: usize = 32 * 1024;

/// The longest head that is read, request line included.
pub(crate) const HEAD_LIMIT: usize = 64 * 1024;

/// The most header fields in a head.
const FIELD_LIMIT: usize = 100;

/// The longest chunk-size line, extensions included; and the longest trailer section.
const CHUNK_LINE_LIMIT: usize = 256;
const TRAILER_LIMIT: usize = 8 * 1024;

/// The end of the last field and the empty line behind it. To prepare a search costs more than
/// to search a head.
static END_OF_HEAD: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// What is wrong with a request, and the status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const fn bad(reason: &'static str) -> Malformed {
    Malformed { status: 400, reason }
}

/// A whole head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length in bytes, the empty line included.
    pub(crate) length: usize,
    pub(crate) body: Framing,
}

/// How much of a request's body is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing; the next bytes are a head.
    Done,
    /// So many bytes.
    Sized(NonZeroU64),
    Chunked(Chunks),
}

/// The place in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// In a line that gives a chunk's size.
    Size { line: Vec<u8> },
    /// In a chunk, or in the line ending behind it (the last two bytes).
    Data { left: u64 },
    /// In the trailer section.
    Trailers { section: Vec<u8>, fields: usize },
}

/// Reads the head at the start of `bytes`; `None` if it is not whole yet.
///
/// # Errors
/// [`Malformed`] as soon as that is certain.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    // An empty line before a request is skipped, as RFC 9112 §2.2 advises; one, since some
    // clients send it, and not endlessly many.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let text = &bytes[skipped..];
    if text.starts_with(b"\r\n") {
        return Err(bad("it begins with empty lines"));
    }
    let Some(length) = END_OF_HEAD.find(text).map(|at| at + 4) else {
        check_length(bytes.len())?;
        check_partial(text)?;
        return Ok(None);
    };
    check_lines(&text[..length])?;
    check_length(skipped + length)?;
    let mut fields = [const { MaybeUninit::uninit() }; FIELD_LIMIT];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&text[..length], &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("its head ends too early")),
        Err(error) => return Err(explain(error)),
    }
    if !request.path.is_some_and(is_target) {
        return Err(bad("its target is not one"));
    }
    let body = body(&request)?;
    if request.method == Some("CONNECT") && body != Framing::Done {
        return Err(bad("it is CONNECT and has a body, which is not defined"));
    }
    Ok(Some(Head { length: skipped + length, body }))
}

/// Whether the library will take `text` for a target. Its parser of targets is stricter than
/// that of heads, but takes a copy; most targets are plainly paths.
fn is_target(text: &str) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/?=&%+:@".contains(byte);
    if text.starts_with('/') && text.as_bytes().iter().all(is_plain) {
        return text.len() < usize::from(u16::MAX);
    }
    // A fragment would be left out silently.
    !text.contains('#') && http::Uri::try_from(text).is_ok()
}

/// Judges a head that is not whole: is it too long already, or no head at all?
fn check_partial(text: &[u8]) -> Result<(), Malformed> {
    if memchr::memchr(b'\n', text).unwrap_or(text.len()) > LINE_LIMIT {
        return Err(Malformed { status: 414, reason: "its request line is too long" });
    }
    // A TLS handshake would be waited for until the timeout.
    if text.first() == Some(&0x16) {
        return Err(bad("it is TLS; the proxy itself speaks plain http"));
    }
    check_lines(text)
}

/// The empty lines before a head count too.
fn check_length(length: usize) -> Result<(), Malformed> {
    if length > HEAD_LIMIT {
        return Err(Malformed { status: 431, reason: "its head is too long" });
    }
    Ok(())
}

/// Every line ends in CR LF, and neither stands anywhere else; no NUL.
fn check_lines(text: &[u8]) -> Result<(), Malformed> {
    let mut previous = 0;
    for at in memchr::memchr3_iter(b'\r', b'\n', 0, text) {
        match text[at] {
            0 => return Err(bad("it holds a NUL")),
            b'\r' if text.get(at + 1).is_some_and(|next| *next != b'\n') => {
                return Err(bad("it holds a carriage return within a line"));
            }
            b'\n' if at == 0 || text[at - 1] != b'\r' => {
                return Err(bad("a line ends without a carriage return"));
            }
            b'\n' => {
                if previous == 0 && at > LINE_LIMIT {
                    return Err(Malformed { status: 414, reason: "its request line is too long" });
                }
                if matches!(text.get(at + 1), Some(b' ' | b'\t')) {
                    return Err(bad("a header field is folded"));
                }
                previous = at;
            }
            _ => {}
        }
    }
    Ok(())
}

fn explain(error: httparse::Error) -> Malformed {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => {
            Malformed { status: 431, reason: "it has more than 100 header fields" }
        }
        Error::Version => bad("its version is not HTTP/1.0 or HTTP/1.1"),
        Error::HeaderName => bad("the name of a header field is not one"),
        Error::HeaderValue => bad("the value of a header field holds a forbidden byte"),
        Error::Token => bad("its method or target is not one"),
        _ => bad("its head is not one of HTTP"),
    }
}

/// The length of the body, which must be told in one way only.
fn body(request: &httparse::Request<'_, '_>) -> Result<Framing, Malformed> {
    let values = |name: &'static str| {
        let fields = request.headers.iter();
        fields.filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let is_http_11 = request.version == Some(1);
    match values("host").count() {
        0 if is_http_11 => return Err(bad("it has no Host")),
        0 | 1 => {}
        _ => return Err(bad("it has more than one Host")),
    }
    let (mut lengths, mut codings) = (values("content-length"), values("transfer-encoding"));
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Done),
        (Some(_), Some(_)) => Err(bad("it has both Content-Length and Transfer-Encoding")),
        (Some(length), None) if lengths.next().is_none() => sized(length),
        (Some(_), None) => Err(bad("it has more than one Content-Length")),
        (None, Some(coding)) if codings.next().is_none() && is_http_11 => {
            if coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked(Chunks::Size { line: Vec::new() }))
            } else {
                Err(bad("its Transfer-Encoding is not `chunked`"))
            }
        }
        (None, Some(_)) => Err(bad("its Transfer-Encoding is given twice, or in HTTP/1.0")),
    }
}

fn sized(length: &[u8]) -> Result<Framing, Malformed> {
    let wrong = bad("its Content-Length is not a number");
    // Digits alone: `+5` is a number to some parsers.
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
    Ok(NonZeroU64::new(length.ok_or(wrong)?).map_or(Framing::Done, Framing::Sized))
}

impl Framing {
    /// Goes on over `bytes` of the body; returns how many of them belong to it. No trailer may be
    /// one of `key_headers`.
    ///
    /// # Errors
    /// [`Malformed`] when a chunk is not one.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        key_headers: &[HeaderName],
    ) -> Result<usize, Malformed> {
        match self {
            Self::Done => Ok(0),
            Self::Sized(left) => {
                let taken = left.get().min(bytes.len() as u64);
                *self = NonZeroU64::new(left.get() - taken).map_or(Self::Done, Self::Sized);
                // Not larger than `bytes.len()`.
                Ok(usize::try_from(taken).unwrap_or(bytes.len()))
            }
            Self::Chunked(chunks) => {
                let (taken, is_done) = chunks.advance(bytes, key_headers)?;
                if is_done {
                    *self = Self::Done;
                }
                Ok(taken)
            }
        }
    }
}

impl Chunks {
    fn advance(
        &mut self,
        bytes: &[u8],
        key_headers: &[HeaderName],
    ) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self {
                Self::Data { left } => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    at += usize::try_from(taken).unwrap_or(rest.len());
                    if *left == 0 {
                        *self = Self::Size { line: Vec::new() };
                    }
                }
                Self::Size { line } => {
                    line.push(rest[0]);
                    at += 1;
                    if line.len() > CHUNK_LINE_LIMIT {
                        return Err(bad("the line of a chunk's size is too long"));
                    }
                    if line.ends_with(b"\n") {
                        *self = match chunk_size(line)? {
                            0 => Self::Trailers { section: Vec::new(), fields: 0 },
                            size => Self::Data { left: size + 2 },
                        };
                    }
                }
                Self::Trailers { section, fields } => {
                    section.push(rest[0]);
                    at += 1;
                    if is_end(section, fields)? {
                        check_trailers(section, key_headers)?;
                        return Ok((at, true));
                    }
                }
            }
        }
        Ok((at, false))
    }
}

/// Whether a trailer section, come so far, is whole; counts its `fields`.
fn is_end(section: &[u8], fields: &mut usize) -> Result<bool, Malformed> {
    if section == b"\r\n" || section.ends_with(b"\r\n\r\n") {
        return Ok(true);
    }
    *fields += usize::from(section.ends_with(b"\n"));
    if section.len() > TRAILER_LIMIT || *fields > FIELD_LIMIT {
        return Err(Malformed { status: 431, reason: "its trailers are too long" });
    }
    Ok(false)
}

/// Trailers are fields, and none of those that only a head may have (RFC 9110 §6.5.1): what was
/// judged there is not said again behind the body, where some servers would take it as well.
fn check_trailers(section: &[u8], key_headers: &[HeaderName]) -> Result<(), Malformed> {
    check_lines(section)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELD_LIMIT];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut fields)
    else {
        return Err(bad("its trailers are not header fields"));
    };
    let mut names = fields.iter().map(|field| field.name.parse().unwrap_or(HOST));
    if names.any(|name| is_of_head(&name, key_headers)) { Err(BAD_TRAILER) } else { Ok(()) }
}

/// What is said of trailers that [`is_of_head`].
pub(crate) const BAD_TRAILER: Malformed = bad("a trailer is a field that only a head may have");

/// Whether a field must not be a trailer.
pub(crate) fn is_of_head(name: &HeaderName, key_headers: &[HeaderName]) -> bool {
    is_hop_by_hop(name)
        || key_headers.contains(name)
        || METHOD_OVERRIDES.contains(name)
        || [HOST, CONTENT_LENGTH, COOKIE, EXPECT].contains(name)
}

/// The size in a chunk's line: hexadecimal digits, then nothing or extensions.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let wrong = bad("the size of a chunk is not a number");
    let line = line.strip_suffix(b"\r\n").ok_or(bad("a line ends without a carriage return"))?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or(line);
    if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(wrong);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| wrong)?;
    u64::from_str_radix(digits, 16).map_err(|_| wrong)
}

#[cfg(test)]
#[path = "framing/agreement.rs"]
mod agreement;
#[cfg(test)]
#[path = "framing/tests.rs"]
mod tests;
