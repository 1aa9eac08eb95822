//! Reading the text of a manifest as [`text`] writes it: on all processors, line by
//! line. Whatever is not of that form is left to the JSON parser, and means the same to both.

use std::fs::File;
use std::io;

use memchr::{memchr, memchr_iter, memchr2};
use rayon::prelude::*;

use super::entry::EntryRecord;
use super::hash::ContentHash;
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::record::Record;
use super::seal::{Body, Part, Unsealed};
use super::shared::Shared;
use super::text;
use super::tree::{Attributes, Entry, Identity, Kind, Mtime, Node};

/// The line after those of the files.
const AFTER_FILES: &[u8] = b"  },\n";

/// How many lines are read at once, so that little is in memory twice.
const BATCH: usize = 256;

/// No line of a file is as short: the digits of its hash alone are as many.
const SHORTEST: usize = 64;

/// What the lines of a part are.
enum Piece {
    Files {
        nodes: Vec<Node>,
        /// Whether there is a comma after the last of them.
        goes_on: bool,
        /// What follows in the part when they have ended.
        after: Option<Vec<u8>>,
    },
    Other(Vec<u8>),
}

/// The manifest in a text, and its body. `None` if the text is not of the form, or its digest is
/// not right.
pub(super) fn read(file: &File) -> io::Result<Option<(SnapshotManifest, Body)>> {
    Ok(Body::read(file, piece)?.and_then(manifest))
}

fn manifest(read: Unsealed<Option<Piece>>) -> Option<(SnapshotManifest, Body)> {
    let (mut batches, mut rest, mut goes_on) = (Vec::new(), None, None);
    for piece in read.parts {
        match (piece?, &mut rest) {
            (Piece::Files { nodes, goes_on: next, after }, None) => {
                let follows_comma = goes_on.unwrap_or(!nodes.is_empty());
                if follows_comma == nodes.is_empty() {
                    return None;
                }
                goes_on = Some(next);
                batches.push(nodes);
                rest = after;
            }
            (Piece::Other(text), Some(rest)) => rest.extend(text),
            _ => return None,
        }
    }
    let rest = [&read.head, &b"{\n"[..], &rest?, &read.end].concat();
    let record: Record = serde_json::from_slice(&rest).ok()?;
    let usual = record.owner();
    let shared = |mut nodes: Vec<Node>| {
        for node in &mut nodes {
            node.entry.owner = node.entry.owner.or(usual);
        }
        Shared::all(nodes).collect::<Vec<_>>()
    };
    let parts: Vec<_> = batches.into_par_iter().map(shared).collect();
    let mut files = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for part in parts {
        files.extend(part);
    }
    let manifest = record.manifest(files)?;
    // With another head the files could stand at another place in it.
    (read.head == text::head(&manifest)).then_some((manifest, read.body))
}

/// The lines that begin in a part; one at its very beginning is the last of the part before.
/// `None` if one is very long.
fn piece(part: Part<'_>) -> Option<Piece> {
    let text = if part.is_first {
        part.text.strip_prefix(b"{\n")?
    } else {
        part.text.get(memchr(b'\n', part.text)? + 1..)?
    };
    if !part.text.ends_with(b"\n") {
        return None;
    }
    Some(files(text).unwrap_or_else(|| Piece::Other(text.to_vec())))
}

/// The files in a `text`, which all of its lines are, or those before the end of all. `None` if
/// there is anything else.
fn files(text: &[u8]) -> Option<Piece> {
    let room = memchr_iter(b'\n', text).count().min(text.len() / SHORTEST);
    let (mut nodes, mut lines) = (Vec::with_capacity(room), Vec::new());
    let (mut rest, mut goes_on) = (Some(text).filter(|text| !text.is_empty())?, true);
    while !rest.is_empty() && !rest.starts_with(AFTER_FILES) {
        let (line, others) = rest.split_at(memchr(b'\n', rest)?);
        let plain = line.strip_suffix(b",");
        lines.push(Line::new(plain.unwrap_or(line)).filter(|_| goes_on)?);
        (goes_on, rest) = (plain.is_some(), others.get(1..)?);
        if lines.len() == BATCH {
            read_all(&mut lines, &mut nodes)?;
        }
    }
    read_all(&mut lines, &mut nodes)?;
    let after = (!rest.is_empty()).then(|| rest.to_vec());
    let has_ended = after.is_some() && goes_on && !nodes.is_empty();
    (!has_ended).then_some(Piece::Files { nodes, goes_on, after })
}

/// The files in `lines`, but for the owner that is named once for all. `None` if one is not one.
pub(super) fn read_all(lines: &mut Vec<Line<'_>>, nodes: &mut Vec<Node>) -> Option<()> {
    let plain: Vec<_> = lines.iter().filter_map(|line| line.name).collect();
    let mut keys = Key::several(&plain);
    for line in lines.drain(..) {
        let key = match line.name {
            Some(_) => keys.next()?,
            None => serde_json::from_slice(line.quoted).ok()?,
        };
        nodes.push(Node { key, entry: line.entry()? });
    }
    Some(())
}

/// The line of a file.
pub(super) struct Line<'t> {
    quoted: &'t [u8],
    /// The name, if nothing is escaped in it.
    name: Option<&'t str>,
    /// What is said of it.
    value: &'t [u8],
}

impl<'t> Line<'t> {
    /// A line without its end. `None` if it does not begin with a name.
    pub(super) fn new(line: &'t [u8]) -> Option<Self> {
        let text = line.strip_prefix(b"    \"")?;
        let mut end = memchr2(b'"', b'\\', text)?;
        let is_plain = text.get(end) == Some(&b'"');
        while text.get(end)? != &b'"' {
            let next = end + 2;
            end = next + memchr2(b'"', b'\\', text.get(next..)?)?;
        }
        let (name, rest) = text.split_at_checked(end)?;
        let is_plain = is_plain && name.iter().all(|&byte| byte >= b' ');
        let name = str::from_utf8(name).ok().filter(|_| is_plain);
        let quoted = line.get(4..end + 6)?;
        Some(Self { quoted, name, value: rest.strip_prefix(b"\": ")? })
    }

    fn entry(&self) -> Option<Entry> {
        Rest(self.value).entry().or_else(|| {
            let record: EntryRecord = serde_json::from_slice(self.value).ok()?;
            record.file(None)
        })
    }
}

/// What is left of a value.
struct Rest<'t>(&'t [u8]);

impl Rest<'_> {
    /// A file without attributes, and all of it written in the usual order.
    fn entry(mut self) -> Option<Entry> {
        self.skip(b"{\"hash\":\"")?;
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
        (self.0 == b"}").then_some(Entry {
            kind: Kind::File { hash, size, group },
            mode,
            mtime: Mtime { seconds, nanos },
            owner,
            attributes: Attributes::new(),
            identity,
        })
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

    fn hash(&mut self) -> Option<ContentHash> {
        let (digits, rest) = self.0.split_at_checked(64)?;
        self.0 = rest;
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// A number without sign, fraction or needless zero.
    fn unsigned(&mut self) -> Option<u64> {
        let begun = self.0;
        let mut sum = 0_u64;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            sum = sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.0 = rest;
        }
        let length = begun.len() - self.0.len();
        (length == 1 || (length > 1 && !begun.starts_with(b"0"))).then_some(sum)
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
