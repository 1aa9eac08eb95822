//! A manifest as it stands in its file.
//!
//! The first six fields of [`Record`], and of a file's [`EntryRecord`] the first four, are the
//! format of the `nono` tools. The rest is ours; they pass over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::error::SnapshotError;
use super::exclusion::ExclusionConfig;
use super::hash::{ContentHash, decode_hex, encode_hex};
use super::key::Key;
use super::manifest::{SnapshotManifest, merkle_root};
use super::store::write_whole;
use super::text::{self, Lines};
use super::tree::{Attributes, Entry, Identity, Kind, Mtime, Node, Tree};
use super::walk::Skipped;

#[derive(Deserialize)]
pub(super) struct Record {
    number: u32,
    timestamp: String,
    parent: Option<u32>,
    pub(super) files: Lines<EntryRecord>,
    #[serde(default)]
    symlinks: Vec<Key>,
    merkle_root: ContentHash,
    #[serde(default)]
    pub(super) tree: Option<TreeRecord>,
}

/// All that the format of the `nono` tools has no place for.
#[derive(Deserialize)]
pub(super) struct TreeRecord {
    /// User and group of every entry that does not name its own.
    owner: (u32, u32),
    pub(super) directories: Lines<EntryRecord>,
    pub(super) symlinks: Lines<EntryRecord>,
    /// Files whose names are no text.
    pub(super) files: Lines<EntryRecord>,
    exclusion: Option<ExclusionConfig>,
    skipped: Vec<SkippedRecord>,
}

/// A file, directory or link.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryRecord {
    /// A file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<ContentHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mtime: i64,
    permissions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime_nanos: Option<u32>,
    /// A link's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Key>,
    /// If it is not the tree's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<(u32, u32)>,
    /// Names as paths are written, values in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<Key, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    /// Device, inode, when that was changed in seconds and nanoseconds, and how many names it
    /// has; only if later changes show in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<(u64, u64, i64, u32, u64)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SkippedRecord {
    path: Key,
    reason: super::walk::SkipReason,
}

/// Writes a manifest to its file, whole or not at all.
pub(super) fn write(manifest: &SnapshotManifest, path: &Path) -> Result<(), SnapshotError> {
    write_whole(path, 0o600, |file| text::write(manifest, file))
        .map_err(SnapshotError::io("write", path))
}

/// Reads a manifest and compares its sums.
pub(super) fn read(path: &Path) -> Result<SnapshotManifest, SnapshotError> {
    let text = fs::read(path).map_err(SnapshotError::io("read the manifest", path))?;
    let is_sealed = text::is_sealed(&text);
    let fault = |source| SnapshotError::ManifestFormat { path: path.to_owned(), source };
    let quickly = is_sealed.then(|| text::parse(&text)).flatten();
    let record = quickly.map_or_else(|| serde_json::from_slice(&text), Ok).map_err(fault)?;
    let changed = |what| SnapshotError::ManifestChanged { path: path.to_owned(), what };
    if record.tree.is_some() && !is_sealed {
        return Err(changed("digest"));
    }
    let manifest = record.manifest().ok_or_else(|| changed("form"))?;
    if merkle_root(&manifest.tree) != manifest.merkle_root {
        return Err(changed("Merkle root"));
    }
    Ok(manifest)
}

impl Record {
    /// `None` if a value in it cannot be what it stands for, or a name is there twice.
    pub(super) fn manifest(self) -> Option<SnapshotManifest> {
        let is_complete = self.tree.is_some();
        let owner = self.tree.as_ref().map(|tree| tree.owner);
        let mut nodes = Vec::new();
        let mut add = |lines: Lines<EntryRecord>, kind: fn(&mut EntryRecord) -> Option<Kind>| {
            let node = |(key, mut record): (Key, EntryRecord)| {
                let entry = kind(&mut record).and_then(|kind| record.entry(kind, owner))?;
                Some(Arc::new(Node { key, entry }))
            };
            let all: Option<Vec<_>> = lines.0.into_par_iter().map(node).collect();
            nodes.extend(all?);
            Some(())
        };
        add(self.files, EntryRecord::file)?;
        let (mut skipped, mut exclusion) = (Vec::new(), None);
        if let Some(more) = self.tree {
            add(more.files, EntryRecord::file)?;
            add(more.directories, |_| Some(Kind::Directory))?;
            add(more.symlinks, |record| Some(record.link()))?;
            skipped = more.skipped.into_iter().map(SkippedRecord::skipped).collect();
            exclusion = more.exclusion;
        } else {
            let link = |key| Arc::new(Node { key, entry: unknown_link() });
            nodes.extend(self.symlinks.into_iter().map(link));
        }
        let count = nodes.len();
        let tree = Tree::new(nodes);
        (tree.nodes().len() == count).then_some(SnapshotManifest {
            number: self.number,
            timestamp: self.timestamp,
            parent: self.parent,
            merkle_root: self.merkle_root,
            skipped,
            exclusion,
            tree,
            is_complete,
        })
    }
}

/// A link of which only the name is known.
fn unknown_link() -> Entry {
    Entry {
        kind: Kind::Symlink { target: None },
        mode: 0o120_777,
        mtime: Mtime { seconds: 0, nanos: None },
        owner: None,
        attributes: Attributes::new(),
        identity: None,
    }
}

impl EntryRecord {
    /// `usual` is the owner that need not be named.
    pub(super) fn new(entry: &Entry, usual: (u32, u32)) -> Self {
        let attribute =
            |(name, value): (&OsString, &Vec<u8>)| (Key::new(Path::new(name)), encode_hex(value));
        let identity = entry.identity.filter(|identity| identity.is_settled);
        let mut record = Self {
            hash: None,
            size: None,
            mtime: entry.mtime.seconds,
            permissions: entry.mode,
            mtime_nanos: entry.mtime.nanos,
            target: None,
            owner: entry.owner.filter(|owner| *owner != usual),
            attributes: entry.attributes.iter().map(attribute).collect(),
            group: None,
            identity: identity.map(|i| {
                let (seconds, nanos) = i.changed;
                (i.device, i.inode, seconds, nanos, i.links)
            }),
        };
        match &entry.kind {
            Kind::File { hash, size, group } => {
                (record.hash, record.size, record.group) = (Some(*hash), Some(*size), *group);
            }
            Kind::Symlink { target } => {
                record.target = target.as_ref().map(|target| Key::new(Path::new(target)));
            }
            Kind::Directory => {}
        }
        record
    }

    fn file(&mut self) -> Option<Kind> {
        Some(Kind::File { hash: self.hash?, size: self.size?, group: self.group })
    }

    fn link(&mut self) -> Kind {
        Kind::Symlink { target: self.target.take().map(|target| target.as_path().into()) }
    }

    fn entry(self, kind: Kind, usual: Option<(u32, u32)>) -> Option<Entry> {
        let value = |(name, digits): (Key, String)| {
            let mut value = vec![0; digits.len() / 2];
            decode_hex(&digits, &mut value)?;
            Some((name.as_path().as_os_str().to_owned(), value))
        };
        Some(Entry {
            kind,
            mode: self.permissions,
            mtime: Mtime { seconds: self.mtime, nanos: self.mtime_nanos },
            owner: self.owner.or(usual),
            attributes: self.attributes.into_iter().map(value).collect::<Option<_>>()?,
            identity: self.identity.map(|(device, inode, seconds, nanos, links)| Identity {
                device,
                inode,
                changed: (seconds, nanos),
                links,
                is_settled: true,
            }),
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
