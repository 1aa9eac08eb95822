//! Header fields, read and written.

use std::ops::Deref;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use nono_credentials::SecretBuf;

/// Memory that a head is written to: such as keeps a secret, where a credential is in it.
pub(crate) trait Text: Default + Deref<Target = [u8]> {
    /// Adds `bytes` at the end.
    fn put(&mut self, bytes: &[u8]);
}

impl Text for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Text for SecretBuf {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The `fields` that were parsed from `parsed`, with values that are parts of `text`, which holds
/// the same bytes. `note` sees each of them.
///
/// # Errors
/// That of `note`; or `wrong`, for what is no field.
pub(crate) fn collect<E: Copy>(
    fields: &[httparse::Header<'_>],
    parsed: &[u8],
    text: &Bytes,
    wrong: E,
    mut note: impl FnMut(&HeaderName, &HeaderValue) -> Result<(), E>,
) -> Result<HeaderMap, E> {
    let begin = parsed.as_ptr().addr();
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong)?;
        let at = field.value.as_ptr().addr() - begin;
        let value = text.slice(at..at + field.value.len());
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| wrong)?;
        note(&name, &value)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Writes fields.
pub(crate) fn put<'a>(
    to: &mut impl Text,
    fields: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) {
    for (name, value) in fields {
        to.put(name.as_str().as_bytes());
        to.put(b": ");
        to.put(value.as_bytes());
        to.put(b"\r\n");
    }
}

/// How many bytes `fields` take when they are written.
pub(crate) fn size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
