//! A manifest as it stands in its file.
//!
//! The first six fields of [`Record`], and of a file's [`EntryRecord`] the first four, are the
//! format of the `nono` tools. The rest is ours; they pass over it.

use std::fmt::{self, Formatter};
use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::entry::{EntryRecord, Owner, unknown_link};
use super::error::SnapshotError;
use super::exclusion::ExclusionConfig;
use super::hash::ContentHash;
use super::key::Key;
use super::manifest::{SnapshotManifest, merkle_root};
use super::quick;
use super::roots::Root;
use super::seal::{self, Body};
use super::shared::Shared;
use super::store::{Content, open_plain, write_whole};
use super::text;
use super::tree::{Entry, Kind, Node, Tree};
use super::values::Skipped;

#[derive(Deserialize)]
pub(super) struct Record {
    number: u32,
    timestamp: String,
    parent: Option<u32>,
    files: Lines<EntryRecord>,
    #[serde(default)]
    symlinks: Vec<Key>,
    merkle_root: ContentHash,
    #[serde(default)]
    tree: Option<TreeRecord>,
}

/// All that the format of the `nono` tools has no place for.
#[derive(Deserialize)]
struct TreeRecord {
    /// User and group of every entry that does not name its own.
    owner: (u32, u32),
    directories: Lines<EntryRecord>,
    symlinks: Lines<EntryRecord>,
    /// Files whose names are no text.
    files: Lines<EntryRecord>,
    exclusion: Option<ExclusionConfig>,
    skipped: Vec<SkippedRecord>,
    #[serde(default)]
    roots: Option<Vec<RootRecord>>,
    #[serde(default)]
    rules: Option<Vec<RuleRecord>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SkippedRecord {
    path: Key,
    reason: super::values::SkipReason,
}

/// A tracked path, and where it led.
#[derive(Serialize, Deserialize)]
pub(super) struct RootRecord {
    path: Key,
    real: Key,
}

/// The text of a `.gitignore` that is not in the tree.
#[derive(Serialize, Deserialize)]
pub(super) struct RuleRecord {
    path: Key,
    hash: ContentHash,
    size: u64,
}

/// A map in the order in which it stands in the text.
#[derive(Debug)]
pub(super) struct Lines<T>(pub(super) Vec<(Key, T)>);

/// Writes a manifest to its file, whole or not at all. `same` is the file of another, and in it
/// the body that this one has too.
pub(super) fn write(
    manifest: &SnapshotManifest,
    same: Option<(&File, &Body)>,
    path: &Path,
) -> Result<Body, SnapshotError> {
    write_whole(path, 0o600, |out| match same {
        Some((file, body)) => seal::copy(&text::head(manifest), body, file, out),
        None => text::write(manifest, out),
    })
    .map_err(SnapshotError::io("write", path))
}

/// Reads a manifest and compares its digest, or its root if it has none. The body is `None` if
/// another manifest cannot have it as it is.
pub(super) fn read(path: &Path) -> Result<(SnapshotManifest, Option<Body>), SnapshotError> {
    let fault = || SnapshotError::io("read the manifest", path);
    let file = open_plain(path).map_err(fault())?;
    if let Some((manifest, body)) = quick::read(&file).map_err(fault())? {
        return Ok((manifest, Some(body)));
    }
    let (text, is_sealed) = seal::whole(&file).map_err(fault())?;
    let fault = |source| SnapshotError::ManifestFormat { path: path.to_owned(), source };
    let record: Record = serde_json::from_slice(&text).map_err(fault)?;
    if record.tree.is_some() && !is_sealed {
        return Err(changed(path, "digest"));
    }
    let manifest = record.manifest(Vec::new()).ok_or_else(|| changed(path, "form"))?;
    if !is_sealed {
        prove(&manifest, path)?;
    }
    Ok((manifest, None))
}

/// Compares the root of a manifest with its files.
pub(super) fn prove(manifest: &SnapshotManifest, path: &Path) -> Result<(), SnapshotError> {
    let is_right = merkle_root(&manifest.tree) == manifest.merkle_root;
    is_right.then_some(()).ok_or_else(|| changed(path, "Merkle root"))
}

fn changed(path: &Path, what: &'static str) -> SnapshotError {
    SnapshotError::ManifestChanged { path: path.to_owned(), what }
}

impl Record {
    pub(super) fn owner(&self) -> Owner {
        self.tree.as_ref().map(|tree| tree.owner)
    }

    /// The manifest with all of these `files` too. `None` if a value in it cannot be what it
    /// stands for, or a name is there twice.
    pub(super) fn manifest(self, files: Vec<Shared>) -> Option<SnapshotManifest> {
        let is_complete = self.tree.is_some();
        let owner = self.owner();
        let mut nodes = Vec::new();
        let mut add = |lines: Lines<EntryRecord>, entry: fn(_, Owner) -> Option<Entry>| {
            for (key, record) in lines.0 {
                nodes.push(Node { key, entry: entry(record, owner)? });
            }
            Some(())
        };
        add(self.files, EntryRecord::file)?;
        let (mut skipped, mut exclusion, mut roots, mut rules) = (Vec::new(), None, None, None);
        if let Some(more) = self.tree {
            add(more.files, EntryRecord::file)?;
            add(more.directories, |record, owner| record.entry(Kind::Directory, owner))?;
            add(more.symlinks, EntryRecord::link)?;
            skipped = more.skipped.into_iter().map(SkippedRecord::skipped).collect();
            exclusion = more.exclusion;
            roots = more.roots.map(|all| all.into_iter().map(RootRecord::root).collect());
            rules = more.rules.map(|all| all.into_iter().map(RuleRecord::rule).collect());
        } else {
            let link = |key| Node { key, entry: unknown_link() };
            nodes.extend(self.symlinks.into_iter().map(link));
        }
        let count = files.len() + nodes.len();
        let tree = Tree::new(files).with(Shared::all(nodes).collect());
        (tree.nodes().len() == count).then_some(SnapshotManifest {
            number: self.number,
            timestamp: self.timestamp,
            parent: self.parent,
            merkle_root: self.merkle_root,
            skipped,
            exclusion,
            tree,
            roots,
            rules,
            is_complete,
        })
    }
}

impl SkippedRecord {
    pub(super) fn new(skipped: &Skipped) -> Self {
        Self { path: Key::new(&skipped.path), reason: skipped.reason }
    }

    fn skipped(self) -> Skipped {
        Skipped { path: self.path.as_path().to_owned(), reason: self.reason }
    }
}

impl RootRecord {
    pub(super) fn all(manifest: &SnapshotManifest) -> Option<Vec<Self>> {
        let new = |root: &Root| Self { path: root.key.clone(), real: Key::new(&root.real) };
        manifest.roots.as_ref().map(|all| all.iter().map(new).collect())
    }

    fn root(self) -> Root {
        Root { key: self.path, real: self.real.as_path().to_owned() }
    }
}

impl RuleRecord {
    pub(super) fn all(manifest: &SnapshotManifest) -> Option<Vec<Self>> {
        let new = |(path, content): (&Key, &Content)| Self {
            path: path.clone(),
            hash: content.hash,
            size: content.size,
        };
        manifest.rules.as_ref().map(|all| all.iter().map(new).collect())
    }

    fn rule(self) -> (Key, Content) {
        (self.path, Content { hash: self.hash, size: self.size })
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
