//! The hash-chained form of records: JSON Lines in which a change to one shows in all behind it.
//!
//! Each line is `{sequence, prev_chain, leaf_hash, chain_hash, event_json, event}`. `event_json` is
//! the exact text that is hashed, and `event` the same as JSON:
//!
//! ```text
//! leaf_hash  = SHA-256("nono.audit.event.alpha\n" ‖ event_json)
//! chain_hash = SHA-256("nono.audit.chain.alpha\n" ‖ previous chain_hash, or 32 zero bytes ‖ leaf_hash)
//! ```

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::Record;
use crate::json::{Out as _, Value as _};
use crate::record::hexadecimal;

const EVENT_DOMAIN: &[u8] = b"nono.audit.event.alpha\n";
const CHAIN_DOMAIN: &[u8] = b"nono.audit.chain.alpha\n";

/// A SHA-256 hash. Text, 64 hexadecimal digits, only when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 2 * SHA256_OUTPUT_LEN];
        hexadecimal(&self.0, &mut digits);
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
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

/// What a line tells of.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A record of the log.
    Network {
        /// The record.
        event: &'a Record,
    },
    /// The beginning of a file.
    LogOpened {
        /// When, in milliseconds since the Unix epoch.
        timestamp_unix_ms: u64,
        /// The file that it goes on from, if there is one.
        previous: Option<Previous>,
    },
}

impl Event<'_> {
    /// The text that is hashed.
    fn text(&self) -> io::Result<String> {
        let text = match self {
            Self::Network { event } => {
                let mut text = Vec::with_capacity(1024);
                text.put(br#"{"type":"network","event":"#);
                event.put(&mut text);
                text.put(b"}");
                String::from_utf8(text).map_err(io::Error::other)?
            }
            Self::LogOpened { .. } => serde_json::to_string(self)?,
        };
        Ok(if text.is_ascii() { text } else { escaped(&text) })
    }
}

/// JSON with all escaped that is not ASCII, which is only ever in strings.
fn escaped(text: &str) -> String {
    let mut ascii = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // To a string this cannot fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

/// The end of the file before a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    /// Its name.
    pub(crate) file: String,
    /// Its lines.
    pub(crate) records: u64,
    /// The last one's `chain_hash`.
    pub(crate) chain_head: Option<Hash>,
}

impl Previous {
    /// The file at `path`, which has this `chain`.
    pub(crate) fn new(path: &Path, chain: Chain) -> Self {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, records: chain.lines, chain_head: chain.head }
    }
}

/// A line.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    sequence: u64,
    prev_chain: Option<Hash>,
    leaf_hash: Hash,
    chain_hash: Hash,
    event_json: String,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// How far a chain has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Lines so far.
    pub(crate) lines: u64,
    /// The last one's hash.
    pub(crate) head: Option<Hash>,
}

impl Chain {
    /// Appends the line of `event` to `out`.
    pub(crate) fn append(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let event_json = event.text()?;
        let (leaf_hash, chain_hash) = self.hashes(&event_json);
        // By hand, since the event is JSON already.
        write!(out, r#"{{"sequence":{},"prev_chain":"#, self.lines)?;
        serde_json::to_writer(&mut *out, &self.head)?;
        write!(out, r#","leaf_hash":"{leaf_hash}","chain_hash":"{chain_hash}","event_json":"#)?;
        serde_json::to_writer(&mut *out, &event_json)?;
        writeln!(out, r#","event":{event_json}}}"#)?;
        *self = Self { lines: self.lines + 1, head: Some(chain_hash) };
        Ok(())
    }

    /// Goes on by `line`, and returns its `event_json`.
    ///
    /// # Errors
    /// It does not follow.
    pub(crate) fn follow(&mut self, line: &str) -> Result<String, String> {
        let line: Line<'_> =
            serde_json::from_str(line).map_err(|error| format!("it is no record: {error}"))?;
        if line.sequence != self.lines {
            let (expected, found) = (self.lines, line.sequence);
            return Err(format!("its sequence is {found}, and should be {expected}"));
        }
        if line.prev_chain != self.head {
            return Err("it does not follow the line before it".into());
        }
        if line.event_json != line.event.get() {
            return Err("its event is not the one that was hashed".into());
        }
        let (leaf_hash, chain_hash) = self.hashes(&line.event_json);
        if line.leaf_hash != leaf_hash {
            return Err("its event was changed".into());
        }
        if line.chain_hash != chain_hash {
            return Err("its chain hash was changed".into());
        }
        *self = Self { lines: self.lines + 1, head: Some(chain_hash) };
        Ok(line.event_json)
    }

    fn hashes(&self, event_json: &str) -> (Hash, Hash) {
        let leaf = Hash::of(&[EVENT_DOMAIN, event_json.as_bytes()]);
        let previous = self.head.unwrap_or(Hash([0; SHA256_OUTPUT_LEN]));
        (leaf, Hash::of(&[CHAIN_DOMAIN, &previous.0, &leaf.0]))
    }
}
