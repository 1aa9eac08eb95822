//! Protocol Buffers as they are on the wire, as far as OTLP needs them: straight from a record
//! into the message. Generated types would copy every text before it is written, and measure each
//! message once for each of those that it is in; that is most of what an export costs.

/// The kinds of fields (<https://protobuf.dev/programming-guides/encoding/>).
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// The most bytes of a varint.
const LONGEST: usize = 10;

/// A message that is being written. Fields are named by their numbers.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn varint(&mut self, field: u64, value: u64) {
        self.key(field, VARINT);
        self.extend_varint(value);
    }

    pub(super) fn fixed64(&mut self, field: u64, value: u64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn fixed32(&mut self, field: u64, value: u32) {
        self.key(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn double(&mut self, field: u64, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    pub(super) fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Bytes; or a message that is written already.
    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, DELIMITED);
        self.extend_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message in this one.
    pub(super) fn nested(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        self.key(field, DELIMITED);
        // Room for its length, which is known only behind it; most are short, and fit.
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let (length, used) = varint((self.0.len() - at - 1) as u64);
        self.0.splice(at..=at, length.into_iter().take(used));
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.extend_varint(field << 3 | kind);
    }

    fn extend_varint(&mut self, value: u64) {
        let (bytes, used) = varint(value);
        self.0.extend(bytes.into_iter().take(used));
    }
}

/// Seven bits a byte, the lowest first; all but the last have the eighth set.
fn varint(mut value: u64) -> ([u8; LONGEST], usize) {
    let mut bytes = [0; LONGEST];
    let mut used = 0;
    for byte in &mut bytes {
        used += 1;
        let [low, ..] = value.to_le_bytes();
        *byte = low & 0x7f;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, used)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::Message;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Known {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(fixed64, tag = "2")]
        long: u64,
        #[prost(fixed32, tag = "16")]
        short: u32,
        #[prost(double, tag = "4")]
        fraction: f64,
        #[prost(string, tag = "5")]
        text: String,
        #[prost(message, optional, boxed, tag = "6")]
        inner: Option<Box<Self>>,
    }

    fn write(known: &Known, message: &mut Message) {
        message.varint(1, known.number);
        message.fixed64(2, known.long);
        message.fixed32(16, known.short);
        message.double(4, known.fraction);
        message.text(5, &known.text);
        if let Some(inner) = &known.inner {
            message.nested(6, |message| write(inner, message));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_by_others(
            number: u64, long: u64, short: u32, fraction in -1e9..1e9,
            texts in prop::collection::vec("\\PC{0,300}", 1..5),
        ) {
            let known = texts.into_iter().fold(None, |inner, text| {
                Some(Box::new(Known { number, long, short, fraction, text, inner }))
            });
            let known = known.unwrap();
            let mut message = Message::default();
            write(&known, &mut message);
            prop_assert_eq!(Known::decode(&*message.into_bytes()).unwrap(), *known);
        }
    }
}
