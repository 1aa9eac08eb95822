//! A record as JSON: the text that its [`Serialize`](serde::Serialize) makes, several times faster.
//!
//! Records are written by the million, and most of a record is names that are known when this is
//! compiled. They are put down as they are, numbers without a formatter, and a string is looked
//! through for what has to be escaped before anything is done about it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Deref;

use smol_str::SmolStr;

use crate::record::{RecordId, Session};
use crate::redact::RedactedPath;
use crate::{Record, SpanContext};

/// What has to be escaped of a value's JSON inside a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// Nothing.
    None,
    /// The quotes around it.
    Quotes,
    /// It has to be looked through.
    Any,
}

/// What can be the value of a key.
pub(crate) trait Value {
    const ESCAPES: Escapes;

    fn put(&self, out: &mut Vec<u8>);

    /// Whether it is put as `null`, since there is none.
    fn is_none(&self) -> bool {
        false
    }
}

/// How many parts the text of a record has.
pub(crate) const PARTS: usize = 11;

/// Takes the text of records, part by part.
pub(crate) trait Parts {
    /// The part `at` is as in the record before.
    fn repeat(&mut self, at: usize);

    /// The part `at` follows.
    fn begin(&mut self, at: usize);

    /// The text of a value, behind that of its key, as it is and as it is inside a string.
    fn field<V: Value>(&mut self, plain: &'static str, quoted: &'static str, value: &V);

    /// That was the record.
    fn end(&mut self);
}

/// Defines how the fields of a record are put, part by part. Parts are divided so that what often
/// is as in the record before is together. A field that is not named does not compile.
macro_rules! parts {
    ($($at:tt: $first:ident $(, $name:ident)*;)+) => {
        /// Writes `record`, of which `before` is what was written before it.
        #[expect(clippy::float_cmp, reason = "whether it is the very same")]
        pub(crate) fn put_parts(record: &Record, before: Option<&Record>, out: &mut impl Parts) {
            let Record { $($first, $($name,)*)+ } = record;
            $(
                if before.is_some_and(|it| it.$first == *$first $(&& it.$name == *$name)*) {
                    out.repeat($at);
                } else {
                    out.begin($at);
                    parts!(@put out, $at, $first);
                    $(parts!(@put out, _, $name);)*
                }
            )+
            out.end();
        }
    };
    (@put $out:ident, 0, $name:ident) => { parts!(@put $out, $name, "{") };
    (@put $out:ident, $at:tt, $name:ident) => { parts!(@put $out, $name, ",") };
    (@put $out:ident, $name:ident, $before:literal) => {
        $out.field(
            concat!($before, "\"", stringify!($name), "\":"),
            concat!($before, "\\\"", stringify!($name), "\\\":"),
            $name,
        );
    };
}

parts! {
    0: timestamp_unix_ms;
    1: mode, decision, target, port, method;
    2: path;
    3: status, reason, route_id, auth_mechanism, auth_outcome, managed_credential_active,
        injection_mode, denial_category;
    4: sequence, id;
    5: session, phase, outcome;
    6: duration_ms, time_to_first_byte_ms;
    7: bytes_in, bytes_out;
    8: upstream_addr, protocol;
    9: client;
    10: rule, request_id, traceparent, dropped;
}

impl<T: Value> Value for Option<T> {
    const ESCAPES: Escapes = T::ESCAPES;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn is_none(&self) -> bool {
        self.is_none()
    }
}

impl Value for bool {
    const ESCAPES: Escapes = Escapes::None;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Value for u64 {
    const ESCAPES: Escapes = Escapes::None;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }
}

impl Value for u16 {
    const ESCAPES: Escapes = Escapes::None;

    fn put(&self, out: &mut Vec<u8>) {
        u64::from(*self).put(out);
    }
}

impl Value for f64 {
    const ESCAPES: Escapes = Escapes::None;

    fn put(&self, out: &mut Vec<u8>) {
        if self.is_finite() {
            out.extend_from_slice(zmij::Buffer::new().format_finite(*self).as_bytes());
        } else {
            out.extend_from_slice(b"null");
        }
    }
}

impl Value for str {
    const ESCAPES: Escapes = Escapes::Any;

    fn put(&self, out: &mut Vec<u8>) {
        if has_any(self.as_bytes(), |byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            // Of a string this cannot fail.
            out.extend_from_slice(serde_json::to_string(self).unwrap_or_default().as_bytes());
        } else {
            put_quoted(self.as_bytes(), out);
        }
    }
}

/// Values in the forms that records hold them in.
macro_rules! held {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const ESCAPES: Escapes = <<Self as Deref>::Target as Value>::ESCAPES;

            fn put(&self, out: &mut Vec<u8>) {
                (**self).put(out);
            }
        }
    )*};
}

held!(RedactedPath, SmolStr, Box<str>, Box<SpanContext>, Cow<'static, str>);

impl Value for Session {
    const ESCAPES: Escapes = Escapes::Quotes;

    fn put(&self, out: &mut Vec<u8>) {
        put_quoted(&self.digits(), out);
    }
}

impl Value for RecordId {
    const ESCAPES: Escapes = Escapes::Quotes;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.session.digits());
        out.extend_from_slice(b"-");
        self.number.put(out);
        out.push(b'"');
    }
}

impl Value for SpanContext {
    const ESCAPES: Escapes = Escapes::Quotes;

    fn put(&self, out: &mut Vec<u8>) {
        put_quoted(self.to_string().as_bytes(), out);
    }
}

impl Value for SocketAddr {
    const ESCAPES: Escapes = Escapes::Quotes;

    fn put(&self, out: &mut Vec<u8>) {
        let Self::V4(addr) = self else {
            return put_quoted(self.to_string().as_bytes(), out);
        };
        for (before, part) in [b"\"", b".", b".", b"."].into_iter().zip(addr.ip().octets()) {
            out.extend_from_slice(before);
            u64::from(part).put(out);
        }
        out.extend_from_slice(b":");
        addr.port().put(out);
        out.push(b'"');
    }
}

/// Whether `is` holds for one of the bytes. All are looked at, many at once.
pub(crate) fn has_any(text: &[u8], is: impl Fn(u8) -> bool) -> bool {
    text.iter().fold(false, |found, byte| found | is(*byte))
}

/// Writes a string that has nothing to escape.
pub(crate) fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::put_parts;
    use crate::redact::path_and_query;
    use crate::texts::{Quoted, Texts};
    use crate::{Mode, Record, RecordId, Session};

    fn record(
        text: String,
        id: (u64, u64),
        numbers: (u64, f64, Option<f64>),
        addr: Option<SocketAddr>,
    ) -> Record {
        let id = RecordId { session: Session(id.0), number: id.1 };
        Record {
            target: text.clone().into(),
            path: Some(path_and_query(&text, "", &[""; 0])),
            reason: Some(text.clone().into()),
            request_id: Some(text.into()),
            bytes_in: numbers.0,
            duration_ms: numbers.1,
            time_to_first_byte_ms: numbers.2,
            port: addr.map(|addr| addr.port()),
            managed_credential_active: addr.map(|addr| addr.is_ipv4()),
            upstream_addr: addr,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
                .parse()
                .ok()
                .filter(|_| addr.is_some())
                .map(Box::new),
            ..Record::new(id, 1_700_000_000_000, Mode::ConnectIntercept)
        }
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_serde_json(
            text in ".{0,40}|[\\x00-\\x7f]{0,80}",
            id: (u64, u64),
            numbers: (u64, f64, Option<f64>),
            addr: Option<SocketAddr>,
        ) {
            let records = [record(text, id, numbers, addr), record(String::new(), id, numbers, None)];
            let expected: String = records
                .iter()
                .map(|record| serde_json::to_string(record).unwrap() + "\n")
                .collect();
            let mut lines = Texts::default();
            lines.put_lines(&records);
            prop_assert_eq!(std::str::from_utf8(&lines.bytes).unwrap(), &expected);
            // What is copied from the record before is as it would be without one.
            let twice = [records[0].clone(), records[0].clone(), records[1].clone()];
            let (mut whole, mut before, mut alone) = (Quoted::default(), None, String::new());
            for record in &twice {
                put_parts(record, before.replace(record), &mut whole);
                let mut one = Quoted::default();
                put_parts(record, None, &mut one);
                let text = String::from_utf8(one.plain.bytes).unwrap();
                // It has the keys of what applies.
                let mut applies = serde_json::to_value(record).unwrap();
                applies.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), applies);
                alone += &text;
            }
            prop_assert_eq!(std::str::from_utf8(&whole.plain.bytes).unwrap(), &alone);
            let text = alone;
            let quoted = String::from_utf8(whole.quoted.bytes).unwrap();
            prop_assert_eq!(format!("\"{quoted}\""), serde_json::to_string(&text).unwrap());
        }
    }
}
