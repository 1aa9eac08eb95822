//! The head of a response: what it says of the body's end and of the connection's.

use bytes::{Buf as _, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::http1::{Chunks, Framing, HEAD_LIMIT, Persistence, fields, number, read};

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
    // A copy: values that are kept for long would keep all else that was read with them.
    let text = read::shelve(&bytes[..length]).freeze();
    let mut said = Said { is_http_11: parsed.version == Some(1), ..Said::default() };
    let wrong = "a header field of its response is not one";
    let note = |name: &HeaderName, value: &HeaderValue| said.note(name, value);
    let headers = fields::collect(parsed.headers, bytes, &text, wrong, note)?;
    let response = response(parsed.code, &text, headers)?;
    let body = said.framing(method, response.status())?;
    let is_persistent = !matches!(body, Framing::Open) && said.connection.is_kept(said.is_http_11);
    bytes.advance(length);
    Ok(Some(Head { response, body, is_persistent }))
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
    let line = text.get(..memchr::memchr(b'\n', text).unwrap_or(text.len())).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Behind `HTTP/1.1 200 `.
    line.get(13..).unwrap_or_default()
}

/// What a head says of the end of the body and of the connection.
#[derive(Debug, Default)]
struct Said {
    is_http_11: bool,
    length: Option<u64>,
    is_chunked: bool,
    connection: Persistence,
}

impl Said {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
        if *name == CONTENT_LENGTH {
            let length = number(value.as_bytes()).ok_or("its Content-Length is not a number")?;
            if self.length.replace(length).is_some() {
                return Err("it sent more than one Content-Length");
            }
        } else if *name == TRANSFER_ENCODING {
            let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !is_chunked || self.is_chunked || !self.is_http_11 {
                return Err("it sent a Transfer-Encoding that it was not asked for");
            }
            self.is_chunked = true;
        } else if *name == CONNECTION {
            self.connection.note(value);
        }
        Ok(())
    }

    /// Where the body ends (RFC 9112 §6.3), if that is said in one way only.
    fn framing(&self, method: &Method, status: StatusCode) -> Result<Framing, &'static str> {
        let has_none = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err("it sent both Content-Length and Transfer-Encoding"),
            _ if has_none => Ok(Framing::DONE),
            (true, None) => Ok(Framing::Chunked(Chunks::padded())),
            (false, Some(length)) => Ok(Framing::Sized(length)),
            (false, None) => Ok(Framing::Open),
        }
    }
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
