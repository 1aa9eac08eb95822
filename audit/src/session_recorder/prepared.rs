//! What a session begins with: what its directory was prepared for, if it was, and its name.

use std::io;
use std::path::{Path, PathBuf};

use super::{RecordError, about, is_taken};
use crate::{SESSION_FILENAME, SessionMetadata, regular, timestamp};

/// Bytes of the number that tells sessions of one second apart.
const ID_BYTES: usize = 4;
/// What an id may have at most, so that a ledger takes it.
const LONGEST_ID: usize = 64;
/// How long a prepared `session.json` may be: with what is added to it, readers still take it.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The session that begins now in `directory`, with all that is kept there of it.
///
/// # Errors
/// There is a session that has run, or something else.
pub(super) fn session(
    directory: &Path,
    command: Vec<String>,
    tracked_paths: Option<Vec<PathBuf>>,
) -> Result<SessionMetadata, RecordError> {
    let known = match prepared(directory)? {
        Some(known) => known,
        None => SessionMetadata::new(id_for(directory)?, Vec::new(), Vec::new()),
    };
    Ok(SessionMetadata {
        // It is the run that has a beginning and an end.
        started: timestamp(),
        command,
        tracked_paths: tracked_paths.unwrap_or(known.tracked_paths),
        ..known
    })
}

/// The session that `directory` was prepared for, if it has not run.
fn prepared(directory: &Path) -> Result<Option<SessionMetadata>, RecordError> {
    let path = directory.join(SESSION_FILENAME);
    let text = match regular::read_within(&path, MAX_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(about(&path)(error)),
    };
    let known = SessionMetadata::from_json(&text).map_err(io::Error::from).map_err(about(&path))?;
    let has_run = known.ended.is_some()
        || known.exit_code.is_some()
        || known.audit_integrity.is_some()
        || known.audit_attestation.is_some();
    if has_run { Err(about(&path)(is_taken())) } else { Ok(Some(known)) }
}

/// What a session in `directory` is called: by the directory if a ledger takes that for a name,
/// else by the time and a random number.
fn id_for(directory: &Path) -> Result<String, RecordError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if (1..=LONGEST_ID).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    let mut random = [0; ID_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other).map_err(about(directory))?;
    let time: String = timestamp().chars().filter(char::is_ascii_digit).collect();
    Ok(format!("{time}-{:08x}", u32::from_be_bytes(random)))
}

/// The roots of a session's snapshots: those that were noted, of which some may be gone, and those that
/// are found now, each once unless there are several of it now.
pub(super) fn roots(noted: Vec<String>, found: Vec<String>) -> Vec<String> {
    let mut roots = noted;
    roots.retain(|root| !found.contains(root));
    roots.extend(found);
    roots
}
