//! The head of a request: what is asked for, where its body ends, and what it says of the
//! connection (RFC 9112 §2.2, §3, §6.3).
//!
//! Stricter than it must be: whatever two servers could read in two ways is refused. What is parsed
//! here is what is judged and what is sent on; nothing else reads the bytes of a request.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version};
use memchr::memmem::Finder;

use crate::error::Malformed;
use crate::headers::members;
use crate::http1::{Chunks, Framing, HEAD_LIMIT, Persistence, fields, number};

/// The longest request line that is read.
const LINE_LIMIT: usize = 32 * 1024;

/// The most header fields in a head.
const FIELD_LIMIT: usize = 100;

/// The end of the last field and the empty line behind it. To prepare a search costs more than
/// to search a head.
static END_OF_HEAD: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// A head, understood.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) request: Request<()>,
    pub(crate) body: Framing,
    /// What the response and the connection depend on.
    pub(super) said: Said,
}

/// What a head says of the exchange and of the connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that a client says or not")]
pub(super) struct Said {
    pub(super) is_http_11: bool,
    /// Whether the response has no body, whatever it says.
    pub(super) is_head: bool,
    /// Whether the client would send another request.
    pub(super) is_persistent: bool,
    pub(super) takes_trailers: bool,
    /// Whether the client waits to be asked for its body.
    pub(super) expects_continue: bool,
}

/// Takes the head at the start of `came` off it; `None` if it is not whole yet.
///
/// # Errors
/// [`Malformed`] as soon as that is certain.
pub(crate) fn parse(came: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    if came.is_empty() {
        return Ok(None);
    }
    // An empty line before a request is skipped, as RFC 9112 §2.2 advises; one, since some
    // clients send it, and not endlessly many.
    let skipped = if came.starts_with(b"\r\n") { 2 } else { 0 };
    let text = came.get(skipped..).unwrap_or_default();
    if text.starts_with(b"\r\n") {
        return Err(Malformed::bad("it begins with empty lines"));
    }
    let Some(length) = END_OF_HEAD.find(text).map(|at| skipped + at + 4) else {
        check_length(came.len())?;
        check_partial(text)?;
        return Ok(None);
    };
    check_length(length)?;
    // What is all that came need not be parted from the rest.
    let whole = if length == came.len() { std::mem::take(came) } else { came.split_to(length) };
    let mut text = whole.freeze();
    text.advance(skipped);
    understand(&text).map(Some)
}

/// Parses a whole head, whose end has been found.
fn understand(text: &Bytes) -> Result<Head, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELD_LIMIT];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(text, &mut fields) {
        // The parser takes a LF alone for the end of a line.
        Ok(httparse::Status::Complete(length)) if length == text.len() => check_endings(text)?,
        Ok(_) => return Err(explain(text, httparse::Error::NewLine)),
        Err(error) => return Err(explain(text, error)),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(explain(text, httparse::Error::Token));
    };
    let mut noted = Noted::default();
    let wrong = Malformed::bad("a header field is not one");
    let note = |name: &HeaderName, value: &HeaderValue| noted.note(name, value);
    let headers = fields::collect(parsed.headers, text, text, wrong, note)?;
    let is_http_11 = parsed.version == Some(1);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes())
        .map_err(|_| Malformed::bad("its method or target is not one"))?;
    let mut asked = uri(text, target)?;
    if *request.method() == Method::OPTIONS && is_of_server(&asked, target) {
        asked = of_server(asked)?;
    }
    *request.uri_mut() = asked;
    *request.version_mut() = if is_http_11 { Version::HTTP_11 } else { Version::HTTP_10 };
    let body = noted.framing(is_http_11)?;
    if *request.method() == Method::CONNECT && !body.is_done() {
        return Err(Malformed::bad("it is CONNECT and has a body, which is not defined"));
    }
    let said = noted.said(request.method(), is_http_11, request.uri().authority().is_some());
    *request.headers_mut() = headers;
    Ok(Head { request, body, said })
}

/// The `target` of a request, which is a part of `text`.
fn uri(text: &Bytes, target: &str) -> Result<Uri, Malformed> {
    let wrong = Malformed::bad("its target is not one");
    // A fragment would be left out silently.
    if target.contains('#') {
        return Err(wrong);
    }
    Uri::from_maybe_shared(text.slice_ref(target.as_bytes())).map_err(|_| wrong)
}

/// Whether `uri`, which was the `target` of a request, is of a server as a whole: then it has no path
/// (RFC 9112 §3.2.4).
fn is_of_server(uri: &Uri, target: &str) -> bool {
    let rest = target.get("http://".len()..).unwrap_or_default();
    uri.scheme() == Some(&Scheme::HTTP) && !rest.contains(['/', '?'])
}

/// `uri` with `*` as its path.
fn of_server(uri: Uri) -> Result<Uri, Malformed> {
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).map_err(|_| Malformed::bad("its target is not one"))
}

/// Whether `byte` may stand in the name of a host, with its port (RFC 3986 §3.2.2).
fn is_of_authority(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'$'..=b'.' | b':' | b';' | b'=')
        || matches!(byte, b'[' | b']' | b'_' | b'~')
}

/// What the fields say, as far as the connection needs to know.
#[derive(Debug, Default)]
struct Noted {
    hosts: usize,
    length: Option<u64>,
    is_chunked: bool,
    connection: Persistence,
    takes_trailers: bool,
    expects_continue: bool,
}

impl Noted {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Malformed> {
        match *name {
            HOST if value.as_bytes().iter().all(|byte| is_of_authority(*byte)) => self.hosts += 1,
            HOST => return Err(Malformed::bad("its Host is not one")),
            CONTENT_LENGTH => {
                let wrong = Malformed::bad("its Content-Length is not a number");
                let length = number(value.as_bytes()).ok_or(wrong)?;
                if self.length.replace(length).is_some() {
                    return Err(Malformed::bad("it has more than one Content-Length"));
                }
            }
            TRANSFER_ENCODING if self.is_chunked => {
                return Err(Malformed::bad("its Transfer-Encoding is given twice"));
            }
            TRANSFER_ENCODING if value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                self.is_chunked = true;
            }
            TRANSFER_ENCODING => {
                return Err(Malformed::bad("its Transfer-Encoding is not `chunked`"));
            }
            CONNECTION => self.connection.note(value),
            TE => {
                self.takes_trailers |=
                    members(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            EXPECT => {
                self.expects_continue |= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    /// The length of the body, which must be told in one way only.
    fn framing(&self, is_http_11: bool) -> Result<Framing, Malformed> {
        match self.hosts {
            0 if is_http_11 => return Err(Malformed::bad("it has no Host")),
            0 | 1 => {}
            _ => return Err(Malformed::bad("it has more than one Host")),
        }
        match (self.length, self.is_chunked) {
            (None, false) => Ok(Framing::DONE),
            (Some(length), false) => Ok(Framing::Sized(length)),
            (Some(_), true) => {
                Err(Malformed::bad("it has both Content-Length and Transfer-Encoding"))
            }
            (None, true) if is_http_11 => Ok(Framing::Chunked(Chunks::strict())),
            (None, true) => Err(Malformed::bad("it is HTTP/1.0 and has a Transfer-Encoding")),
        }
    }

    fn said(&self, method: &Method, is_http_11: bool, is_forward: bool) -> Said {
        Said {
            is_http_11,
            is_head: *method == Method::HEAD,
            // Behind a proxy, a client of HTTP/1.0 may have another that knows of no such thing, and
            // passed on what it said of it (RFC 9112 §9.3).
            is_persistent: self.connection.is_kept(is_http_11) && (is_http_11 || !is_forward),
            takes_trailers: self.takes_trailers,
            expects_continue: self.expects_continue && is_http_11,
        }
    }
}

/// Judges a head that is not whole: is it too long already, or no head at all?
fn check_partial(text: &[u8]) -> Result<(), Malformed> {
    check_line(text)?;
    // A TLS handshake would be waited for until the timeout.
    if text.first() == Some(&0x16) {
        return Err(Malformed::bad("it is TLS; the proxy itself speaks plain http"));
    }
    check_lines(text)
}

fn check_line(text: &[u8]) -> Result<(), Malformed> {
    if memchr::memchr(b'\n', text).unwrap_or(text.len()) > LINE_LIMIT {
        return Err(Malformed::LONG_LINE);
    }
    Ok(())
}

/// The empty line before a head counts too.
fn check_length(length: usize) -> Result<(), Malformed> {
    if length > HEAD_LIMIT {
        return Err(Malformed::LONG_HEAD);
    }
    Ok(())
}

/// Judges the line endings of a head that the parser took: all else of them it has judged.
fn check_endings(text: &[u8]) -> Result<(), Malformed> {
    check_line(text)?;
    let is_bare = |at: usize| at == 0 || text.get(at - 1) != Some(&b'\r');
    if memchr::memchr_iter(b'\n', text).any(is_bare) {
        return Err(BARE_LINE_FEED);
    }
    Ok(())
}

const BARE_LINE_FEED: Malformed = Malformed::bad("a line ends without a carriage return");

/// Every line ends in CR LF, and neither stands anywhere else; no line is folded; no NUL.
fn check_lines(text: &[u8]) -> Result<(), Malformed> {
    for at in memchr::memchr3_iter(b'\r', b'\n', 0, text) {
        let next = text.get(at + 1);
        match text.get(at) {
            Some(0) => return Err(Malformed::bad("it holds a NUL")),
            Some(b'\r') if next.is_some_and(|next| *next != b'\n') => {
                return Err(Malformed::bad("it holds a carriage return within a line"));
            }
            Some(b'\n') if at == 0 || text.get(at - 1) != Some(&b'\r') => {
                return Err(BARE_LINE_FEED);
            }
            Some(b'\n') if matches!(next, Some(b' ' | b'\t')) => {
                return Err(Malformed::bad("a header field is folded"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Says what is wrong with a head that the parser did not take for `error`.
fn explain(text: &[u8], error: httparse::Error) -> Malformed {
    use httparse::Error;
    if let Err(malformed) = check_line(text).and_then(|()| check_lines(text)) {
        return malformed;
    }
    match error {
        Error::TooManyHeaders => Malformed::MANY_FIELDS,
        Error::Version => Malformed::bad("its version is not HTTP/1.0 or HTTP/1.1"),
        Error::HeaderName => Malformed::bad("the name of a header field is not one"),
        Error::HeaderValue => Malformed::bad("the value of a header field holds a forbidden byte"),
        Error::Token => Malformed::bad("its method or target is not one"),
        _ => Malformed::bad("its head is not one of HTTP"),
    }
}

#[cfg(test)]
#[path = "head/tests.rs"]
mod tests;
