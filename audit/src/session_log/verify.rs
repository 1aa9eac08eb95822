//! Checking a session's log, and saying what that has proved.
//!
//! A chain of hashes proves that nothing between its first and its last line was changed, and
//! not that the last line is the last one that was written, nor who wrote it. For the former something
//! must have been kept elsewhere: the session's [`AuditIntegrity`].

use std::io::{self, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SessionLog;
use crate::canonical::Node;
use crate::chain::Form;
use crate::error::{object, whole_object};
use crate::lines::Lines;
use crate::{AuditIntegrity, Hash, VerifyError, regular};

/// The log of a session, in its directory.
pub const EVENTS_FILENAME: &str = "audit-events.ndjson";
/// What is kept of a session, in its directory.
pub const SESSION_FILENAME: &str = "session.json";

/// What was kept of a log elsewhere, which is what a session has in its `audit_integrity`. What is
/// absent or `null` was not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIntegrity {
    /// The algorithm of the hashes.
    pub hash_algorithm: Option<String>,
    /// How many events there are.
    pub event_count: Option<u64>,
    /// The hash of the last line.
    pub chain_head: Option<Hash>,
    /// The root over all events.
    pub merkle_root: Option<Hash>,
}

impl StoredIntegrity {
    const KEYS: [&str; 4] = ["hash_algorithm", "event_count", "chain_head", "merkle_root"];

    /// Reads it from JSON.
    ///
    /// # Errors
    /// A key has a value of the wrong kind.
    pub fn from_json(text: &str) -> Result<Self, VerifyError> {
        let wrong = |reason| VerifyError::invalid(format!("stored integrity summary: {reason}"));
        let stored = object(text).map_err(wrong)?;
        let node = Node::read(text).map_err(wrong)?;
        let is_empty = node.members().is_none_or(<[_]>::is_empty);
        if !is_empty && Self::KEYS.iter().all(|key| node.get(key).is_none()) {
            let keys = Self::KEYS.join(", ");
            return Err(wrong(format!(
                "it has none of {keys}: of a session, its audit_integrity is meant"
            )));
        }
        Ok(stored)
    }
}

/// A log in which nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the keys of the format")]
pub struct LogVerification {
    /// The algorithm of the hashes.
    pub hash_algorithm: &'static str,
    /// How the Merkle tree is made.
    pub merkle_scheme: &'static str,
    /// How many events there are.
    pub event_count: u64,
    /// The hash of the last line.
    pub computed_chain_head: Option<Hash>,
    /// The root over all events.
    pub computed_merkle_root: Option<Hash>,
    /// What was kept of that elsewhere.
    pub stored_event_count: Option<u64>,
    /// See above.
    pub stored_chain_head: Option<Hash>,
    /// See above.
    pub stored_merkle_root: Option<Hash>,
    /// Whether as many events are there as are known of; another number is an error.
    pub event_count_matches: bool,
    /// Whether every line follows the one before it; if not, that is an error.
    pub records_verified: bool,
    /// Whether a line lacks the text that was hashed, so that it was made again from its event.
    pub missing_canonical_event_json: bool,
    /// Whether a hash kept elsewhere shows that no line is missing at the end.
    pub complete: bool,
    /// What this has proved.
    pub proved: Vec<&'static str>,
    /// What this cannot prove.
    pub not_proved: Vec<&'static str>,
}

/// Checks the log in `session_dir` against `stored`, or else what its `session.json` has kept.
///
/// # Errors
/// Something is wrong with it, or it cannot be read.
pub fn verify_log(
    session_dir: &Path,
    stored: Option<StoredIntegrity>,
) -> Result<LogVerification, VerifyError> {
    let stored = stored.map_or_else(|| kept(session_dir), Ok)?;
    let path = session_dir.join(EVENTS_FILENAME);
    let file = regular::open(&path).map_err(|error| VerifyError::io(&path, error))?;
    let (log, lacks_text) = follow(BufReader::new(file), &path)?;
    check(&log, lacks_text, &stored)?;
    Ok(verification(&log, lacks_text, &stored))
}

/// What the session in `session_dir` has kept of its log.
fn kept(session_dir: &Path) -> Result<StoredIntegrity, VerifyError> {
    #[derive(Deserialize)]
    struct Kept<'a> {
        // The rest is not looked at: it may be large, and what is wrong with it is no fault of the log.
        #[serde(borrow)]
        audit_integrity: Option<&'a RawValue>,
        audit_event_count: Option<u64>,
    }
    let wrong = |reason: String| VerifyError::invalid(format!("{SESSION_FILENAME}: {reason}"));
    let path = session_dir.join(SESSION_FILENAME);
    let text = match regular::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(StoredIntegrity::default());
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(wrong("it is no UTF-8".into()));
        }
        Err(error) => return Err(VerifyError::io(&path, error)),
    };
    let kept: Kept<'_> = object(&text).map_err(wrong)?;
    let integrity = kept.audit_integrity.map(|integrity| whole_object(integrity.get()));
    let in_integrity = |reason: String| wrong(format!("audit_integrity: {reason}"));
    let mut stored: StoredIntegrity =
        integrity.transpose().map_err(in_integrity)?.unwrap_or_default();
    // Programs that write no count have a 0 there.
    match (stored.event_count, kept.audit_event_count.filter(|count| *count > 0)) {
        (Some(summed), Some(counted)) if summed != counted => Err(wrong(format!(
            "event_count {summed} of audit_integrity is not audit_event_count {counted}"
        ))),
        (summed, counted) => {
            stored.event_count = summed.or(counted);
            Ok(stored)
        }
    }
}

/// Follows the lines of a log; also says whether one lacks the text that was hashed.
fn follow(reader: impl io::BufRead, path: &Path) -> Result<(SessionLog, bool), VerifyError> {
    let (mut log, mut lacks_text) = (SessionLog::default(), false);
    let mut lines = Lines::new(reader);
    while let Some(line) = lines.next().map_err(|error| VerifyError::io(path, error))? {
        let wrong = |reason| VerifyError::invalid(format!("line {}: {reason}", line.number));
        let text = line.text.map_err(wrong)?;
        if text.trim().is_empty() {
            continue;
        }
        let link = log.chain.follow(text).map_err(|reason| {
            let cut = if line.is_cut { ", and it is cut off" } else { "" };
            wrong(format!("{reason}{cut}"))
        })?;
        log.tree.push(link.leaf);
        lacks_text |= link.form == Form::Rebuilt;
    }
    Ok((log, lacks_text))
}

fn check(log: &SessionLog, lacks_text: bool, stored: &StoredIntegrity) -> Result<(), VerifyError> {
    let mismatch = |reason: String| Err(VerifyError::invalid(reason));
    if *stored == StoredIntegrity::default() {
        return Ok(());
    }
    if lacks_text {
        return mismatch(
            "the log is missing canonical event_json, so a stored summary cannot be checked".into(),
        );
    }
    if let Some(other) = &stored.hash_algorithm
        && other != AuditIntegrity::HASH_ALGORITHM
    {
        return mismatch(format!(
            "stored hash_algorithm {other:?} is not {:?}",
            AuditIntegrity::HASH_ALGORITHM
        ));
    }
    if let Some(count) = stored.event_count
        && count != log.sequence()
    {
        let (found, what) =
            (log.sequence(), if count > log.sequence() { "missing" } else { "added" });
        return mismatch(format!(
            "stored event_count {count} does not match the {found} events of the log: some are {what}"
        ));
    }
    if stored.chain_head.is_some() && stored.chain_head != log.chain_head() {
        return mismatch("stored chain head does not match computed chain head".into());
    }
    if stored.merkle_root.is_some() && stored.merkle_root != log.tree.root() {
        return mismatch("stored Merkle root does not match computed Merkle root".into());
    }
    Ok(())
}

fn verification(log: &SessionLog, lacks_text: bool, stored: &StoredIntegrity) -> LogVerification {
    let said = [
        ("event_count", stored.event_count.is_some()),
        ("chain_head", stored.chain_head.is_some()),
        ("merkle_root", stored.merkle_root.is_some()),
    ];
    // A number is that of any log as long.
    let complete = stored.chain_head.is_some() || stored.merkle_root.is_some();
    let mut proved = vec!["records"];
    proved.extend(said.iter().filter(|(_, is_kept)| *is_kept).map(|(name, _)| *name));
    let mut not_proved = Vec::new();
    if complete {
        proved.push("completeness");
    } else {
        not_proved.push("completeness");
    }
    if lacks_text {
        not_proved.push("event_text");
    }
    // Whoever can write the log and what was kept of it can write both anew.
    not_proved.push("authorship");
    LogVerification {
        hash_algorithm: AuditIntegrity::HASH_ALGORITHM,
        merkle_scheme: "alpha",
        event_count: log.sequence(),
        computed_chain_head: log.chain_head(),
        computed_merkle_root: log.tree.root(),
        stored_event_count: stored.event_count,
        stored_chain_head: stored.chain_head,
        stored_merkle_root: stored.merkle_root,
        event_count_matches: true,
        records_verified: true,
        missing_canonical_event_json: lacks_text,
        complete,
        proved,
        not_proved,
    }
}
