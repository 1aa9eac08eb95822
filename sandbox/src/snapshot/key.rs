//! The name under which a snapshot knows a path: the tracked root as it was given, and what is
//! beneath.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Debug, Formatter};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hash::{decode_hex, encode_hex};

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

    pub(super) fn is_text(&self) -> bool {
        str::from_utf8(&self.0).is_ok()
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        // A separator ends a component, so it comes before whatever continues one.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        let shared = self.0.iter().zip(&other.0);
        shared
            .map(|(&a, &b)| rank(a).cmp(&rank(b)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| self.0.len().cmp(&other.0.len()))
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
        let text = String::deserialize(deserializer)?;
        let Some(digits) = text.strip_prefix(RAW) else {
            if text.contains('\0') {
                return Err(D::Error::custom("a path has no NUL"));
            }
            return Ok(Self(text.into_bytes().into()));
        };
        let mut bytes = vec![0; digits.len() / 2];
        decode_hex(digits, &mut bytes)
            .filter(|()| !bytes.contains(&0))
            .ok_or_else(|| D::Error::custom("a name that is no path"))?;
        Ok(Self(bytes.into()))
    }
}
