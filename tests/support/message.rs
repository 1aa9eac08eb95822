//! A message exactly as it was on the wire.

use std::fmt;

/// The bytes of a request or response: its head, and its body with framing and trailers.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The head, the empty line included.
    pub head: Vec<u8>,
    /// What followed it, framing included.
    pub body: Vec<u8>,
}

impl Message {
    /// Splits `bytes` behind their head.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        Some((Self { head: bytes[..at].to_vec(), body: Vec::new() }, &bytes[at..]))
    }

    /// The first line.
    pub fn line(&self) -> String {
        text(self.lines().next().unwrap())
    }

    /// The header fields as they stand, sorted by name; those of one name in their order.
    pub fn fields(&self) -> Vec<String> {
        let mut fields: Vec<_> = self.lines().skip(1).map(text).collect();
        fields.sort_by_key(|field| field.split(':').next().map(str::to_lowercase));
        fields
    }

    /// The values of the fields called `name`, in their order.
    pub fn values(&self, name: &str) -> Vec<String> {
        let value = |field: &String| {
            let (found, value) = field.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.fields().iter().filter_map(value).collect()
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The body without framing; trailers left out.
    pub fn content(&self) -> Vec<u8> {
        if self.values("transfer-encoding").is_empty() {
            return self.body.clone();
        }
        let mut content = Vec::new();
        let mut rest = &self.body[..];
        loop {
            let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
            let size = usize::from_str_radix(&text(&rest[..end]), 16).unwrap();
            if size == 0 {
                return content;
            }
            content.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 4 + size..];
        }
    }

    /// Whether the head says where the body ends.
    pub(crate) fn is_framed(&self) -> bool {
        ["content-length", "transfer-encoding"].iter().any(|name| !self.values(name).is_empty())
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.head.split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
    }
}

/// One character for each byte, so that nothing is lost or made up.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", text(&self.head) + &text(&self.body))
    }
}
