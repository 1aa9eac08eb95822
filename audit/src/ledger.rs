//! The ledger: a chain of the digests of sessions, one line for each that has ended.
//!
//! ```text
//! chain_hash = SHA-256("nono.audit.ledger.chain.alpha\n" ‖ previous chain_hash, or 32 zero bytes ‖
//!                      {"sequence":…,"session_id":…,"session_digest":…,"completed_at":…})
//! ```

use std::io::{self, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::object;
use crate::hash::{Hash, domain};
use crate::lines::Lines;
use crate::{AuditIntegrity, SessionMetadata, VerifyError, regular, session_digest};

/// A line of a ledger. A key that is not known would lie outside its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRecord {
    /// Its place: 0, 1, 2, …
    pub sequence: u64,
    /// The `chain_hash` of the line before it.
    #[serde(deserialize_with = "crate::hash::present")]
    pub prev_chain: Option<Hash>,
    /// Which session.
    pub session_id: String,
    /// The digest of that.
    pub session_digest: Hash,
    /// When it ended; when it began, if it has no end.
    pub completed_at: String,
    /// The hash of this line and all before it.
    pub chain_hash: Hash,
}

impl LedgerRecord {
    /// The line of `session` behind the one whose hash is `previous`.
    ///
    /// # Errors
    /// The session's name cannot be in a ledger.
    pub fn build(
        session: &SessionMetadata,
        sequence: u64,
        previous: Option<Hash>,
    ) -> Result<Self, VerifyError> {
        check_session_id(&session.session_id)?;
        let mut record = Self {
            sequence,
            prev_chain: previous,
            session_id: session.session_id.clone(),
            session_digest: session_digest(session),
            completed_at: session.ended.clone().unwrap_or_else(|| session.started.clone()),
            chain_hash: Hash::ZERO,
        };
        record.chain_hash = record.hash();
        Ok(record)
    }

    fn hash(&self) -> Hash {
        #[derive(Serialize)]
        struct Hashed<'a> {
            sequence: u64,
            session_id: &'a str,
            session_digest: Hash,
            completed_at: &'a str,
        }
        let hashed = Hashed {
            sequence: self.sequence,
            session_id: &self.session_id,
            session_digest: self.session_digest,
            completed_at: &self.completed_at,
        };
        // Strings and numbers are always JSON.
        let text = serde_json::to_vec(&hashed).unwrap_or_default();
        let previous = self.prev_chain.unwrap_or(Hash::ZERO);
        Hash::of(&[domain::LEDGER_CHAIN, previous.as_bytes(), &text])
    }
}

/// Whether a session of this name can be in a ledger: 1 to 64 letters, digits, `-` and `_`.
///
/// # Errors
/// It cannot.
pub fn check_session_id(id: &str) -> Result<(), VerifyError> {
    let is_plain =
        id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_plain && (1..=64).contains(&id.len()) {
        return Ok(());
    }
    let shown: String = id.chars().take(80).collect();
    Err(VerifyError::invalid(format!(
        "invalid audit session id: {shown:?} is not 1 to 64 letters, digits, '-' or '_'"
    )))
}

/// What a ledger says of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the keys of the format")]
pub struct LedgerVerification {
    /// The algorithm of the hashes.
    pub hash_algorithm: &'static str,
    /// How many lines there are.
    pub entry_count: u64,
    /// The digest of the session as it is now.
    pub session_digest: Hash,
    /// Whether a line is of the session.
    pub session_found: bool,
    /// Whether the last such line has this digest.
    pub session_digest_matches: bool,
    /// Whether one before that has it, and the last one another: the session was entered anew and put
    /// back since, or another one has its name.
    pub later_entry_differs: bool,
    /// Whether there is a ledger; one in which something is wrong is an error.
    pub ledger_chain_verified: bool,
    /// The hash of the last line.
    pub ledger_head: Option<Hash>,
    /// Whether `expected_head` shows that no line is missing at the end.
    pub complete: bool,
    /// What this has proved.
    pub proved: Vec<&'static str>,
    /// What this cannot prove, or has found not to be so.
    pub not_proved: Vec<&'static str>,
}

/// Checks the ledger at `path` and looks for `session` in it. `expected_head` is the hash that its last
/// line must have, kept elsewhere.
///
/// # Errors
/// A line is not as it was written, or the last one is not the one that is expected.
pub fn verify_ledger(
    path: &Path,
    session: &SessionMetadata,
    expected_head: Option<Hash>,
) -> Result<LedgerVerification, VerifyError> {
    check_session_id(&session.session_id)?;
    let digest = session_digest(session);
    let (mut records, mut head) = (0, None);
    let (mut is_found, mut was_entered, mut matches) = (false, false, false);
    let file = match regular::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(VerifyError::io(path, error)),
    };
    let is_there = file.is_some();
    let mut lines = file.map(|file| Lines::new(BufReader::new(file)));
    while let Some(lines) = &mut lines
        && let Some(line) = lines.next().map_err(|error| VerifyError::io(path, error))?
    {
        let number = line.number;
        let wrong = |reason| VerifyError::invalid(format!("audit ledger line {number}: {reason}"));
        let text = line.text.map_err(wrong)?;
        if text.trim().is_empty() {
            continue;
        }
        let record = follow(text, records, head).map_err(wrong)?;
        (records, head) = (records + 1, Some(record.chain_hash));
        if record.session_id == session.session_id {
            matches = record.session_digest == digest;
            (is_found, was_entered) = (true, was_entered || matches);
        }
    }
    if expected_head.is_some() && head != expected_head {
        return Err(VerifyError::invalid(
            "the audit ledger does not end with the head that is expected: lines are missing or added",
        ));
    }
    let said = [
        ("ledger_chain", is_there),
        ("session_entry", is_found),
        ("session_digest", matches),
        ("completeness", expected_head.is_some()),
        // Whoever can write the file can write it anew.
        ("authorship", false),
    ];
    let named = |wanted| move |(name, is_so)| (is_so == wanted).then_some(name);
    Ok(LedgerVerification {
        hash_algorithm: AuditIntegrity::HASH_ALGORITHM,
        entry_count: records,
        session_digest: digest,
        session_found: is_found,
        session_digest_matches: matches,
        later_entry_differs: was_entered && !matches,
        ledger_chain_verified: is_there,
        ledger_head: head,
        complete: expected_head.is_some(),
        proved: said.into_iter().filter_map(named(true)).collect(),
        not_proved: said.into_iter().filter_map(named(false)).collect(),
    })
}

/// Reads a line that should be number `sequence` and follow `head`.
fn follow(text: &str, sequence: u64, head: Option<Hash>) -> Result<LedgerRecord, String> {
    let record: LedgerRecord =
        object(text).map_err(|reason| format!("it is no record: {reason}"))?;
    if record.sequence != sequence {
        return Err(format!("sequence mismatch (expected {sequence}, got {})", record.sequence));
    }
    if record.prev_chain != head {
        return Err("prev_chain mismatch: it does not follow the line before it".into());
    }
    if record.chain_hash != record.hash() {
        return Err("chain hash mismatch".into());
    }
    check_session_id(&record.session_id).map_err(|error| error.to_string())?;
    Ok(record)
}
