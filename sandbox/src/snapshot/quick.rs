//! Reading the text of a manifest as [`text`](super::text) writes it: on all processors, line by
//! line. Whatever is not of that form is left to the JSON parser, and means the same to both.

use std::path::Path;
use std::sync::Arc;

use memchr::{memchr, memchr2, memmem};
use rayon::prelude::*;

use super::hash::ContentHash;
use super::key::Key;
use super::record::{EntryRecord, Lines, Owner, Record};
use super::seal::Body;
use super::text::PIECE;
use super::tree::{Attributes, Entry, Identity, Kind, Mtime, Node};

/// What stands after the lines of the files.
const AFTER_FILES: &[u8] = b"\n  },\n";

/// The record in a `text` with the body `body`, but for its files, and these. `None` if the text
/// is not of the form.
pub(super) fn read(text: &[u8], body: &Body) -> Option<(Record, Vec<Arc<Node>>)> {
    let (head, body) = text.split_at_checked(body.begin)?;
    let lines = body.strip_prefix(b"{\n")?;
    let (lines, after) = lines.split_at_checked(memmem::rfind(lines, AFTER_FILES)?)?;
    let record: Record = serde_json::from_slice(&[head, b"{", after].concat()).ok()?;
    let owner = record.owner();
    let piece = |piece: &[u8]| {
        let lines = piece.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| node(line, owner)).collect::<Option<Vec<_>>>()
    };
    let pieces: Option<Vec<_>> = pieces(lines).into_par_iter().map(piece).collect();
    Some((record, pieces?.into_iter().flatten().collect()))
}

/// Whole lines, some at a time.
fn pieces(lines: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let least = rest.len().min(PIECE);
        let (_, after) = rest.split_at(least);
        let end = memchr(b'\n', after).map_or(rest.len(), |index| least + index + 1);
        let (piece, others) = rest.split_at(end);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// The file in a line. All end with a comma but the last, which has no end.
fn node(line: &[u8], usual: Owner) -> Option<Arc<Node>> {
    let line = match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b",")?,
        None => line,
    };
    quickly(line, usual).or_else(|| parsed(line, usual)).map(Arc::new)
}

/// The file in a line, if nothing is unusual in that.
pub(super) fn quickly(line: &[u8], usual: Owner) -> Option<Node> {
    Rest(line).node(usual)
}

/// The same by the JSON parser.
pub(super) fn parsed(line: &[u8], usual: Owner) -> Option<Node> {
    let lines: Lines<EntryRecord> = serde_json::from_slice(&[b"{", line, b"}"].concat()).ok()?;
    let [(key, record)] = <[_; 1]>::try_from(lines.0).ok()?;
    record.file(usual).map(|entry| Node { key, entry })
}

/// What is left of a line.
struct Rest<'t>(&'t [u8]);

impl Rest<'_> {
    /// A file without attributes, and all of it written in the usual order.
    fn node(mut self, usual: Owner) -> Option<Node> {
        self.skip(b"    \"")?;
        let key = self.key()?;
        self.skip(b": {\"hash\":\"")?;
        let hash = self.hash()?;
        self.skip(b"\",\"size\":")?;
        let size = self.unsigned()?;
        self.skip(b",\"mtime\":")?;
        let seconds = self.signed()?;
        self.skip(b",\"permissions\":")?;
        let mode = self.small()?;
        let (mut nanos, mut owner, mut group, mut identity) = (None, None, None, None);
        self.field(b",\"mtime_nanos\":", Self::small, &mut nanos)?;
        self.field(b",\"owner\":[", Self::owner, &mut owner)?;
        self.field(b",\"group\":", Self::small, &mut group)?;
        self.field(b",\"identity\":[", Self::identity, &mut identity)?;
        let entry = Entry {
            kind: Kind::File { hash, size, group },
            mode,
            mtime: Mtime { seconds, nanos },
            owner: owner.or(usual),
            attributes: Attributes::new(),
            identity,
        };
        (self.0 == b"}").then_some(Node { key, entry })
    }

    fn skip(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// What may be there, after `name`.
    fn field<T>(
        &mut self,
        name: &[u8],
        read: fn(&mut Self) -> Option<T>,
        value: &mut Option<T>,
    ) -> Option<()> {
        if self.skip(name).is_some() {
            *value = Some(read(self)?);
        }
        Some(())
    }

    /// A path in which nothing is escaped, with the quotation mark after it.
    fn key(&mut self) -> Option<Key> {
        let (text, rest) = self.0.split_at_checked(memchr2(b'"', b'\\', self.0)?)?;
        self.0 = rest.strip_prefix(b"\"")?;
        let is_plain = text.iter().all(|&byte| byte >= b' ');
        let text = str::from_utf8(text).ok().filter(|_| is_plain)?;
        Some(Key::new(Path::new(text)))
    }

    fn hash(&mut self) -> Option<ContentHash> {
        let (digits, rest) = self.0.split_at_checked(64)?;
        self.0 = rest;
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// A number without sign, fraction or needless zero.
    fn unsigned(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let is_plain = length == 1 || (length > 1 && !digits.starts_with(b"0"));
        let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
        is_plain.then_some(0).and_then(|sum| digits.iter().try_fold(sum, add))
    }

    fn signed(&mut self) -> Option<i64> {
        if self.skip(b"-").is_none() {
            return i64::try_from(self.unsigned()?).ok();
        }
        0_i64.checked_sub_unsigned(self.unsigned().filter(|&size| size > 0)?)
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.unsigned()?).ok()
    }

    fn owner(&mut self) -> Option<(u32, u32)> {
        let user = self.small()?;
        self.skip(b",")?;
        let group = self.small()?;
        self.skip(b"]")?;
        Some((user, group))
    }

    fn identity(&mut self) -> Option<Identity> {
        let device = self.unsigned()?;
        self.skip(b",")?;
        let inode = self.unsigned()?;
        self.skip(b",")?;
        let seconds = self.signed()?;
        self.skip(b",")?;
        let nanos = self.small()?;
        self.skip(b",")?;
        let links = self.unsigned()?;
        self.skip(b"]")?;
        let changed = (seconds, nanos);
        Some(Identity { device, inode, changed, links, is_settled: true })
    }
}
