//! The head of a response: what is said of its body's end and of the connection (RFC 9112 §6, §9).

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;

use super::head::Said;
use crate::body::Body;
use crate::http1::{Outgoing, fields};

/// A response being sent.
pub(super) type Answer = Outgoing<Vec<u8>>;

/// How a response says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its head, which says nothing of it.
    Head,
    /// As [`End::Head`]; the response to `GET` would say the same of its length.
    HeadAlone,
    Sized(u64),
    Chunked,
    /// With the connection.
    Close,
}

/// The response to a request that `said` so, and whether the connection goes on behind it, which
/// it does only if it `may`. Interim responses that were not sent are put before it.
pub(super) fn answer(
    response: Response<Body>,
    said: Said,
    may_persist: bool,
    interim: Option<&[u8]>,
) -> (Answer, bool) {
    let (parts, body) = response.into_parts();
    let end = end(parts.status, said, &body);
    let is_persistent = may_persist && end != End::Close;
    let mut head = begin(&parts.headers, interim);
    status_line(&mut head, parts.status, parts.extensions.get(), said.is_http_11);
    let is_own = |name: &HeaderName| {
        (*name == CONTENT_LENGTH && end != End::HeadAlone) || *name == CONNECTION
    };
    fields::put(&mut head, parts.headers.iter().filter(|(name, _)| !is_own(name)));
    match end {
        End::Head | End::HeadAlone | End::Close => {}
        // Writing to memory does not fail.
        End::Sized(length) => drop(write!(head, "content-length: {length}\r\n")),
        End::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    match (said.is_http_11, is_persistent) {
        (true, true) | (false, false) => {}
        (true, false) => head.extend_from_slice(b"connection: close\r\n"),
        (false, true) => head.extend_from_slice(b"connection: keep-alive\r\n"),
    }
    finish(&mut head, &parts.headers);
    let body = if matches!(end, End::Head | End::HeadAlone | End::Sized(0)) {
        body.forgo();
        None
    } else {
        Some(body)
    };
    let answer = Answer::new(head, body);
    let is_chunked = end == End::Chunked;
    (if is_chunked { answer.chunked(said.takes_trailers) } else { answer }, is_persistent)
}

/// The head of the response that opens a tunnel.
pub(super) fn opening(response: &Response<Body>, said: Said, interim: Option<&[u8]>) -> Answer {
    let mut head = begin(response.headers(), interim);
    let reason = response.extensions().get();
    status_line(&mut head, response.status(), reason, said.is_http_11);
    fields::put(&mut head, response.headers().iter().filter(|(name, _)| **name != CONTENT_LENGTH));
    finish(&mut head, response.headers());
    Answer::new(head, None)
}

fn end(status: StatusCode, said: Said, body: &Body) -> End {
    if said.is_head {
        return End::HeadAlone;
    }
    if status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return End::Head;
    }
    if body.is_end_stream() {
        return End::Sized(0);
    }
    match body.size_hint().exact() {
        Some(length) => End::Sized(length),
        None if said.is_http_11 => End::Chunked,
        None => End::Close,
    }
}

/// A head with room for all that is written to it and the head of a first chunk.
fn begin(fields: &HeaderMap, interim: Option<&[u8]>) -> Vec<u8> {
    let interim = interim.unwrap_or_default();
    let mut head = Vec::with_capacity(interim.len() + fields::size(fields) + 192);
    head.extend_from_slice(interim);
    head
}

fn status_line(
    head: &mut Vec<u8>,
    status: StatusCode,
    reason: Option<&ReasonPhrase>,
    is_http_11: bool,
) {
    head.extend_from_slice(if is_http_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    head.extend_from_slice(reason.map_or_else(usual, ReasonPhrase::as_bytes));
    head.extend_from_slice(b"\r\n");
}

/// The date, unless the upstream has said it (RFC 9110 §6.6.1), and the empty line.
fn finish(head: &mut Vec<u8>, fields: &HeaderMap) {
    if !fields.contains_key(DATE) {
        head.extend_from_slice(b"date: ");
        put_date(head);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
}

/// The date of one second, in words.
#[derive(Default)]
struct Today {
    second: u64,
    words: Vec<u8>,
}

thread_local! {
    static TODAY: RefCell<Today> = RefCell::default();
}

/// Writes the date, which changes less often than it is asked for.
fn put_date(head: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    TODAY.with_borrow_mut(|today| {
        if today.second != now || today.words.is_empty() {
            today.second = now;
            today.words.clear();
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(now));
            // Writing to memory does not fail.
            let _ = write!(today.words, "{date}");
        }
        head.extend_from_slice(&today.words);
    });
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
