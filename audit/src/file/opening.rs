//! How a file of a log begins: with a line that names the end of the file before it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::verify::follow;
use crate::Hash;
use crate::canonical::ascii;
use crate::chain::Chain;
use crate::claim::Claim;
use crate::recorder::unix_ms;

/// How the event begins that begins a file.
pub(super) const OPENING: &str = r#"{"type":"log_opened","#;

/// The event that begins a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "log_opened")]
pub(super) struct Opening {
    /// When, in milliseconds since the Unix epoch.
    pub(super) timestamp_unix_ms: u64,
    /// The file that it goes on from, if there is one.
    pub(super) previous: Option<Previous>,
}

/// The end of the file before a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    /// Its name.
    pub(super) file: String,
    /// Its lines.
    records: u64,
    /// The last one's `chain_hash`.
    chain_head: Option<Hash>,
}

impl Previous {
    /// The file at `path`, which has this `chain`.
    pub(super) fn new(path: &Path, chain: Chain) -> Self {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, records: chain.lines, chain_head: chain.head }
    }
}

/// What is in a file that a log finds.
pub(super) enum Before {
    /// The line that opens it, and no more: so many bytes.
    Opening(u64),
    Records(Chain),
}

impl Before {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut is_own = false;
        let (chain, fault) = follow(path, Chain::default(), |_, link| {
            is_own = link.event_json.starts_with(OPENING);
            Ok(())
        })?;
        Ok(if is_own && chain.lines == 1 && fault.is_none() {
            Self::Opening(fs::metadata(path)?.len())
        } else {
            Self::Records(chain)
        })
    }
}

/// Takes the file at `path` over, of which `opened` bytes are the line that opens it.
pub(super) fn go_on(path: &Path, opened: u64) -> io::Result<(Claim, Chain, u64)> {
    let file = Claim::new(OpenOptions::new().append(true).open(path)?)?;
    match (file.metadata()?.len(), follow(path, Chain::default(), |_, _| Ok(()))?) {
        (len, (chain, None)) if len == opened => Ok((file, chain, len)),
        _ => Err(io::Error::new(io::ErrorKind::AlreadyExists, "another wrote to the file there")),
    }
}

/// Makes the file at `path`, with the line that opens it.
pub(super) fn create(path: &Path, previous: Option<Previous>) -> io::Result<(Claim, Chain, u64)> {
    // It tells who asked for what: that is its owner's alone.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut file = Claim::new(file)?;
    if file.metadata()?.len() > 0 {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file was put there"));
    }
    let (mut chain, mut line) = (Chain::default(), Vec::new());
    let opening = Opening { timestamp_unix_ms: unix_ms(), previous };
    chain.append(&ascii(&serde_json::to_string(&opening)?), &mut line)?;
    file.write_all(&line).inspect_err(|_| {
        let _ = file.set_len(0);
    })?;
    Ok((file, chain, line.len() as u64))
}
