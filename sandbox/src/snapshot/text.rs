//! The text of a manifest: JSON with one entry in each line, and at its end a digest of all that
//! stands before it.

use std::fmt::{self, Formatter};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::mem;

use memchr::{memchr, memmem};
use rayon::prelude::*;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::hash::ContentHash;
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::record::{EntryRecord, Record, SkippedRecord};
use super::tree::{Kind, Node, Tree};

/// What a digest of a manifest begins with, so that it is one of nothing else.
const DOMAIN: &[u8] = b"nono.snapshot.text.v1\n";

/// How much of a text is hashed at once; the digest is one over these hashes.
const PART: usize = 1 << 20;

/// How many lines a thread makes at once, and how many such batches are made at a time.
const BATCH: usize = 512;
const GROUP: usize = 8;

/// How long a line mostly is, at most.
const LINE: usize = 320;

/// What stands before the lines of the files, and after them.
const FILES: &[u8] = b"\n  \"files\": {\n";
const AFTER_FILES: &[u8] = b"\n  },\n";

/// What stands around the digest.
const BEFORE: &[u8] = b"    \"digest\": \"";
const AFTER: &[u8] = b"\"\n  }\n}\n";

/// A map in the order in which it stands in the text.
pub(super) struct Lines<T>(pub(super) Vec<(Key, T)>);

/// Writes the text of `manifest`, and its digest.
pub(super) fn write(manifest: &SnapshotManifest, out: impl Write + Send) -> io::Result<()> {
    let tree = &manifest.tree;
    let owner = usual_owner(tree);
    let entry = |node: &Node, text: &mut Text| {
        text.json(&node.key);
        text.raw(b": ");
        text.json(&EntryRecord::new(&node.entry, owner));
    };
    let name = |node: &Node, text: &mut Text| text.json(&node.key);
    let skipped: Vec<_> = manifest.skipped.iter().map(SkippedRecord::new).collect();
    let mut text = Sealed { out, pending: Vec::new(), parts: Vec::new() };

    text.push(b"{\n")?;
    text.field("  ", "number", &manifest.number)?;
    text.field("  ", "timestamp", &manifest.timestamp)?;
    text.field("  ", "parent", &manifest.parent)?;
    text.name("  ", "files")?;
    text.lines("  ", *b"{}", &select(tree, |node| is_file(node) && node.key.is_text()), entry)?;
    text.name("  ", "symlinks")?;
    text.lines("  ", *b"[]", &select(tree, |node| is_link(node) && node.key.is_text()), name)?;
    text.field("  ", "merkle_root", &manifest.merkle_root)?;
    text.push(b"  \"tree\": {\n")?;
    text.field("    ", "owner", &owner)?;
    text.name("    ", "directories")?;
    text.lines("    ", *b"{}", &select(tree, |node| node.entry.is_directory()), entry)?;
    text.name("    ", "symlinks")?;
    text.lines("    ", *b"{}", &select(tree, is_link), entry)?;
    text.name("    ", "files")?;
    text.lines("    ", *b"{}", &select(tree, |node| is_file(node) && !node.key.is_text()), entry)?;
    text.field("    ", "exclusion", &manifest.exclusion)?;
    text.field("    ", "skipped", &skipped)?;
    text.seal()
}

/// Whether `text` ends with the digest of what stands before it.
pub(super) fn is_sealed(text: &[u8]) -> bool {
    let parts = text.strip_suffix(AFTER).and_then(|rest| rest.split_last_chunk::<64>());
    let parts = parts.and_then(|(rest, said)| Some((rest.strip_suffix(BEFORE)?, said)));
    parts.is_some_and(|(rest, said)| digest(rest).to_string().as_bytes() == said)
}

/// The record in a sealed `text`: its files, which are most of it, are read on all processors,
/// line by line. `None` if the text is not as [`write()`] makes it.
pub(super) fn parse(text: &[u8]) -> Option<Record> {
    let begin = memmem::find(text, FILES)? + FILES.len();
    let length = memmem::find(text.get(begin..)?, AFTER_FILES)?;
    let (lines, after) = text.get(begin..)?.split_at_checked(length)?;
    let rest = [text.get(..begin)?, after].concat();
    let mut record: Record = serde_json::from_slice(&rest).ok()?;
    let pieces: Option<Vec<_>> = pieces(lines).into_par_iter().map(map).collect();
    record.files = Lines(pieces?.into_iter().flat_map(|lines| lines.0).collect());
    Some(record)
}

/// Whole lines, some at a time.
fn pieces(lines: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let least = rest.len().min(BATCH * LINE);
        let (_, after) = rest.split_at(least);
        let end = memchr(b'\n', after).map_or(rest.len(), |index| least + index + 1);
        let (piece, others) = rest.split_at(end);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// The map that some of its lines are.
fn map(lines: &[u8]) -> Option<Lines<EntryRecord>> {
    let lines = lines.trim_ascii_end();
    let lines = lines.strip_suffix(b",").unwrap_or(lines);
    serde_json::from_slice(&[b"{", lines, b"}"].concat()).ok()
}

fn digest(text: &[u8]) -> ContentHash {
    let parts: Vec<_> = text.par_chunks(PART).map(|part| ContentHash::of(&[part])).collect();
    digest_of(&parts)
}

fn digest_of(parts: &[ContentHash]) -> ContentHash {
    let mut hasher = Sha256::new_with_prefix(DOMAIN);
    for part in parts {
        hasher.update(part.as_bytes());
    }
    ContentHash::finish(hasher)
}

/// The owner that is named once for all: that of the first entry.
fn usual_owner(tree: &Tree) -> (u32, u32) {
    tree.nodes().iter().find_map(|node| node.entry.owner).unwrap_or_default()
}

fn select(tree: &Tree, is_in: impl Fn(&Node) -> bool) -> Vec<&Node> {
    tree.nodes().iter().map(AsRef::as_ref).filter(|node| is_in(node)).collect()
}

fn is_link(node: &Node) -> bool {
    matches!(node.entry.kind, Kind::Symlink { .. })
}

fn is_file(node: &Node) -> bool {
    matches!(node.entry.kind, Kind::File { .. })
}

/// A piece of text.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn json(&mut self, value: &impl Serialize) {
        // Neither a map with keys that are no text nor a failing writer is in it.
        let _cannot_fail = serde_json::to_writer(&mut self.0, value);
    }
}

/// A text that is hashed while it is written.
struct Sealed<W> {
    out: W,
    /// Less than a part.
    pending: Vec<u8>,
    parts: Vec<ContentHash>,
}

impl<W: Write + Send> Sealed<W> {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() - self.pending.len() % PART;
        let (out, parts) = (&mut self.out, &mut self.parts);
        for part in self.pending.get(..whole).unwrap_or_default().chunks(PART) {
            let (hash, written) = rayon::join(|| ContentHash::of(&[part]), || out.write_all(part));
            written?;
            parts.push(hash);
        }
        self.pending.drain(..whole);
        Ok(())
    }

    /// Ends the text with its digest.
    fn seal(mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.parts.push(ContentHash::of(&[&self.pending]));
        }
        self.out.write_all(&self.pending)?;
        self.out.write_all(BEFORE)?;
        self.out.write_all(digest_of(&self.parts).to_string().as_bytes())?;
        self.out.write_all(AFTER)
    }

    fn name(&mut self, indent: &str, name: &str) -> io::Result<()> {
        self.push(format!("{indent}\"{name}\": ").as_bytes())
    }

    fn field(&mut self, indent: &str, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut text = Text::default();
        text.json(value);
        text.raw(b",\n");
        self.name(indent, name)?;
        self.push(&text.0)
    }

    /// A map or list, by its `brackets`, with a line for each node. Some are written while the
    /// next ones are made.
    fn lines(
        &mut self,
        indent: &str,
        [open, close]: [u8; 2],
        nodes: &[&Node],
        line: impl Fn(&Node, &mut Text) + Sync,
    ) -> io::Result<()> {
        let batch = |nodes: &[&Node]| {
            let mut text = Text(Vec::with_capacity(nodes.len() * LINE));
            for node in nodes {
                text.raw(b",\n  ");
                text.raw(indent.as_bytes());
                line(node, &mut text);
            }
            text.0
        };
        self.push(&[open])?;
        let mut is_first = true;
        let mut ready: Vec<Vec<u8>> = Vec::new();
        for group in nodes.chunks(GROUP * BATCH).chain([&[][..]]) {
            let make = || group.par_chunks(BATCH).map(batch).collect();
            let push = || {
                ready.iter().try_for_each(|batch| {
                    // There is no comma before the first line.
                    let batch = batch.get(usize::from(mem::take(&mut is_first))..);
                    self.push(batch.unwrap_or_default())
                })
            };
            let (next, pushed) = rayon::join(make, push);
            pushed?;
            ready = next;
        }
        self.push(format!("\n{indent}{},\n", char::from(close)).as_bytes())
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lines<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Lines<T>;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a map of paths")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Lines<T>, M::Error> {
                let mut lines = Vec::new();
                while let Some(line) = map.next_entry()? {
                    lines.push(line);
                }
                Ok(Lines(lines))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::snapshot::exclusion::ExclusionConfig;
    use crate::snapshot::tree::{Attributes, Entry, Identity, Mtime};
    use crate::snapshot::walk::Found;

    /// A file with a name that looks like the text around it.
    fn node(number: u64) -> Arc<Node> {
        let odd = ["plain", "a\n  },\nb", "\"files\": {", "\u{fc}, }"];
        let name = format!("/root/{}/{number}", odd[usize::try_from(number).unwrap() % odd.len()]);
        let identity = Identity {
            device: u64::MAX,
            inode: number,
            changed: (-1, 2),
            links: 3,
            is_settled: true,
        };
        let entry = Entry {
            kind: Kind::File { hash: ContentHash::of(&[]), size: number, group: None },
            mode: 0o100_644,
            mtime: Mtime { seconds: 1, nanos: Some(2) },
            owner: Some((3, u32::try_from(number % 5).unwrap())),
            attributes: Attributes::from([("user.a".into(), vec![0, 255])]),
            identity: Some(identity),
        };
        Arc::new(Node { key: Key::new(Path::new(&name)), entry })
    }

    #[test]
    fn a_text_is_read_as_it_was_written_line_by_line_and_whole() {
        for count in [0, 1, 2, 20_000] {
            let tree = Tree::new((0..count).map(node).collect());
            let found = Found { tree, ..Found::default() };
            let config = ExclusionConfig::default();
            let manifest = SnapshotManifest::new(7, 8, config, found, None);
            let mut text = Vec::new();
            write(&manifest, &mut text).unwrap();
            assert!(is_sealed(&text));
            let whole: Record = serde_json::from_slice(&text).unwrap();
            let records = [Some(whole), parse(&text)];
            assert_eq!(records[1].is_some(), count > 0);
            for record in records.into_iter().flatten() {
                let read = record.manifest().unwrap();
                assert_eq!(read.tree.nodes(), manifest.tree.nodes());
                assert_eq!(read.merkle_root, manifest.merkle_root);
            }
            let middle = text.len() / 2;
            text[middle] ^= 1;
            assert!(!is_sealed(&text));
        }
    }
}
