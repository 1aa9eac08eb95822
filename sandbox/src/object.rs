//! Objects of JSON that are read as such alone: what is derived for a struct takes a list too, and
//! its fields by their order, which nobody means.

use std::fmt::{self, Formatter};
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Reads structs from objects alone; in them, all as it is. A type reads itself through one where it
/// derives with `#[serde(remote = "Self")]`, of which [`read_as_objects`] makes its `Deserialize`.
pub(crate) struct Objects<D>(pub(crate) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Object(visitor, PhantomData))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Object<'de, V>(V, PhantomData<&'de ()>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}

/// Implements `Deserialize` for types that derive it with `#[serde(remote = "Self")]`.
macro_rules! read_as_objects {
    ($($name:ty),* $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                // What is derived, which is no trait's.
                <$name>::deserialize($crate::object::Objects(from))
            }
        }
    )*};
}

pub(crate) use read_as_objects;

/// Implements `Serialize` for such types, as it is derived.
macro_rules! write_as_derived {
    ($($name:ty),* $(,)?) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                <$name>::serialize(self, to)
            }
        }
    )*};
}

pub(crate) use write_as_derived;
