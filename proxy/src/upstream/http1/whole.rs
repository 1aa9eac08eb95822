//! A response read from bytes alone, for the fuzz target.

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode};

use super::head;
use crate::http1::{Framing, Part, Wrong};

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many bytes it has, head and framing included.
    pub length: usize,
    /// Its status; that of an interim response too.
    pub status: u16,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body without framing.
    pub body: Vec<u8>,
    /// The trailer fields, if there are any.
    pub trailers: Option<HeaderMap>,
}

/// Reads the response at the start of `bytes`, which come in pieces of `size` and then end;
/// `None` if it is not whole.
pub(crate) fn read(
    bytes: &[u8],
    size: usize,
    method: &Method,
) -> Result<Option<Whole>, &'static str> {
    let mut pieces = bytes.chunks(size.max(1));
    let mut came = BytesMut::new();
    let mut head = loop {
        if let Some(head) = head::parse(&mut came, method)? {
            break head;
        }
        let Some(piece) = pieces.next() else { return Ok(None) };
        came.extend_from_slice(piece);
    };
    let (mut body, mut trailers, mut is_ended) = (Vec::new(), None, false);
    while !is_ended && !head.body.is_done() {
        match head.body.next(&mut came).map_err(Wrong::reason)? {
            Some(Part::Data(data)) => body.extend_from_slice(&data),
            Some(Part::End(fields)) => (trailers, is_ended) = (fields, true),
            None => match (pieces.next(), &head.body) {
                (Some(piece), _) => came.extend_from_slice(piece),
                (None, Framing::Open) => is_ended = true,
                (None, Framing::Sized(_) | Framing::Chunked(_)) => return Ok(None),
            },
        }
    }
    let left = came.len() + pieces.map(<[u8]>::len).sum::<usize>();
    let (status, fields) = (head.response.status(), head.response.headers().clone());
    let status = StatusCode::as_u16(&status);
    Ok(Some(Whole { length: bytes.len() - left, status, fields, body, trailers }))
}
