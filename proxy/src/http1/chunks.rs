//! The chunked coding (RFC 9112 §7.1), taken apart.

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The longest chunk-size line, extensions included.
const LINE_LIMIT: usize = 256;

/// The most extensions in a whole body, in bytes: nobody reads them, so they are not needed.
const EXTENSION_LIMIT: usize = 16 * 1024;

/// The trailer section is shorter than this, and has at most so many fields.
const TRAILER_LIMIT: usize = 8 * 1024;
const FIELD_LIMIT: usize = 64;

/// A chunked body being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    at: Place,
    /// Whether blanks behind a size are passed over.
    allows_padding: bool,
    /// How many bytes of extensions came so far.
    extensions: usize,
}

/// The place in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At a line that gives a chunk's size.
    Size,
    /// In a chunk, so many bytes before its end.
    Data { left: u64 },
    /// At the line ending behind a chunk.
    Ending,
    /// At the trailer section.
    Trailers,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    Data(Bytes),
    /// The end, with the trailers if there are any.
    End(Option<HeaderMap>),
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Size,
    LongSize,
    Extensions,
    End,
    Trailers,
    LongTrailers,
}

impl Wrong {
    /// The same in words.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Size => "the size of a chunk is not a number",
            Self::LongSize => "the line of a chunk's size is too long",
            Self::Extensions => "the extensions of a chunk are wrong or too long",
            Self::End => "a chunk does not end where it should",
            Self::Trailers => "its trailers are not header fields",
            Self::LongTrailers => "its trailers are too long",
        }
    }
}

impl Chunks {
    /// The beginning of a request's body, of which there must be no two views.
    pub(crate) const fn strict() -> Self {
        Self { at: Place::Size, allows_padding: false, extensions: 0 }
    }

    /// The beginning of a response's body: some servers fill a size up with blanks.
    pub(crate) const fn padded() -> Self {
        Self { allows_padding: true, ..Self::strict() }
    }

    /// Takes the next part off the start of `bytes`; `None` if more bytes are needed for one.
    ///
    /// # Errors
    /// Why it is not in the chunked coding.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Part>, Wrong> {
        loop {
            match &mut self.at {
                Place::Size => {
                    let Some(line) = take_line(bytes)? else { return Ok(None) };
                    self.at = match self.size(&line)? {
                        0 => Place::Trailers,
                        left => Place::Data { left },
                    };
                }
                Place::Data { .. } if bytes.is_empty() => return Ok(None),
                Place::Data { left } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.at = Place::Ending;
                    }
                    return Ok(Some(Part::Data(bytes.split_to(taken).freeze())));
                }
                Place::Ending => match bytes.get(..2) {
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        self.at = Place::Size;
                    }
                    None if b"\r".starts_with(bytes) => return Ok(None),
                    _ => return Err(Wrong::End),
                },
                Place::Trailers => return Ok(trailers(bytes)?.map(Part::End)),
            }
        }
    }

    /// The size in a chunk's line: hexadecimal digits, then nothing or extensions.
    fn size(&mut self, line: &[u8]) -> Result<u64, Wrong> {
        let line = line.strip_suffix(b"\r\n").ok_or(Wrong::Size)?;
        let end = memchr::memchr(b';', line).unwrap_or(line.len());
        let (mut digits, extensions) = line.split_at(end);
        self.extensions += extensions.len();
        // Some take a CR alone for the end of a line.
        if extensions.contains(&b'\r') || self.extensions > EXTENSION_LIMIT {
            return Err(Wrong::Extensions);
        }
        while let [rest @ .., b' ' | b'\t'] = digits
            && self.allows_padding
        {
            digits = rest;
        }
        if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Wrong::Size);
        }
        let digits = std::str::from_utf8(digits).map_err(|_| Wrong::Size)?;
        u64::from_str_radix(digits, 16).map_err(|_| Wrong::Size)
    }
}

/// Takes a line with its ending off the start of `bytes`.
fn take_line(bytes: &mut BytesMut) -> Result<Option<BytesMut>, Wrong> {
    match memchr::memchr(b'\n', bytes) {
        Some(at) if at < LINE_LIMIT => Ok(Some(bytes.split_to(at + 1))),
        None if bytes.len() < LINE_LIMIT => Ok(None),
        _ => Err(Wrong::LongSize),
    }
}

/// Takes the trailer section, which ends with an empty line, off the start of `bytes`.
#[expect(clippy::option_option, reason = "whether it is whole, and whether it holds anything")]
fn trailers(bytes: &mut BytesMut) -> Result<Option<Option<HeaderMap>>, Wrong> {
    let wrong = Wrong::Trailers;
    if bytes.starts_with(b"\r\n") {
        bytes.advance(2);
        return Ok(Some(None));
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELD_LIMIT];
    let (length, fields) = match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(parsed)) if parsed.0 < TRAILER_LIMIT => parsed,
        Ok(httparse::Status::Partial) if bytes.len() < TRAILER_LIMIT => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Wrong::LongTrailers),
        Err(_) => return Err(wrong),
    };
    // The parser takes LF alone for the end of a line; of a body's end there must be no two views.
    let section = bytes.get(..length).unwrap_or_default();
    if !section.split_inclusive(|byte| *byte == b'\n').all(|line| line.ends_with(b"\r\n")) {
        return Err(wrong);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| wrong)?);
    }
    bytes.advance(length);
    Ok(Some(Some(trailers)))
}

#[cfg(test)]
#[path = "chunks/tests.rs"]
mod tests;
