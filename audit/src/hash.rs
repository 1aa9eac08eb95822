//! SHA-256 with a domain: what two formats have in common never has the same hash in both.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::record::hexadecimal;

/// What a hash is of. Each word is hashed before what it names.
pub(crate) mod domain {
    pub(crate) const EVENT: &[u8] = b"nono.audit.event.alpha\n";
    pub(crate) const CHAIN: &[u8] = b"nono.audit.chain.alpha\n";
    pub(crate) const MERKLE: &[u8] = b"nono.audit.merkle.alpha\n";
    pub(crate) const SESSION_DIGEST: &[u8] = b"nono.audit.session-digest.alpha\n";
    pub(crate) const LEDGER_CHAIN: &[u8] = b"nono.audit.ledger.chain.alpha\n";
}

/// A SHA-256 hash. Text, 64 hexadecimal digits, only when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    /// What stands for the hash before the first.
    pub(crate) const ZERO: Self = Self([0; SHA256_OUTPUT_LEN]);

    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = Self::ZERO;
        hash.0.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// As of `bytes`, which begin with the domain: for hashes that are made by the million.
    pub(crate) fn of_all(bytes: &[u8]) -> Self {
        let mut hash = Self::ZERO;
        hash.0.copy_from_slice(digest(&SHA256, bytes).as_ref());
        hash
    }

    pub(crate) fn digits(&self) -> [u8; 2 * SHA256_OUTPUT_LEN] {
        let mut digits = [0; 2 * SHA256_OUTPUT_LEN];
        hexadecimal(&self.0, &mut digits);
        digits
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; SHA256_OUTPUT_LEN]> for Hash {
    fn from(bytes: [u8; SHA256_OUTPUT_LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not 64 hexadecimal digits";
        let mut hash = [0; SHA256_OUTPUT_LEN];
        if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Reads a hash that may be `null`, but not absent.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Hash>, D::Error> {
    Option::deserialize(deserializer)
}
