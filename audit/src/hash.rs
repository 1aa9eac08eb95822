//! SHA-256 with a domain: what two formats have in common never has the same hash in both.

use std::fmt;
use std::io;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tape_sha256::hash_many_prefixed;

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

    /// The hashes of texts behind the domain `of`: of many in much less time than of each alone.
    pub(crate) fn of_each(of: &[u8], texts: &[&[u8]]) -> impl Iterator<Item = Self> + use<> {
        let mut hashes = vec![[0; SHA256_OUTPUT_LEN]; texts.len()];
        hash_many_prefixed(of, texts, &mut hashes);
        hashes.into_iter().map(Self)
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

/// Makes sure that `many`, of which each kind of processor has its own, makes of several texts
/// together the same hashes as [`Hash::of`] of each.
///
/// # Errors
/// It does not. A log must not be begun that nobody could verify.
pub(crate) fn check(
    many: impl Fn(&[u8], &[&[u8]], &mut [[u8; SHA256_OUTPUT_LEN]]),
) -> io::Result<()> {
    let bytes = [b'n'; 3 * 64];
    // Of all lengths up to three blocks, and so many that no processor does them all at once.
    let texts: Vec<&[u8]> = (0..=bytes.len()).filter_map(|len| bytes.get(..len)).collect();
    let mut hashes = vec![[0; SHA256_OUTPUT_LEN]; texts.len()];
    many(domain::EVENT, &texts, &mut hashes);
    let right = texts.iter().map(|text| Hash::of(&[domain::EVENT, text]));
    if right.eq(hashes.into_iter().map(Hash)) {
        return Ok(());
    }
    Err(io::Error::other("SHA-256 of several texts at once gives wrong hashes on this processor"))
}

/// Reads a hash that may be `null`, but not absent.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Hash>, D::Error> {
    Option::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Hash, check, domain, hash_many_prefixed};

    proptest! {
        #[test]
        fn texts_that_are_hashed_together_have_the_hashes_of_each_alone(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..40),
        ) {
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let alone = texts.iter().map(|text| Hash::of(&[domain::EVENT, text]));
            prop_assert!(Hash::of_each(domain::EVENT, &texts).eq(alone));
        }
    }

    #[test]
    fn a_processor_that_hashes_wrongly_is_found_out() {
        check(hash_many_prefixed).unwrap();
        let is_wrong_at_last = |of: &[u8], texts: &[&[u8]], hashes: &mut [[u8; 32]]| {
            hash_many_prefixed(of, texts, hashes);
            hashes.last_mut().unwrap()[31] ^= 1;
        };
        let error = check(is_wrong_at_last).unwrap_err().to_string();
        assert!(error.contains("wrong hashes on this processor"), "{error}");
    }
}
