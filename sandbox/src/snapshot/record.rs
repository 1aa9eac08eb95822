//! A manifest as it stands in its file.
//!
//! The first six fields of [`Record`], and the first four of [`FileRecord`], are the format of
//! the `nono` tools. The rest is ours; they pass over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::SnapshotError;
use super::exclusion::ExclusionConfig;
use super::hash::{ContentHash, decode_hex, encode_hex};
use super::key::Key;
use super::manifest::{SnapshotManifest, merkle_root};
use super::store::write_whole;
use super::tree::{Attributes, Entry, Identity, Kind, Mtime, Tree};
use super::walk::Skipped;

/// What a digest of a manifest begins with, so that it is one of nothing else.
const DIGEST_DOMAIN: &[u8] = b"nono.snapshot.tree.v1\n";

#[derive(Serialize, Deserialize)]
struct Record {
    number: u32,
    timestamp: String,
    parent: Option<u32>,
    files: BTreeMap<Key, FileRecord>,
    #[serde(default)]
    symlinks: Vec<Key>,
    merkle_root: ContentHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<TreeRecord>,
}

#[derive(Serialize, Deserialize)]
struct FileRecord {
    hash: ContentHash,
    size: u64,
    mtime: i64,
    permissions: u32,
    #[serde(flatten)]
    more: More,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

/// What any entry has besides its content, mode and time in seconds.
#[derive(Default, Serialize, Deserialize)]
struct More {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime_nanos: Option<u32>,
    /// If it is not the tree's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<(u32, u32)>,
    /// Names as paths are written, values in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<Key, String>,
}

/// All that the format of the `nono` tools has no place for.
#[derive(Serialize, Deserialize)]
struct TreeRecord {
    /// Over the whole record without this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<ContentHash>,
    /// User and group of every entry that does not name its own.
    owner: (u32, u32),
    directories: BTreeMap<Key, OtherRecord>,
    symlinks: BTreeMap<Key, OtherRecord>,
    /// Files whose names are no text.
    files: BTreeMap<Key, FileRecord>,
    exclusion: Option<ExclusionConfig>,
    skipped: Vec<SkippedRecord>,
}

#[derive(Serialize, Deserialize)]
struct OtherRecord {
    mtime: i64,
    permissions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Key>,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize, Deserialize)]
struct SkippedRecord {
    path: Key,
    reason: super::walk::SkipReason,
}

/// Writes a manifest to its file, whole or not at all.
pub(super) fn write(manifest: &SnapshotManifest, path: &Path) -> Result<(), SnapshotError> {
    let mut record = Record::new(manifest);
    let digest = record.digest();
    if let Some(tree) = &mut record.tree {
        tree.digest = Some(digest);
    }
    write_whole(path, 0o600, |file| serde_json::to_writer_pretty(file, &record).map_err(Into::into))
        .map_err(SnapshotError::io("write", path))
}

/// Reads a manifest and compares its sums.
pub(super) fn read(path: &Path) -> Result<SnapshotManifest, SnapshotError> {
    let text = fs::read(path).map_err(SnapshotError::io("read the manifest", path))?;
    let fault = |source| SnapshotError::ManifestFormat { path: path.to_owned(), source };
    let mut record: Record = serde_json::from_slice(&text).map_err(fault)?;
    let changed = |what| SnapshotError::ManifestChanged { path: path.to_owned(), what };
    if let Some(said) = record.tree.as_mut().and_then(|tree| tree.digest.take())
        && said != record.digest()
    {
        return Err(changed("digest"));
    }
    let manifest = record.manifest().ok_or_else(|| changed("form"))?;
    if merkle_root(&manifest.tree) != manifest.merkle_root {
        return Err(changed("Merkle root"));
    }
    Ok(manifest)
}

impl Record {
    fn new(manifest: &SnapshotManifest) -> Self {
        let mut tree = TreeRecord {
            digest: None,
            owner: usual_owner(&manifest.tree),
            directories: BTreeMap::new(),
            symlinks: BTreeMap::new(),
            files: BTreeMap::new(),
            exclusion: manifest.exclusion.clone(),
            skipped: manifest.skipped.iter().map(SkippedRecord::new).collect(),
        };
        let mut files = BTreeMap::new();
        for (key, entry) in &manifest.tree {
            let more = More::new(entry, tree.owner);
            match &entry.kind {
                Kind::File { hash, size, group } => {
                    let place = if key.is_text() { &mut files } else { &mut tree.files };
                    place.insert(key.clone(), FileRecord::new(*hash, *size, *group, entry, more));
                }
                Kind::Directory => {
                    tree.directories.insert(key.clone(), OtherRecord::new(entry, None, more));
                }
                Kind::Symlink { target } => {
                    let target = target.as_ref().map(|target| Key::new(Path::new(target)));
                    tree.symlinks.insert(key.clone(), OtherRecord::new(entry, target, more));
                }
            }
        }
        Self {
            number: manifest.number,
            timestamp: manifest.timestamp.clone(),
            parent: manifest.parent,
            files,
            symlinks: tree.symlinks.keys().filter(|key| key.is_text()).cloned().collect(),
            merkle_root: manifest.merkle_root,
            tree: manifest.is_complete.then_some(tree),
        }
    }

    /// Over everything, in the order in which it is written. Called without a digest in it.
    fn digest(&self) -> ContentHash {
        struct Sink(Sha256);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = io::BufWriter::new(Sink(Sha256::new_with_prefix(DIGEST_DOMAIN)));
        // Neither a map with keys that are no text nor a failing writer is in it.
        let _cannot_fail = serde_json::to_writer(&mut sink, self);
        let _cannot_fail = sink.flush();
        let (sink, _written) = sink.into_parts();
        ContentHash::finish(sink.0)
    }

    /// `None` if a value in it cannot be what it stands for.
    fn manifest(self) -> Option<SnapshotManifest> {
        let is_complete = self.tree.is_some();
        let owner = self.tree.as_ref().map(|tree| tree.owner);
        let mut tree = Tree::new();
        let (mut skipped, mut exclusion) = (Vec::new(), None);
        for (key, file) in self.files {
            tree.insert(key, file.entry(owner)?);
        }
        if let Some(more) = self.tree {
            for (key, file) in more.files {
                tree.insert(key, file.entry(owner)?);
            }
            for (key, directory) in more.directories {
                tree.insert(key, directory.entry(Kind::Directory, owner)?);
            }
            for (key, link) in more.symlinks {
                let target = link.target.as_ref().map(|target| target.as_path().into());
                tree.insert(key, link.entry(Kind::Symlink { target }, owner)?);
            }
            skipped = more.skipped.into_iter().map(SkippedRecord::skipped).collect();
            exclusion = more.exclusion;
        } else {
            for key in self.symlinks {
                tree.insert(key, unknown_link());
            }
        }
        Some(SnapshotManifest {
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

/// The owner that is named once for all: that of the first entry.
fn usual_owner(tree: &Tree) -> (u32, u32) {
    tree.values().find_map(|entry| entry.owner).unwrap_or_default()
}

impl FileRecord {
    fn new(hash: ContentHash, size: u64, group: Option<u32>, entry: &Entry, more: More) -> Self {
        let identity = entry.identity.filter(|identity| identity.is_settled);
        Self {
            hash,
            size,
            mtime: entry.mtime.seconds,
            permissions: entry.mode,
            more,
            group,
            identity: identity.map(|i| {
                let (seconds, nanos) = i.changed;
                format!("{} {} {seconds} {nanos}", i.device, i.inode)
            }),
        }
    }

    fn entry(self, owner: Option<(u32, u32)>) -> Option<Entry> {
        let Self { hash, size, group, .. } = self;
        let identity = match self.identity {
            Some(text) => Some(parse_identity(&text)?),
            None => None,
        };
        let (mtime, mode) = (self.mtime, self.permissions);
        let kind = Kind::File { hash, size, group };
        Some(Entry { identity, ..self.more.entry(kind, mode, mtime, owner)? })
    }
}

fn parse_identity(text: &str) -> Option<Identity> {
    let mut parts = text.split(' ');
    let mut number = || parts.next()?.parse::<i64>().ok();
    Some(Identity {
        device: number()?.cast_unsigned(),
        inode: number()?.cast_unsigned(),
        changed: (number()?, u32::try_from(number()?).ok()?),
        links: 1,
        is_settled: true,
    })
}

impl OtherRecord {
    fn new(entry: &Entry, target: Option<Key>, more: More) -> Self {
        Self { mtime: entry.mtime.seconds, permissions: entry.mode, target, more }
    }

    fn entry(self, kind: Kind, owner: Option<(u32, u32)>) -> Option<Entry> {
        self.more.entry(kind, self.permissions, self.mtime, owner)
    }
}

impl More {
    fn new(entry: &Entry, usual: (u32, u32)) -> Self {
        let text =
            |(name, value): (&OsString, &Vec<u8>)| (Key::new(Path::new(name)), encode_hex(value));
        Self {
            mtime_nanos: entry.mtime.nanos,
            owner: entry.owner.filter(|owner| *owner != usual),
            attributes: entry.attributes.iter().map(text).collect(),
        }
    }

    fn entry(
        self,
        kind: Kind,
        mode: u32,
        seconds: i64,
        usual: Option<(u32, u32)>,
    ) -> Option<Entry> {
        let value = |(name, digits): (Key, String)| {
            let mut value = vec![0; digits.len() / 2];
            decode_hex(&digits, &mut value)?;
            Some((name.as_path().as_os_str().to_owned(), value))
        };
        Some(Entry {
            kind,
            mode,
            mtime: Mtime { seconds, nanos: self.mtime_nanos },
            owner: self.owner.or(usual),
            attributes: self.attributes.into_iter().map(value).collect::<Option<_>>()?,
            identity: None,
        })
    }
}

impl SkippedRecord {
    fn new(skipped: &Skipped) -> Self {
        Self { path: Key::new(&skipped.path), reason: skipped.reason }
    }

    fn skipped(self) -> Skipped {
        Skipped { path: self.path.as_path().to_owned(), reason: self.reason }
    }
}
