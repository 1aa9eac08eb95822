//! A record as JSON: the text that its [`Serialize`](serde::Serialize) makes, several times faster.
//!
//! Records are written by the million, and most of a record is names that are known when this is
//! compiled. They are put down as they are, numbers without a formatter, and a string is looked
//! through for what has to be escaped before anything is done about it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::record::{RecordId, Session};
use crate::{Record, SpanContext};

/// Where text goes.
pub(crate) trait Out {
    fn put(&mut self, text: &[u8]);
}

impl Out for Vec<u8> {
    fn put(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }
}

/// Counts what is put into it.
struct Length(usize);

impl Out for Length {
    fn put(&mut self, text: &[u8]) {
        self.0 += text.len();
    }
}

/// Writes to memory that is there, and what does not fit nowhere.
struct Space<'a>(&'a mut [u8]);

impl Out for Space<'_> {
    fn put(&mut self, text: &[u8]) {
        let space = std::mem::take(&mut self.0);
        if let Some((here, rest)) = space.split_at_mut_checked(text.len()) {
            here.copy_from_slice(text);
            self.0 = rest;
        }
    }
}

/// The records as JSON Lines.
pub(crate) fn lines(records: &[Record]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(length(records));
    put_lines(records, &mut lines);
    lines
}

/// The length of what [`lines`] returns.
pub(crate) fn length(records: &[Record]) -> usize {
    let mut length = Length(0);
    put_lines(records, &mut length);
    length.0
}

/// Writes what [`lines`] returns to the beginning of `space`, and returns what is left of that.
pub(crate) fn fill<'a>(records: &[Record], space: &'a mut [u8]) -> &'a mut [u8] {
    let mut space = Space(space);
    put_lines(records, &mut space);
    space.0
}

fn put_lines(records: &[Record], out: &mut impl Out) {
    for record in records {
        record.put(out);
        out.put(b"\n");
    }
}

/// What can be the value of a key.
pub(crate) trait Value {
    fn put(&self, out: &mut impl Out);
}

/// How many parts the text of a record has.
pub(crate) const PARTS: usize = 11;

/// Takes the text of records, part by part.
pub(crate) trait Parts {
    /// The part `at`, which `write` writes; `is_known` if it is as in the record before.
    fn part(&mut self, at: usize, is_known: bool, write: impl FnOnce(&mut Vec<u8>));
}

/// Defines how the fields of a record are put, part by part. What is `shared` is often as in the
/// record before. A field that is not named does not compile.
macro_rules! parts {
    ($first:ident, $(($at:literal, $kind:ident: $($name:ident),+)),+) => {
        impl Value for Record {
            fn put(&self, out: &mut impl Out) {
                let Self { $first, $($($name,)+)+ } = self;
                out.put(concat!("{\"", stringify!($first), "\":").as_bytes());
                $first.put(out);
                $($(
                    out.put(concat!(",\"", stringify!($name), "\":").as_bytes());
                    $name.put(out);
                )+)+
                out.put(b"}");
            }
        }

        /// Writes `record`, of which `before` is what was written before it.
        pub(crate) fn put_parts(record: &Record, before: Option<&Record>, out: &mut impl Parts) {
            let Record { $first, $($($name,)+)+ } = record;
            out.part(0, false, |out| {
                out.put(concat!("{\"", stringify!($first), "\":").as_bytes());
                $first.put(out);
            });
            $(
                let is_known = parts!(@$kind before $($name)+);
                out.part($at, is_known, |out| {
                    $(
                        out.put(concat!(",\"", stringify!($name), "\":").as_bytes());
                        $name.put(out);
                    )+
                    if $at == PARTS - 1 {
                        out.put(b"}");
                    }
                });
            )+
        }
    };
    (@own $before:ident $($name:ident)+) => { false };
    (@shared $before:ident $($name:ident)+) => {
        $before.is_some_and(|before| $(before.$name == *$name)&&+)
    };
}

parts!(
    timestamp_unix_ms,
    (1, shared: mode, decision, target, port, method),
    (2, own: path),
    (3, shared: status, reason, route_id, auth_mechanism, auth_outcome),
    (4, shared: managed_credential_active, injection_mode, denial_category),
    (5, own: sequence, id),
    (6, shared: session, phase, outcome),
    (7, own: duration_ms, time_to_first_byte_ms, bytes_in, bytes_out),
    (8, shared: upstream_addr, protocol),
    (9, shared: client),
    (10, shared: rule, request_id, traceparent, dropped)
);

impl<T: Value> Value for Option<T> {
    fn put(&self, out: &mut impl Out) {
        match self {
            Some(value) => value.put(out),
            None => out.put(b"null"),
        }
    }
}

impl Value for bool {
    fn put(&self, out: &mut impl Out) {
        out.put(if *self { b"true" } else { b"false" });
    }
}

impl Value for u64 {
    fn put(&self, out: &mut impl Out) {
        out.put(itoa::Buffer::new().format(*self).as_bytes());
    }
}

impl Value for u16 {
    fn put(&self, out: &mut impl Out) {
        u64::from(*self).put(out);
    }
}

impl Value for f64 {
    fn put(&self, out: &mut impl Out) {
        if self.is_finite() {
            out.put(zmij::Buffer::new().format_finite(*self).as_bytes());
        } else {
            out.put(b"null");
        }
    }
}

impl Value for str {
    fn put(&self, out: &mut impl Out) {
        // Counted and not searched for, so that many bytes are looked at at once.
        let special = |byte: &u8| matches!(byte, 0..b' ' | b'"' | b'\\');
        let is_plain = self.bytes().filter(special).count() == 0;
        if is_plain {
            put_quoted(self.as_bytes(), out);
        } else {
            // Of a string this cannot fail.
            out.put(serde_json::to_string(self).unwrap_or_default().as_bytes());
        }
    }
}

/// Values in the forms that records hold them in.
macro_rules! held {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn put(&self, out: &mut impl Out) {
                (**self).put(out);
            }
        }
    )*};
}

held!(String, Arc<str>, Box<str>, Box<SpanContext>, Cow<'static, str>);

impl Value for Session {
    fn put(&self, out: &mut impl Out) {
        put_quoted(&self.digits(), out);
    }
}

impl Value for RecordId {
    fn put(&self, out: &mut impl Out) {
        out.put(b"\"");
        out.put(&self.session.digits());
        out.put(b"-");
        self.number.put(out);
        out.put(b"\"");
    }
}

impl Value for SpanContext {
    fn put(&self, out: &mut impl Out) {
        put_quoted(self.to_string().as_bytes(), out);
    }
}

impl Value for SocketAddr {
    fn put(&self, out: &mut impl Out) {
        let Self::V4(addr) = self else {
            return put_quoted(self.to_string().as_bytes(), out);
        };
        for (before, part) in [b"\"", b".", b".", b"."].into_iter().zip(addr.ip().octets()) {
            out.put(before);
            u64::from(part).put(out);
        }
        out.put(b":");
        addr.port().put(out);
        out.put(b"\"");
    }
}

/// Writes a string that has nothing to escape.
pub(crate) fn put_quoted(text: &[u8], out: &mut impl Out) {
    out.put(b"\"");
    out.put(text);
    out.put(b"\"");
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::{Value as _, put_parts};
    use crate::quoted::Quoted;
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
            path: Some(text.clone()),
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
            let lines = super::lines(&records);
            prop_assert_eq!(std::str::from_utf8(&lines).unwrap(), &expected);
            prop_assert_eq!(super::length(&records), lines.len());
            let mut space = vec![0; lines.len() + 1];
            prop_assert_eq!(super::fill(&records, &mut space).len(), 1);
            prop_assert_eq!(&space[..lines.len()], &lines[..]);
            // What is copied from the record before is as it would be without one.
            let twice = [records[0].clone(), records[0].clone(), records[1].clone()];
            let mut whole = Quoted::default();
            let (mut before, mut alone) = (None, Vec::new());
            for record in &twice {
                put_parts(record, before.replace(record), &mut whole);
                record.put(&mut alone);
            }
            prop_assert_eq!(&whole.plain.bytes, &alone);
            let text = String::from_utf8(alone).unwrap();
            let quoted = String::from_utf8(whole.quoted.bytes).unwrap();
            prop_assert_eq!(format!("\"{quoted}\""), serde_json::to_string(&text).unwrap());
        }
    }
}
