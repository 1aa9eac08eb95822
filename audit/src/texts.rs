//! The JSON of many records, alone and together with the same JSON inside a string, as a chain's
//! lines have both.
//!
//! Most of a record is as in the one before it: there it is copied, and neither made nor escaped
//! again.

use std::ops::Range;

use crate::Record;
use crate::json::{Escapes, PARTS, Parts, Value, has_any, put_parts};

/// Room is made for a multiple of so many bytes: drains of about as much take the same.
const STEP: usize = 256 << 10;

/// The texts of records, one behind the other: what a record has in common with the one before it,
/// which is most of it, is copied from there.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) bytes: Vec<u8>,
    /// Where the parts of the last one begin, and where it ends.
    places: [usize; PARTS + 1],
    /// Parts of it that follow each other and are yet to be copied.
    copied: Range<usize>,
}

impl Texts {
    /// None yet, which are to be put into `bytes`.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Makes room for `rest` records more, if `done` have the length that there is, but not for much
    /// more than `most` bytes: all at once, since what grows step by step is memory that is new to
    /// the process each time. Says whether there is so much memory.
    pub(crate) fn reserve_for(&mut self, done: u64, rest: u64, most: usize) -> bool {
        let whole = self.bytes.len() + self.expected_for(done, rest).min(most);
        let whole = whole.next_multiple_of(STEP) + STEP;
        self.bytes.try_reserve_exact(whole - self.bytes.len()).is_ok()
    }

    /// How many bytes `records` are likely to have, if `done` have the length that there is.
    pub(crate) fn expected_for(&self, done: u64, records: u64) -> usize {
        let expected = (self.bytes.len() as u64).saturating_mul(records) / done.max(1);
        // A little more, since numbers get longer.
        let more = if records > done { expected / 16 } else { 0 };
        usize::try_from(expected.saturating_add(more)).unwrap_or(usize::MAX)
    }

    /// Appends the records as JSON Lines.
    pub(crate) fn put_lines(&mut self, records: &[Record]) {
        let mut before = None;
        for record in records {
            put_parts(record, before.replace(record), self);
            self.bytes.push(b'\n');
        }
    }

    /// Notes where the part `at` begins, and returns where it is in the record before.
    fn place(&mut self, at: usize) -> Range<usize> {
        let here = self.bytes.len() + self.copied.len();
        let end = self.places.get(at + 1).copied().unwrap_or_default();
        let Some(place) = self.places.get_mut(at) else { return 0..0 };
        std::mem::replace(place, here)..end
    }

    fn copy(&mut self) {
        self.bytes.extend_from_within(std::mem::take(&mut self.copied));
    }
}

impl Parts for Texts {
    fn repeat(&mut self, at: usize) {
        let place = self.place(at);
        if self.copied.is_empty() {
            self.copied.start = place.start;
        }
        self.copied.end = place.end;
    }

    fn begin(&mut self, at: usize) {
        self.place(at);
        self.copy();
    }

    #[inline]
    fn field<V: Value>(&mut self, plain: &'static str, _quoted: &'static str, value: &V) {
        self.bytes.extend_from_slice(plain.as_bytes());
        value.put(&mut self.bytes);
    }

    fn end(&mut self) {
        self.begin(PARTS);
        self.bytes.push(b'}');
    }
}

/// The same texts twice, as they are and as they are inside a string; without the keys of what does
/// not apply, as events of the kind `network` are in other logs too.
#[derive(Debug, Default)]
pub(crate) struct Quoted {
    pub(crate) plain: Texts,
    pub(crate) quoted: Texts,
}

impl Quoted {
    /// Forgets all of them, and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.plain.bytes.clear();
        self.quoted.bytes.clear();
    }
}

impl Parts for Quoted {
    fn repeat(&mut self, at: usize) {
        self.plain.repeat(at);
        self.quoted.repeat(at);
    }

    fn begin(&mut self, at: usize) {
        self.plain.begin(at);
        self.quoted.begin(at);
    }

    #[inline]
    fn field<V: Value>(&mut self, plain: &'static str, quoted: &'static str, value: &V) {
        if value.is_none() {
            return;
        }
        self.plain.bytes.extend_from_slice(plain.as_bytes());
        self.quoted.bytes.extend_from_slice(quoted.as_bytes());
        let begin = self.plain.bytes.len();
        value.put(&mut self.plain.bytes);
        let text = self.plain.bytes.get(begin..).unwrap_or_default();
        put_inside(V::ESCAPES, text, &mut self.quoted.bytes);
    }

    fn end(&mut self) {
        self.plain.end();
        self.quoted.end();
    }
}

/// Writes a value's JSON as it is inside a string: there are no other characters to escape than these.
#[inline]
fn put_inside(escapes: Escapes, text: &[u8], out: &mut Vec<u8>) {
    let is_special = |byte| byte == b'"' || byte == b'\\';
    match text {
        _ if escapes == Escapes::None => out.extend_from_slice(text),
        [b'"', inner @ .., b'"'] if escapes == Escapes::Quotes || !has_any(inner, is_special) => {
            out.extend_from_slice(br#"\""#);
            out.extend_from_slice(inner);
            out.extend_from_slice(br#"\""#);
        }
        _ => {
            for byte in text {
                if is_special(*byte) {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
        }
    }
}
