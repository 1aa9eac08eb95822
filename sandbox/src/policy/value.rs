//! The values of a document that are more than text: numbers that count something, and maps
//! without a key twice.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A whole number from 1 to `MOST`. In JSON, `4.0` is one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MOST: u64>(u64);

/// A TCP port.
pub(super) type Port = Count<65_535>;
/// Seconds, bytes or things; every number up to here is one that JSON can hold.
pub type Amount = Count<9_007_199_254_740_991>;

impl<const MOST: u64> Count<MOST> {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Port {
    pub(super) fn port(self) -> u16 {
        u16::try_from(self.0).unwrap_or_default()
    }
}

impl<'de, const MOST: u64> Deserialize<'de> for Count<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_u64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            // As text, since a cast would cut what does not fit.
            format!("{float:.0}").parse().ok()
        });
        match whole {
            Some(value) if (1..=MOST).contains(&value) => Ok(Self(value)),
            _ => Err(Error::custom(format!("{number} is not a whole number from 1 to {MOST}"))),
        }
    }
}

/// Reads a map; a key that comes twice or is empty is an error.
pub(super) fn unique<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Unique(PhantomData))
}

struct Unique<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.is_empty() {
                return Err(Error::custom("a name must not be empty"));
            }
            if read.contains_key(&key) {
                return Err(Error::custom(format!("`{key}` is there twice")));
            }
            read.insert(key, map.next_value()?);
        }
        Ok(read)
    }
}
