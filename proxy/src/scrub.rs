//! Takes an injected secret out of what an upstream sends back, wherever it echoes it.
//!
//! Every occurrence is overwritten with asterisks of the same length, so that a Content-Length
//! stays true. Of a chunk only the bytes that may be the beginning of a secret are held back,
//! normally none, so events are not delayed. What is compressed or otherwise transformed is not
//! seen.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use memchr::memmem;
use nono_credentials::Loaded;

use crate::route::Route;

const MASK: u8 = b'*';

/// Takes the secrets of one route out of one body.
pub(crate) struct Scrubber {
    route: Arc<Route>,
    /// The end of what came so far that may be the beginning of a secret.
    held: BytesMut,
}

impl Scrubber {
    /// A scrubber for the body of a response of `route` with these headers, if there is
    /// anything to look for and it could be seen.
    pub(crate) fn new(route: &Arc<Route>, headers: &HeaderMap) -> Option<Self> {
        let is_plain = headers
            .get(CONTENT_ENCODING)
            .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let has_secrets = needles(route).next().is_some();
        (is_plain && has_secrets).then(|| Self { route: Arc::clone(route), held: BytesMut::new() })
    }

    /// Takes the next chunk and returns what of it, and of what was held, can go on.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Bytes {
        let mut whole = if self.held.is_empty() {
            chunk
        } else {
            let mut joined = self.held.split();
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        for needle in needles(&self.route) {
            whole = mask(whole, needle);
        }
        let kept = needles(&self.route).map(|needle| overlap(&whole, needle)).max().unwrap_or(0);
        self.held.extend_from_slice(&whole.split_off(whole.len() - kept));
        whole
    }

    /// Takes the secrets out of trailers.
    pub(crate) fn trailers(&self, trailers: &mut HeaderMap) {
        headers(&self.route, trailers);
    }

    /// Whether something is held back.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// At the end of the body, what was held back: no secret after all.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Takes the secrets of `route` out of header or trailer values.
pub(crate) fn headers(route: &Route, headers: &mut HeaderMap) {
    for needle in needles(route) {
        for value in headers.values_mut() {
            if memmem::find(value.as_bytes(), needle).is_some() {
                let masked = mask(Bytes::copy_from_slice(value.as_bytes()), needle);
                // Asterisks are allowed in every value, so this does not fail.
                *value = HeaderValue::from_maybe_shared(masked)
                    .unwrap_or_else(|_| HeaderValue::from_static(""));
            }
        }
    }
}

fn needles(route: &Route) -> impl Iterator<Item = &[u8]> {
    let loaded = route.credential.as_ref().and_then(|credential| credential.ready());
    loaded.into_iter().flat_map(Loaded::needles)
}

/// Overwrites every occurrence of `needle`; copies only if there is one.
fn mask(text: Bytes, needle: &[u8]) -> Bytes {
    let Some(first) = memmem::find(&text, needle) else { return text };
    let mut masked = BytesMut::from(&*text);
    let mut at = Some(first);
    while let Some(begin) = at {
        let end = begin + needle.len();
        masked[begin..end].fill(MASK);
        at = memmem::find(&text[end..], needle).map(|next| end + next);
    }
    masked.freeze()
}

/// The length of the longest end of `text` that is a beginning of `needle`, but not all of it.
fn overlap(text: &[u8], needle: &[u8]) -> usize {
    let longest = text.len().min(needle.len().saturating_sub(1));
    let tail = &text[text.len() - longest..];
    let starts = needle.first().map(|first| memchr::memchr_iter(*first, tail));
    let fits = |at: &usize| needle.starts_with(&tail[*at..]);
    starts.and_then(|mut starts| starts.find(fits)).map_or(0, |at| tail.len() - at)
}

#[cfg(test)]
#[path = "scrub/tests.rs"]
mod tests;
