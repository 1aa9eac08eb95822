//! The JSON of records together with the same JSON inside a string, as a chain's lines have both.
//!
//! Most of a record is as in the one before it: there it is copied, and neither made nor escaped
//! again.

use crate::json::{PARTS, Parts};

/// The texts of records, one behind the other: what a record has in common with the one before it,
/// which is most of it, is copied from there.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) bytes: Vec<u8>,
    /// Where the parts of the last one are.
    places: [(usize, usize); PARTS],
}

impl Texts {
    /// The text of a part of the last record.
    fn last(&self, at: usize) -> &[u8] {
        let (begin, end) = self.places.get(at).copied().unwrap_or_default();
        self.bytes.get(begin..end).unwrap_or_default()
    }
}

impl Parts for Texts {
    fn part(&mut self, at: usize, is_known: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(place) = self.places.get_mut(at) else { return };
        let begin = self.bytes.len();
        if is_known {
            self.bytes.extend_from_within(place.0..place.1);
        } else {
            write(&mut self.bytes);
        }
        *place = (begin, self.bytes.len());
    }
}

/// The same texts twice: as they are, and as they are inside a string.
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
    fn part(&mut self, at: usize, is_known: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let Self { plain, quoted } = self;
        plain.part(at, is_known, write);
        quoted.part(at, is_known, |out| put_escaped(plain.last(at), out));
    }
}

/// Writes JSON as it is inside a string: it has no other characters to escape than these.
fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    for run in text.split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
        match run.split_last() {
            Some((last @ (b'"' | b'\\'), before)) => {
                out.extend_from_slice(before);
                out.extend_from_slice(&[b'\\', *last]);
            }
            _ => out.extend_from_slice(run),
        }
    }
}
