//! The name under which a snapshot knows a path: the tracked root as it was given, and what is
//! beneath.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Debug, Formatter};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hash::{Parsed, decode_hex, encode_hex};

/// Marks a name that is no UTF-8 and stands in hexadecimal digits: no path has a NUL.
const RAW: char = '\0';

/// A path, ordered by its components, so that a directory comes before all that is beneath it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().into())
    }

    /// What is called `name` beneath.
    pub(super) fn join(&self, name: &OsStr) -> Self {
        let separator: &[u8] = if self.0.ends_with(b"/") { b"" } else { b"/" };
        Self([&self.0, separator, name.as_bytes()].concat().into())
    }

    pub(super) fn parent(&self) -> Option<Self> {
        self.as_path().parent().map(Self::new)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The part of `path` beneath this one, empty for the same.
    pub(super) fn beneath<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let rest = match path.as_os_str().as_bytes().strip_prefix(&*self.0)? {
            [b'/', rest @ ..] => rest,
            [_, ..] if !self.0.ends_with(b"/") => return None,
            rest => rest,
        };
        Some(Path::new(OsStr::from_bytes(rest)))
    }

    /// Whether `other` is beneath this one.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        self.beneath(other.as_path()).is_some_and(|rest| !rest.as_os_str().is_empty())
    }

    /// A key as it is written in manifests.
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let Some(digits) = text.strip_prefix(RAW) else {
            let is_path = !text.contains('\0');
            return is_path.then(|| Self(text.as_bytes().into())).ok_or("a path has no NUL");
        };
        let mut bytes = vec![0; digits.len() / 2];
        let decoded = decode_hex(digits, &mut bytes).filter(|()| !bytes.contains(&0));
        decoded.map(|()| Self(bytes.into())).ok_or("a name that is no path")
    }

    pub(super) fn is_text(&self) -> bool {
        str::from_utf8(&self.0).is_ok()
    }
}

/// The order of keys, for parts of them.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // A separator ends a component, so it comes before whatever continues one.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let same = length_of_same(a, b);
    match (a.get(same), b.get(same)) {
        (Some(a), Some(b)) => rank(a).cmp(&rank(b)),
        _ => a.len().cmp(&b.len()),
    }
}

/// How many bytes are the same from the beginning. Neighbours share most of their directories.
fn length_of_same(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    let words = a.as_chunks::<WORD>().0.iter().zip(b.as_chunks::<WORD>().0);
    let begun = words.take_while(|(a, b)| a == b).count() * WORD;
    let rest = a.iter().zip(b).skip(begun);
    begun + rest.take_while(|(a, b)| a == b).count()
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(self.as_path(), f)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_str(&format!("{RAW}{}", encode_hex(&self.0))),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed(Self::from_text))
    }
}
