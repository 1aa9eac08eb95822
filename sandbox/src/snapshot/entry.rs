//! A file, directory or link as it stands in a manifest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::hash::{ContentHash, decode_hex, encode_hex};
use super::key::Key;
use super::tree::{Attributes, Entry, Identity, Kind, Mtime};

/// User and group, if they are known.
pub(super) type Owner = Option<(u32, u32)>;

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

/// A link of which only the name is known.
pub(super) fn unknown_link() -> Entry {
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
            Kind::Directory | Kind::Unread => {}
        }
        record
    }

    /// A file's entry; `usual` is the owner that is not named.
    pub(super) fn file(self, usual: Owner) -> Option<Entry> {
        let kind = Kind::File { hash: self.hash?, size: self.size?, group: self.group };
        self.entry(kind, usual)
    }

    pub(super) fn link(mut self, usual: Owner) -> Option<Entry> {
        let target = self.target.take().map(|target| target.as_path().into());
        self.entry(Kind::Symlink { target }, usual)
    }

    pub(super) fn entry(self, kind: Kind, usual: Owner) -> Option<Entry> {
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
