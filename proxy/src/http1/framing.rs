//! Where the body of a message ends (RFC 9112 §6.3).

use bytes::BytesMut;

use super::{Chunks, Part, Wrong};

/// How much of a body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Sized(u64),
    Chunked(Chunks),
    /// All until the connection closes.
    Open,
}

impl Framing {
    /// No body, or nothing more of it.
    pub(crate) const DONE: Self = Self::Sized(0);

    /// Whether nothing more comes.
    pub(crate) fn is_done(&self) -> bool {
        *self == Self::DONE
    }

    /// How many bytes of content are still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Sized(left) => Some(*left),
            Self::Chunked(_) | Self::Open => None,
        }
    }

    /// Takes what is there of the body off the start of `came`.
    ///
    /// # Errors
    /// Why it is not in the coding that was announced.
    pub(crate) fn next(&mut self, came: &mut BytesMut) -> Result<Option<Part>, Wrong> {
        if came.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Chunked(chunks) => {
                let part = chunks.next(came)?;
                if matches!(part, Some(Part::End(_))) {
                    *self = Self::DONE;
                }
                Ok(part)
            }
            Self::Open => Ok(Some(Part::Data(came.split().freeze()))),
            Self::Sized(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(came.len());
                *left -= taken as u64;
                Ok(Some(Part::Data(came.split_to(taken).freeze())))
            }
        }
    }
}

/// The value of a `Content-Length`.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    // Digits alone: `+5` is a number to some parsers. And none that is negative to some.
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: i64 = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    number.try_into().ok()
}
