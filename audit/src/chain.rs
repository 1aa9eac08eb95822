//! The hash-chained form of events: JSON Lines in which a change to one shows in all behind it.
//!
//! Each line is `{sequence, prev_chain, leaf_hash, chain_hash, event_json, event}`. `event_json` is
//! the exact text that is hashed, and `event` the same as JSON:
//!
//! ```text
//! leaf_hash  = SHA-256("nono.audit.event.alpha\n" ‖ event_json)
//! chain_hash = SHA-256("nono.audit.chain.alpha\n" ‖ previous chain_hash, or 32 zero bytes ‖ leaf_hash)
//! ```

use std::io;

use arrayvec::ArrayVec;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canonical::Node;
use crate::error::object;
use crate::hash::{Hash, domain};
use crate::json::put_quoted;

/// A line as it was read. A key that is not known would lie outside its hashes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    sequence: u64,
    #[serde(deserialize_with = "crate::hash::present")]
    prev_chain: Option<Hash>,
    leaf_hash: Hash,
    chain_hash: Hash,
    event_json: Option<String>,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// How a line has the text that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In both places the same, as it is written here.
    Verbatim,
    /// The event is written in another way, and means the same.
    Equal,
    /// Not at all: it was made again from the event.
    Rebuilt,
}

impl Line<'_> {
    /// The text that was hashed.
    ///
    /// # Errors
    /// It is not the event, or can be read in two ways.
    fn hashed(&self) -> Result<(String, Form), String> {
        let event = self.event.get();
        let Some(text) = &self.event_json else {
            return Ok((Node::read(event)?.text(), Form::Rebuilt));
        };
        let hashed =
            Node::read(text).map_err(|reason| format!("canonical event_json: {reason}"))?;
        if text == event {
            return Ok((text.clone(), Form::Verbatim));
        }
        if hashed != Node::read(event)? {
            return Err("canonical event_json does not match event".into());
        }
        Ok((text.clone(), Form::Equal))
    }
}

/// What [`Chain::follow`] found in a line.
#[derive(Debug)]
pub(crate) struct Link {
    /// The hash of its event.
    pub(crate) leaf: Hash,
    /// The text that was hashed.
    pub(crate) event_json: String,
    pub(crate) form: Form,
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
    /// Appends the line of the event that `event_json` is to `out`, and returns the hash of it.
    pub(crate) fn append(&mut self, event_json: &str, out: &mut Vec<u8>) -> io::Result<Hash> {
        let leaf = Hash::of(&[domain::EVENT, event_json.as_bytes()]);
        let quoted = serde_json::to_vec(event_json)?;
        self.put(leaf, event_json.as_bytes(), &quoted, out);
        Ok(leaf)
    }

    /// Appends the line of an event: its hash, its text, and that as a string.
    pub(crate) fn put(&mut self, leaf: Hash, event_json: &[u8], quoted: &[u8], out: &mut Vec<u8>) {
        let chain_hash = self.next(leaf);
        // By hand, since the event is JSON already.
        out.extend_from_slice(br#"{"sequence":"#);
        out.extend_from_slice(itoa::Buffer::new().format(self.lines).as_bytes());
        out.extend_from_slice(br#","prev_chain":"#);
        match self.head {
            Some(head) => put_quoted(&head.digits(), out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","leaf_hash":"#);
        put_quoted(&leaf.digits(), out);
        out.extend_from_slice(br#","chain_hash":"#);
        put_quoted(&chain_hash.digits(), out);
        out.extend_from_slice(br#","event_json":"#);
        out.extend_from_slice(quoted);
        out.extend_from_slice(br#","event":"#);
        out.extend_from_slice(event_json);
        out.extend_from_slice(b"}\n");
        *self = Self { lines: self.lines + 1, head: Some(chain_hash) };
    }

    /// Goes on by `line`.
    ///
    /// # Errors
    /// It does not follow.
    pub(crate) fn follow(&mut self, line: &str) -> Result<Link, String> {
        let line: Line<'_> = object(line).map_err(|reason| unreadable(line, &reason))?;
        if line.sequence != self.lines {
            let (expected, found) = (self.lines, line.sequence);
            return Err(format!("sequence mismatch (expected {expected}, got {found})"));
        }
        if line.prev_chain != self.head {
            return Err("prev_chain mismatch: it does not follow the line before it".into());
        }
        let (event_json, form) = line.hashed()?;
        let (leaf_hash, chain_hash) = self.hashes(&event_json);
        if line.leaf_hash != leaf_hash {
            return Err("leaf hash mismatch: its event was changed".into());
        }
        if line.chain_hash != chain_hash {
            return Err("chain hash mismatch".into());
        }
        *self = Self { lines: self.lines + 1, head: Some(chain_hash) };
        Ok(Link { leaf: leaf_hash, event_json, form })
    }

    fn hashes(&self, event_json: &str) -> (Hash, Hash) {
        let leaf = Hash::of(&[domain::EVENT, event_json.as_bytes()]);
        (leaf, self.next(leaf))
    }

    /// The hash of a line whose event has the hash `leaf`.
    fn next(&self, leaf: Hash) -> Hash {
        let previous = self.head.unwrap_or(Hash::ZERO);
        let mut bytes = ArrayVec::<u8, 128>::new();
        for part in [domain::CHAIN, previous.as_bytes(), leaf.as_bytes()] {
            // They are shorter together.
            let _ = bytes.try_extend_from_slice(part);
        }
        Hash::of_all(&bytes)
    }
}

/// What is wrong with a line that is no record.
fn unreadable(line: &str, reason: &str) -> String {
    match Node::read(line) {
        Ok(_) => format!("it is no record: {reason}"),
        Err(malformed) => malformed,
    }
}
