//! The digest of a session: one hash of all that its `session.json` keeps, so that it can be
//! signed and written to a ledger.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::VerifyError;
use crate::canonical::Node;
use crate::hash::{Hash, domain};
use crate::network_event::NetworkEvent;
use crate::session::{AuditAttestation, AuditIntegrity, SessionMetadata};

/// What the digest is of: JSON of these, paths as lists of their bytes.
#[derive(Serialize)]
struct Protected<'a> {
    session_id: &'a str,
    started: &'a str,
    ended: Option<&'a str>,
    command: &'a [String],
    executable_identity: Option<Identity<'a>>,
    tracked_paths: Vec<Bytes<'a>>,
    snapshot_count: u32,
    exit_code: Option<i32>,
    merkle_roots: &'a [String],
    network_events: &'a [NetworkEvent],
    audit_event_count: u64,
    audit_integrity: Option<&'a AuditIntegrity>,
    audit_attestation: Option<&'a AuditAttestation>,
}

/// The keys of it, all of which a session must have for that.
const KEYS: [&str; 13] = [
    "session_id",
    "started",
    "ended",
    "command",
    "executable_identity",
    "tracked_paths",
    "snapshot_count",
    "exit_code",
    "merkle_roots",
    "network_events",
    "audit_event_count",
    "audit_integrity",
    "audit_attestation",
];

#[derive(Serialize)]
struct Identity<'a> {
    resolved_path: Bytes<'a>,
    sha256: &'a str,
}

struct Bytes<'a>(&'a OsStr);

impl<'a> From<&'a Path> for Bytes<'a> {
    fn from(path: &'a Path) -> Self {
        Self(path.as_os_str())
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.as_bytes())
    }
}

/// The digest of `session`.
pub fn session_digest(session: &SessionMetadata) -> Hash {
    let identity = session.executable_identity.as_ref();
    let protected = Protected {
        session_id: &session.session_id,
        started: &session.started,
        ended: session.ended.as_deref(),
        command: &session.command,
        executable_identity: identity.map(|identity| Identity {
            resolved_path: identity.resolved_path.as_path().into(),
            sha256: &identity.sha256,
        }),
        tracked_paths: session.tracked_paths.iter().map(|path| path.as_path().into()).collect(),
        snapshot_count: session.snapshot_count,
        exit_code: session.exit_code,
        merkle_roots: &session.merkle_roots,
        network_events: &session.network_events,
        audit_event_count: session.audit_event_count,
        audit_integrity: session.audit_integrity.as_ref(),
        audit_attestation: session.audit_attestation.as_ref(),
    };
    // Strings and numbers are always JSON.
    let text = serde_json::to_vec(&protected).unwrap_or_default();
    Hash::of(&[domain::SESSION_DIGEST, &text])
}

/// Reads the whole of a session from JSON, where nothing that the digest is of may be left out.
///
/// # Errors
/// Something is missing, there twice, or of the wrong type; it is named.
pub fn whole_session(json: &str) -> Result<SessionMetadata, VerifyError> {
    let session = Node::read(json).map_err(|reason| wrong(&reason))?;
    let missing = missing(&session);
    if !missing.is_empty() {
        return Err(VerifyError::invalid(format!(
            "session metadata is missing protected digest fields: {}",
            missing.join(", ")
        )));
    }
    crate::event::read("session metadata", &session)
        .map_err(|error| VerifyError::invalid(error.to_string()))
}

/// What of it `session` does not have.
pub(crate) fn missing(session: &Node) -> Vec<&'static str> {
    KEYS.into_iter().filter(|key| session.get(key).is_none()).collect()
}

fn wrong(reason: &str) -> VerifyError {
    VerifyError::invalid(format!("session metadata: {reason}"))
}
