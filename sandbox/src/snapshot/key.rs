//! The name under which a snapshot knows a path: the tracked root as it was given, and what is
//! beneath.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::mem;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hash::{Parsed, decode_hex, encode_hex};

/// Marks a name that is no UTF-8 and stands in hexadecimal digits: no path has a NUL.
const RAW: char = '\0';

/// A path, ordered by its components, so that a directory comes before all that is beneath it.
#[derive(Clone)]
pub(super) struct Key {
    /// Of this key alone, or of several that were read together.
    text: Arc<Vec<u8>>,
    place: Range<usize>,
}

impl Key {
    pub(super) fn new(path: &Path) -> Self {
        Self::of(path.as_os_str().as_bytes().to_vec())
    }

    fn of(text: Vec<u8>) -> Self {
        Self { place: 0..text.len(), text: Arc::new(text) }
    }

    /// The keys of several `texts`, which lie together in memory.
    pub(super) fn several(texts: &[&str]) -> impl Iterator<Item = Self> {
        let all = Arc::new(texts.concat().into_bytes());
        texts.iter().scan(0, move |end, text| {
            let begin = mem::replace(end, *end + text.len());
            Some(Self { text: Arc::clone(&all), place: begin..*end })
        })
    }

    /// What is called `name` beneath.
    pub(super) fn join(&self, name: &OsStr) -> Self {
        let own = self.as_bytes();
        let separator: &[u8] = if own.ends_with(b"/") { b"" } else { b"/" };
        Self::of([own, separator, name.as_bytes()].concat())
    }

    pub(super) fn parent(&self) -> Option<Self> {
        self.as_path().parent().map(Self::new)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.get(self.place.clone()).unwrap_or_default()
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.as_bytes()))
    }

    /// The part of `path` beneath this one, empty for the same.
    pub(super) fn beneath<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let rest = match path.as_os_str().as_bytes().strip_prefix(self.as_bytes())? {
            [b'/', rest @ ..] => rest,
            [_, ..] if !self.as_bytes().ends_with(b"/") => return None,
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
            return is_path.then(|| Self::of(text.into())).ok_or("a path has no NUL");
        };
        let mut bytes = vec![0; digits.len() / 2];
        let decoded = decode_hex(digits, &mut bytes).filter(|()| !bytes.contains(&0));
        decoded.map(|()| Self::of(bytes)).ok_or("a name that is no path")
    }

    pub(super) fn is_text(&self) -> bool {
        str::from_utf8(self.as_bytes()).is_ok()
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

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.as_bytes(), other.as_bytes())
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
        match str::from_utf8(self.as_bytes()) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_str(&format!("{RAW}{}", encode_hex(self.as_bytes()))),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed(Self::from_text))
    }
}
