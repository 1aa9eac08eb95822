//! Takes an injected secret out of what an upstream sends back, wherever it echoes it.
//!
//! Every occurrence is overwritten with asterisks of the same length, so that a Content-Length
//! stays true. A secret may be cut by the end of a chunk, so the end of each chunk is held back
//! until the next: as much as a secret is long, but not beyond the last line ending or other
//! control character, which no secret holds. So an event, which ends in line endings, is never
//! delayed. What is held back must not depend on whether it looks like the secret: a client that
//! can make its upstream echo guesses would read the secret from the delays.
//!
//! An upstream that waits for an answer to what it has sent would wait for ever, so what is held
//! goes on when nothing has come for [`HELD`].
//!
//! Not seen is what the upstream compresses or otherwise transforms, sends in parts (`Range`), or
//! interrupts for that long; a secret, or the password in Basic credentials, of less than eight
//! bytes; and any part of one.

use std::fmt;
use std::iter;
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use hyper::ext::ReasonPhrase;
use memchr::memmem;
use nono_credentials::{Credential, Loaded};

use crate::idle::Idle;

const MASK: u8 = b'*';

/// For how long an end is held back at least; at most twice that. Longer than one write of an upstream
/// is interrupted for on its way, by a round trip or a lost segment: a secret must not come in two
/// parts between which it is released.
pub(crate) const HELD: Duration = Duration::from_secs(1);

/// From this length on the beginning of a secret tells something of it: what comes before is a
/// letter, or the `sk-` of all keys of a provider.
const TELLING: usize = 4;

/// From this length on a text is searched by a prepared search.
const WORTH_PREPARING: usize = 2 * 1024;

/// The secrets that a response may echo: the one that was sent with its request, however often it
/// has been replaced meanwhile, the one that is in use when the response comes, and those that
/// each had replaced a while before.
#[derive(Clone)]
pub(crate) struct Secrets {
    sent: Arc<Loaded>,
    /// Where it is another.
    current: Option<Arc<Loaded>>,
}

impl Secrets {
    /// Those in a response to a request with `sent`, a value of `credential`.
    pub(crate) fn new(credential: &Credential, sent: &Arc<Loaded>) -> Self {
        let current = credential.current();
        let other = current.as_ref().filter(|current| !Arc::ptr_eq(current, sent));
        Self { sent: Arc::clone(sent), current: other.cloned() }
    }

    fn needles(&self) -> impl Iterator<Item = &[u8]> {
        self.sent.needles().chain(self.current.iter().flat_map(|current| current.needles()))
    }

    fn longest_needle(&self) -> usize {
        let of_current = self.current.as_ref().map_or(0, |current| current.longest_needle());
        self.sent.longest_needle().max(of_current)
    }
}

/// Takes secrets out of one body and its trailers.
pub(crate) struct Scrubber {
    secrets: Secrets,
    /// The end of what came so far, as it came: what is masked of it may begin a longer secret, or
    /// the same one once more.
    held: BytesMut,
    /// What of that is to be masked.
    found: Vec<Range<usize>>,
    /// How much is held back at most; 0 where only trailers are looked at.
    reach: usize,
    /// Runs while something is held.
    rest: Idle,
}

impl Scrubber {
    /// A scrubber for the body of a response with these headers, and for its trailers; for those
    /// alone where the body `is_left` as it is, or nothing could be seen in it.
    pub(crate) fn new(secrets: Secrets, headers: &HeaderMap, is_left: bool) -> Self {
        let is_plain = headers
            .get(CONTENT_ENCODING)
            .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        // Rounded, so that the delay does not tell the length either.
        let longest = secrets.longest_needle().next_multiple_of(64);
        let reach = if is_plain && !is_left { longest } else { 0 };
        Self { secrets, held: BytesMut::new(), found: Vec::new(), reach, rest: Idle::new(HELD) }
    }

    /// Takes the next chunk and returns what of it, and of what was held, can go on.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.reach == 0 {
            return chunk;
        }
        self.rest.progress();
        let (mut whole, found) = self.joined(chunk);
        let tail = &whole[whole.len().saturating_sub(self.reach)..];
        let line_end = tail.iter().rposition(u8::is_ascii_control);
        let kept = tail.len() - line_end.map_or(0, |at| at + 1);
        let cut = whole.len() - kept;
        self.held.extend_from_slice(&whole.split_off(cut));
        let of_held = found.iter().filter(|span| span.end > cut);
        self.found = of_held.map(|span| span.start.saturating_sub(cut)..span.end - cut).collect();
        overwritten(whole, &found)
    }

    /// Takes the last chunk and returns it with what was held.
    pub(crate) fn last(&mut self, chunk: Bytes) -> Bytes {
        if self.reach == 0 {
            return chunk;
        }
        let (whole, found) = self.joined(chunk);
        overwritten(whole, &found)
    }

    /// What was held with `chunk` behind it, and what of that is to be masked.
    fn joined(&mut self, chunk: Bytes) -> (Bytes, Vec<Range<usize>>) {
        let whole = if self.held.is_empty() {
            chunk
        } else {
            let mut joined = self.held.split();
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        // What had begun before what was held is found no more.
        let mut found = take(&mut self.found);
        found.extend(spans(&whole, &self.secrets));
        (whole, found)
    }

    /// Takes the secrets out of trailers.
    pub(crate) fn trailers(&self, trailers: &mut HeaderMap) {
        headers(&self.secrets, trailers);
    }

    /// Whether something is held back.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Ready with what is held, if any, when nothing has come for long enough.
    pub(crate) fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if !self.is_holding() {
            return Poll::Pending;
        }
        self.rest.poll(cx).map(|()| self.finish())
    }

    /// Where the body failed, what was held back, but for what may be the beginning of a secret: no
    /// other part of the body follows that could tell.
    pub(crate) fn cut(&mut self) -> Bytes {
        let begun = |needle: &[u8]| {
            let most = self.held.len().min(needle.len() - 1);
            let is_end = |length: &usize| self.held.ends_with(&needle[..*length]);
            (TELLING..=most).rev().find(is_end).unwrap_or(0)
        };
        let begun = self.secrets.needles().map(begun).max().unwrap_or(0);
        let mut held = self.finish();
        held.truncate(held.len() - begun);
        held
    }

    /// At the end of the body, what was held back: no secret after all.
    pub(crate) fn finish(&mut self) -> Bytes {
        overwritten(self.held.split().freeze(), &take(&mut self.found))
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Takes secrets out of header or trailer values, and drops a field that has one in its name. Most
/// have none anywhere, and are only looked through.
pub(crate) fn headers(secrets: &Secrets, headers: &mut HeaderMap) {
    let (mut is_named, mut is_held) = (false, false);
    for needle in secrets.needles() {
        for (name, value) in headers.iter() {
            is_named |= is_in_name(name, needle);
            is_held |= find(value.as_bytes(), needle).is_some();
        }
    }
    if is_held {
        mask_values(secrets, headers);
    }
    if is_named {
        drop_named(secrets, headers);
    }
}

/// Takes secrets out of values.
fn mask_values(secrets: &Secrets, headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if secrets.needles().any(|needle| find(value.as_bytes(), needle).is_some()) {
            let masked = mask(Bytes::copy_from_slice(value.as_bytes()), secrets);
            // Asterisks are allowed in every value, so this does not fail.
            *value = HeaderValue::from_maybe_shared(masked)
                .unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}

/// Drops the fields that have a secret in their names.
fn drop_named(secrets: &Secrets, headers: &mut HeaderMap) {
    let has_secret = |name: &&HeaderName| secrets.needles().any(|needle| is_in_name(name, needle));
    while let Some(name) = headers.keys().find(has_secret).cloned() {
        headers.remove(name);
    }
}

/// Drops a reason phrase that holds a secret; nothing depends on it.
pub(crate) fn reason<B>(secrets: &Secrets, response: &mut Response<B>) {
    let Some(phrase) = response.extensions().get::<ReasonPhrase>() else { return };
    if secrets.needles().any(|needle| find(phrase.as_bytes(), needle).is_some()) {
        response.extensions_mut().remove::<ReasonPhrase>();
    }
}

/// Whether `needle` is in the name of a field, which comes in small letters. Most names are shorter.
fn is_in_name(name: &HeaderName, needle: &[u8]) -> bool {
    let name = name.as_str().as_bytes();
    name.len() >= needle.len()
        && name.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle))
}

/// Where `needle` is in `text`. To prepare a search takes longer than to search what is short.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    if text.len() >= WORTH_PREPARING {
        return memmem::find(text, needle);
    }
    let last = text.len().checked_sub(needle.len())?;
    let first = needle.first()?;
    memchr::memchr_iter(*first, &text[..=last]).find(|at| text[*at..].starts_with(needle))
}

/// Overwrites every occurrence of a secret; copies only if there is one.
pub(crate) fn mask(text: Bytes, secrets: &Secrets) -> Bytes {
    let found: Vec<_> = spans(&text, secrets).collect();
    overwritten(text, &found)
}

/// Where secrets are in `text`: all that are, since one may begin another, or itself again.
fn spans(text: &[u8], secrets: &Secrets) -> impl Iterator<Item = Range<usize>> {
    secrets.needles().flat_map(move |needle| occurrences(text, needle))
}

/// Overwrites what was `found`, as far as `text` goes; copies only if there is anything.
fn overwritten(text: Bytes, found: &[Range<usize>]) -> Bytes {
    if found.is_empty() {
        return text;
    }
    let mut masked = BytesMut::from(&*text);
    for span in found {
        let end = span.end.min(masked.len());
        masked[span.start.min(end)..end].fill(MASK);
    }
    masked.freeze()
}

/// Where `needle` is in `text`, also where it overlaps with itself.
fn occurrences(text: &[u8], needle: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let next = move |from: usize| find(&text[from..], needle).map(|at| from + at);
    iter::successors(next(0), move |at| next(at + 1)).map(move |at| at..at + needle.len())
}

#[cfg(test)]
#[path = "scrub/tests.rs"]
mod tests;
