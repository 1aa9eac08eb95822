//! Reading a log back, file after file, and saying what in it is not as it was written.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::names::{numbered, numbers};
use super::opening::{OPENING, Opening, Previous};
use crate::chain::{Chain, Form, Link};
use crate::lines::Lines;
use crate::{Hash, VerifyError, regular};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    /// The lines of all of them that are as they were written.
    pub lines: u64,
    /// The last line's `chain_hash`: kept elsewhere, it shows whether lines are missing at the end.
    pub head: Option<Hash>,
    /// What is wrong first, and where; nothing behind it was read.
    pub fault: Option<Fault>,
}

/// Where a log is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which file.
    pub file: PathBuf,
    /// In which line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the log at `path`, renamed files first, and checks every hash. If a file before the
/// first that is kept was removed for want of room, the log is checked from there.
///
/// # Errors
/// [`VerifyError::Io`]: a file cannot be read.
pub fn verify(path: &Path) -> Result<Verified, VerifyError> {
    // A file that a killed process left ends anywhere; the next one says which line was its last.
    let known = numbers(path).map_err(|source| VerifyError::io(path, source))?;
    let mut files: Vec<_> = known.into_iter().map(|n| numbered(path, n)).collect();
    files.push(path.to_owned());
    let mut verified = Verified { files: Vec::new(), lines: 0, head: None, fault: None };
    let mut before: Option<Previous> = None;
    for file in files {
        let mut is_own = false;
        let judge = |sequence, link: &Link| {
            if sequence == 0 {
                is_own = link.event_json.starts_with(OPENING);
            }
            match (sequence, &before) {
                // What writes these files has the same text in both places; others may not.
                _ if is_own && link.form != Form::Verbatim => {
                    Err("its event_json is not its event".into())
                }
                (0, Some(before)) => linked(&link.event_json, before),
                _ => Ok(()),
            }
        };
        let (chain, fault) = follow(&file, Chain::default(), judge)
            .map_err(|source| VerifyError::io(&file, source))?;
        verified.lines += chain.lines;
        verified.head = chain.head;
        verified.files.push(file.clone());
        if let Some(fault) = fault
            && !(fault.is_cut && file != path)
        {
            verified.fault = Some(Fault { file, line: fault.line, reason: fault.reason });
            break;
        }
        before = Some(Previous::new(&file, chain));
    }
    Ok(verified)
}

/// Whether a file whose first event is `event` goes on from `before`.
fn linked(event: &str, before: &Previous) -> Result<(), String> {
    let opening: Opening =
        serde_json::from_str(event).map_err(|error| format!("it opens no file: {error}"))?;
    match opening.previous {
        Some(named) if named == *before => Ok(()),
        _ => Err(format!("it does not go on from {} as that file ends", before.file)),
    }
}

/// What is wrong with a line of a file.
pub(super) struct Broken {
    line: u64,
    reason: String,
    /// Whether it is only not whole, and the last.
    is_cut: bool,
}

/// Follows the lines of a file, and says which one is wrong; `judge` is given each one's number in
/// the chain and its event.
pub(super) fn follow(
    path: &Path,
    mut chain: Chain,
    mut judge: impl FnMut(u64, &Link) -> Result<(), String>,
) -> io::Result<(Chain, Option<Broken>)> {
    let mut lines = Lines::new(BufReader::new(regular::open(path)?));
    while let Some(line) = lines.next()? {
        let before = chain;
        let followed = if line.is_cut { Err("it is cut off".into()) } else { line.text }
            .and_then(|text| chain.follow(text))
            .and_then(|link| judge(before.lines, &link));
        if let Err(reason) = followed {
            return Ok((before, Some(Broken { line: line.number, reason, is_cut: line.is_cut })));
        }
    }
    Ok((chain, None))
}
