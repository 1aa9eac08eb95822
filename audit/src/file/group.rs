//! The lines of records, made for several at once: a processor hashes many texts, one beside the
//! other, in little more than the time of two.

use std::io;

use crate::Record;
use crate::canonical::{ascii, is_printable};
use crate::chain::Chain;
use crate::hash::{Hash, domain};
use crate::json::put_parts;
use crate::texts::Quoted;

/// So many lines are made together: as many as the widest of today's processors hash beside each other.
pub(super) const GROUP: usize = 32;

/// What an event of a record begins with, and the same inside a string.
const NETWORK: &[u8] = br#"{"type":"network","event":"#;
const NETWORK_QUOTED: &[u8] = br#""{\"type\":\"network\",\"event\":"#;

/// The texts of the events of some records. Its room is used again with each group.
#[derive(Debug, Default)]
pub(super) struct Group {
    texts: Quoted,
    /// Where each one ends, as it is and inside a string.
    ends: Vec<(usize, usize)>,
}

impl Group {
    /// Appends the lines of `records`.
    pub(super) fn put_lines(
        &mut self,
        records: &[Record],
        chain: &mut Chain,
        lines: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.texts.clear();
        self.ends.clear();
        let mut before = None;
        for record in records {
            let is_as_made = self.add(record, before)?;
            before = is_as_made.then_some(record);
        }
        let (plain, quoted): (Vec<_>, Vec<_>) = self.each().unzip();
        let leaves = Hash::of_each(domain::EVENT, &plain);
        for ((plain, quoted), leaf) in plain.into_iter().zip(quoted).zip(leaves) {
            chain.put(leaf, plain, quoted, lines);
        }
        Ok(())
    }

    /// Each text, as it is and inside a string.
    fn each(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(&(0, 0)).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| {
            let plain = self.texts.plain.bytes.get(begin.0..end.0).unwrap_or_default();
            (plain, self.texts.quoted.bytes.get(begin.1..end.1).unwrap_or_default())
        })
    }

    /// Makes the text of a record behind that of the record `before`. Says whether it is as it was
    /// made, so that the next one can be made from it.
    fn add(&mut self, record: &Record, before: Option<&Record>) -> io::Result<bool> {
        let Quoted { plain, quoted } = &mut self.texts;
        let (plain_at, quoted_at) = (plain.bytes.len(), quoted.bytes.len());
        plain.bytes.extend_from_slice(NETWORK);
        quoted.bytes.extend_from_slice(NETWORK_QUOTED);
        put_parts(record, before, &mut self.texts);
        let Quoted { plain, quoted } = &mut self.texts;
        plain.bytes.push(b'}');
        quoted.bytes.extend_from_slice(br#"}""#);
        let text = plain.bytes.get(plain_at..).unwrap_or_default();
        let is_as_made = is_printable(text);
        if !is_as_made {
            let text = ascii(str::from_utf8(text).map_err(io::Error::other)?).into_owned();
            plain.bytes.truncate(plain_at);
            plain.bytes.extend_from_slice(text.as_bytes());
            quoted.bytes.truncate(quoted_at);
            serde_json::to_writer(&mut quoted.bytes, &text)?;
        }
        self.ends.push((plain.bytes.len(), quoted.bytes.len()));
        Ok(is_as_made)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{GROUP, Group};
    use crate::chain::Chain;
    use crate::redact::path_and_query;
    use crate::{Mode, Record, RecordId, Session};

    fn record(number: u64, path: &str) -> Record {
        let id = RecordId { session: Session(7), number };
        let path = Some(path_and_query(path, "", &[""; 0]));
        Record { sequence: number, path, ..Record::new(id, 1_700_000_000_000, Mode::Reverse) }
    }

    /// The lines of `records`, made by groups of so many.
    fn lines(records: &[Record], together: usize) -> String {
        let (mut group, mut chain, mut lines) = (Group::default(), Chain::default(), Vec::new());
        for records in records.chunks(together) {
            group.put_lines(records, &mut chain, &mut lines).unwrap();
        }
        String::from_utf8(lines).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lines_that_are_made_together_are_those_of_each_alone(
            paths in prop::collection::vec("[ -~]{0,40}|.{0,40}|[a-z]{0,40}|(/[a-z]{9}){90}", 0..80),
        ) {
            let numbered = (0..).zip(&paths);
            let records: Vec<_> = numbered.map(|(number, path)| record(number, path)).collect();
            let together = lines(&records, GROUP);
            prop_assert_eq!(&together, &lines(&records, 1));
            // By the hashes of another library.
            let mut chain = Chain::default();
            for line in together.lines() {
                chain.follow(line).unwrap();
            }
            prop_assert_eq!(chain.lines, paths.len() as u64);
        }
    }
}
