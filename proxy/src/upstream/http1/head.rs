//! The head of a response: what it says of the body's end and of the connection's.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::chunks::Chunks;
use crate::headers::has_token;

/// The longest head that is read.
const HEAD_LIMIT: usize = 64 * 1024;

/// The most fields in a head.
const FIELD_LIMIT: usize = 128;

/// A head, understood.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) body: Framing,
    /// Whether the connection stays open behind the body.
    pub(super) is_persistent: bool,
}

/// How much of a response's body is still to come.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes.
    Sized(u64),
    Chunked(Chunks),
    /// All until the connection closes.
    Open,
}

/// Takes the head of a response to `method` off the start of `bytes`; `None` if it is not whole.
///
/// # Errors
/// Why it is no head that can be relied on.
pub(super) fn parse(bytes: &mut BytesMut, method: &Method) -> Result<Option<Head>, &'static str> {
    match bytes.first() {
        None => return Ok(None),
        // The parser would skip empty lines, of which there may be endlessly many.
        Some(b'H') => {}
        Some(_) => return Err("its response does not begin with a status line"),
    }
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELD_LIMIT];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_LIMIT => length,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_LIMIT => return Ok(None),
        Ok(_) => return Err("the head of its response is too long"),
        Err(error) => return Err(explain(error)),
    };
    let is_http_11 = parsed.version == Some(1);
    // A copy: values that are kept for long would keep all else that was read with them.
    let text = Bytes::copy_from_slice(&bytes[..length]);
    let headers = headers(bytes, &text, parsed.headers)?;
    let response = response(parsed.code, &text, headers)?;
    let body = framing(method, response.status(), response.headers(), is_http_11)?;
    let asks = |option: &[u8]| has_token(response.headers(), &CONNECTION, option);
    let is_persistent =
        !matches!(body, Framing::Open) && !asks(b"close") && (is_http_11 || asks(b"keep-alive"));
    bytes.advance(length);
    Ok(Some(Head { response, body, is_persistent }))
}

/// The `fields`, parsed from `bytes`, with values that are parts of `text`, its copy.
fn headers(
    bytes: &[u8],
    text: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<HeaderMap, &'static str> {
    let begin = bytes.as_ptr().addr();
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let wrong = "a header field of its response is not one";
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong)?;
        let at = field.value.as_ptr().addr() - begin;
        let value = text.slice(at..at + field.value.len());
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| wrong)?);
    }
    Ok(headers)
}

fn response(
    code: Option<u16>,
    text: &[u8],
    headers: HeaderMap,
) -> Result<Response<()>, &'static str> {
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("its status is not one")?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let reason = reason(text);
    if status.canonical_reason().is_none_or(|usual| usual.as_bytes() != reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason)
    {
        response.extensions_mut().insert(reason);
    }
    Ok(response)
}

/// The reason phrase, as it is: the parser knows only those of ASCII.
fn reason(text: &[u8]) -> &[u8] {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Behind `HTTP/1.1 200 `.
    line.get(13..).unwrap_or_default()
}

/// Where the body ends (RFC 9112 §6.3), if that is said in one way only.
fn framing(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    is_http_11: bool,
) -> Result<Framing, &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
    let said = match (codings.next(), lengths.next()) {
        (Some(_), Some(_)) => return Err("it sent both Content-Length and Transfer-Encoding"),
        (None, None) => Framing::Open,
        (Some(coding), None) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !is_chunked || codings.next().is_some() || !is_http_11 {
                return Err("it sent a Transfer-Encoding that it was not asked for");
            }
            Framing::Chunked(Chunks::default())
        }
        (None, Some(length)) => match (number(length.as_bytes()), lengths.next()) {
            (Some(length), None) => Framing::Sized(length),
            (None, _) => return Err("its Content-Length is not a number"),
            (_, Some(_)) => return Err("it sent more than one Content-Length"),
        },
    };
    let has_none = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if has_none { Framing::Sized(0) } else { said })
}

fn number(digits: &[u8]) -> Option<u64> {
    // Digits alone: `+5` is a number to some parsers. And none that is negative to some.
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: i64 = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    number.try_into().ok()
}

fn explain(error: httparse::Error) -> &'static str {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => "its response has more than 128 header fields",
        Error::Version => "the version of its response is not HTTP/1.0 or HTTP/1.1",
        Error::Status => "its status is not one",
        Error::HeaderName | Error::HeaderValue => "a header field of its response is not one",
        _ => "its response is not one of HTTP",
    }
}

#[cfg(test)]
#[path = "head/tests.rs"]
mod tests;
