//! What is kept of a session: what ran, when, on what, and how it went.
//!
//! The JSON is that of the `nono` tools, key by key and in their order, so that either reads what
//! the other wrote.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::canonical::Node;
use crate::{NetworkEvent, shape};

/// One session, as it stands in its `session.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMetadata {
    /// What the session is called.
    pub session_id: String,
    /// When it began: UTC, in seconds, as RFC 3339 writes it.
    pub started: String,
    /// When it ended, in the same form.
    #[serde(default)]
    pub ended: Option<String>,
    /// What ran, argument by argument.
    pub command: Vec<String>,
    /// Which file was executed.
    #[serde(default)]
    pub executable_identity: Option<ExecutableIdentity>,
    /// What its snapshots are of.
    pub tracked_paths: Vec<PathBuf>,
    /// How many snapshots it has.
    pub snapshot_count: u32,
    /// How the command ended.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The roots of its snapshots, each 64 hexadecimal digits.
    pub merkle_roots: Vec<String>,
    /// What it asked of the network.
    #[serde(default)]
    pub network_events: Vec<NetworkEvent>,
    /// How many events its log has.
    #[serde(default)]
    pub audit_event_count: u64,
    /// What its log comes to.
    #[serde(default)]
    pub audit_integrity: Option<AuditIntegrity>,
    /// What its log is signed with.
    #[serde(default)]
    pub audit_attestation: Option<AuditAttestation>,
}

/// A file that was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutableIdentity {
    /// Where it is, without links.
    pub resolved_path: PathBuf,
    /// The SHA-256 of its content, 64 hexadecimal digits.
    pub sha256: String,
}

/// What a log of events comes to: enough to see later that nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditIntegrity {
    /// `sha256`.
    pub hash_algorithm: String,
    /// How many events there are.
    pub event_count: u64,
    /// The hash of the last link of the chain, 64 hexadecimal digits.
    pub chain_head: String,
    /// The root over all events, 64 hexadecimal digits.
    pub merkle_root: String,
}

impl AuditIntegrity {
    /// The one algorithm that there is.
    pub const HASH_ALGORITHM: &str = "sha256";
}

/// Who signed a log, and where the signature is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAttestation {
    /// What the signed statement says, as a URL.
    pub predicate_type: String,
    /// The SHA-256 of the public key, 64 hexadecimal digits.
    pub key_id: String,
    /// The public key.
    pub public_key: String,
    /// The file with the signature, beside the log.
    pub bundle_filename: String,
}

impl SessionMetadata {
    /// A session that begins now.
    pub fn new(session_id: String, command: Vec<String>, tracked_paths: Vec<PathBuf>) -> Self {
        Self {
            session_id,
            started: timestamp(),
            ended: None,
            command,
            executable_identity: None,
            tracked_paths,
            snapshot_count: 0,
            exit_code: None,
            merkle_roots: Vec::new(),
            network_events: Vec::new(),
            audit_event_count: 0,
            audit_integrity: None,
            audit_attestation: None,
        }
    }

    /// The text of `session.json`.
    ///
    /// # Errors
    ///
    /// If a path is no UTF-8, for which the format has no place.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Reads what [`to_json`](Self::to_json) wrote, or another tool.
    ///
    /// # Errors
    ///
    /// With line and column, if the text is no such object.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        // A list would be taken for an object whose keys are left out.
        if text.trim_start().starts_with('[') {
            return Err(de::Error::custom("not a JSON object"));
        }
        let session = serde_json::from_str(text)?;
        let node = Node::read(text).map_err(de::Error::custom)?;
        shape::check(&node, &session).map_err(de::Error::custom)?;
        Ok(session)
    }
}

/// The time now as sessions write it.
pub fn timestamp() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_its_json() {
        let mut session =
            SessionMetadata::new("s".to_owned(), vec!["sh".to_owned()], vec!["/a".into()]);
        session.merkle_roots.push("0".repeat(64));
        let text = session.to_json().expect("UTF-8");
        assert_eq!(SessionMetadata::from_json(&text).expect("its own text"), session);
        assert!(session.started.ends_with('Z') && session.started.len() == 20);
    }

    #[test]
    fn what_is_not_required_may_be_absent() {
        let text = r#"{"session_id": "s", "started": "t", "command": [], "tracked_paths": [],
            "snapshot_count": 0, "merkle_roots": []}"#;
        let session = SessionMetadata::from_json(text).expect("all that is required");
        assert_eq!(session.network_events, []);
        assert!(SessionMetadata::from_json("{}").is_err());
        let list = r#"["s", "t", null, [], null, [], 0, null, []]"#;
        assert!(SessionMetadata::from_json(list).is_err());
    }
}
