//! The text of a manifest: JSON with one entry in each line, and a digest at its end.

use std::io::{self, Write};
use std::mem;
use std::ops::Deref;

use rayon::prelude::*;
use serde::Serialize;

use super::entry::EntryRecord;
use super::manifest::SnapshotManifest;
use super::record::{RootRecord, RuleRecord, SkippedRecord};
use super::seal::{Body, FILES, Sealed};
use super::tree::{Kind, Node, Tree};

/// How many lines a thread makes at once, and how many such batches are made at a time.
const BATCH: usize = 512;
const GROUP: usize = 8;

/// How long a line mostly is, at most.
pub(super) const LINE: usize = 320;

/// Writes the text of `manifest`, and its digest.
pub(super) fn write(manifest: &SnapshotManifest, out: impl Write + Send) -> io::Result<Body> {
    let tree = &manifest.tree;
    let owner = usual_owner(tree);
    let entry = |node: &Node, text: &mut Text| {
        text.json(&node.key);
        text.raw(b": ");
        text.json(&EntryRecord::new(&node.entry, owner));
    };
    let name = |node: &Node, text: &mut Text| text.json(&node.key);
    let skipped: Vec<_> = manifest.skipped.iter().map(SkippedRecord::new).collect();
    let mut text = Sealed::new(head(manifest), out)?;

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
    text.field("    ", "roots", &RootRecord::all(manifest))?;
    text.field("    ", "rules", &RuleRecord::all(manifest))?;
    text.seal()
}

/// What stands before the body: all that differs between two snapshots of the same tree.
pub(super) fn head(manifest: &SnapshotManifest) -> Vec<u8> {
    let mut text = Text(b"{".to_vec());
    text.field("\n  ", "number", &manifest.number);
    text.field(",\n  ", "timestamp", &manifest.timestamp);
    text.field(",\n  ", "parent", &manifest.parent);
    text.raw(b",");
    text.raw(FILES);
    text.0
}

/// The owner that is named once for all: that of the first entry.
fn usual_owner(tree: &Tree) -> (u32, u32) {
    tree.nodes().iter().find_map(|node| node.entry.owner).unwrap_or_default()
}

fn select(tree: &Tree, is_in: impl Fn(&Node) -> bool) -> Vec<&Node> {
    tree.nodes().iter().map(Deref::deref).filter(|node| is_in(node)).collect()
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

    fn field(&mut self, before: &str, name: &str, value: &impl Serialize) {
        self.raw(format!("{before}\"{name}\": ").as_bytes());
        self.json(value);
    }
}

impl<W: Write + Send> Sealed<W> {
    fn name(&mut self, indent: &str, name: &str) -> io::Result<()> {
        self.push(format!("{indent}\"{name}\": ").as_bytes())
    }

    fn field(&mut self, indent: &str, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut text = Text::default();
        text.field(indent, name, value);
        text.raw(b",\n");
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

#[cfg(test)]
mod tests;
