//! A request read from bytes alone, for the fuzz target and for the comparison with the library.

use bytes::BytesMut;
use http::{HeaderMap, Method, Uri, Version};

use super::head;
use crate::error::Malformed;
use crate::http1::Part;

/// A whole request.
#[cfg_attr(not(feature = "fuzzing"), expect(unreachable_pub, reason = "seen by fuzz targets"))]
#[derive(Debug, PartialEq, Eq)]
pub struct WholeRequest {
    /// How many bytes it has, head and framing included.
    pub length: usize,
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its version.
    pub version: Version,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body without framing.
    pub body: Vec<u8>,
    /// The trailer fields, if there are any.
    pub trailers: Option<HeaderMap>,
}

/// Reads the request at the start of `bytes`, which come in pieces of `size`; `None` if it is not
/// whole.
pub(crate) fn read(bytes: &[u8], size: usize) -> Result<Option<WholeRequest>, Malformed> {
    let mut pieces = bytes.chunks(size.max(1));
    let mut came = BytesMut::new();
    let mut head = loop {
        if let Some(head) = head::parse(&mut came)? {
            break head;
        }
        let Some(piece) = pieces.next() else { return Ok(None) };
        came.extend_from_slice(piece);
    };
    let (mut body, mut trailers) = (Vec::new(), None);
    while !head.body.is_done() {
        match head.body.next(&mut came)? {
            Some(Part::Data(data)) => body.extend_from_slice(&data),
            Some(Part::End(fields)) => trailers = fields,
            None => match pieces.next() {
                Some(piece) => came.extend_from_slice(piece),
                None => return Ok(None),
            },
        }
    }
    let left = came.len() + pieces.map(<[u8]>::len).sum::<usize>();
    let (parts, ()) = head.request.into_parts();
    Ok(Some(WholeRequest {
        length: bytes.len() - left,
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        fields: parts.headers,
        body,
        trailers,
    }))
}
