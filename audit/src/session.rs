//! What is kept of a session: what ran, when, on what, and how it went.
//!
//! The JSON is that of the `nono` tools, key by key and in their order, so that either reads what
//! the other wrote.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::canonical::Node;
use crate::error::object;
use crate::{
    AuthMechanism, AuthOutcome, Decision, DenialCategory, InjectionMode, Mode, Record, shape,
};

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

/// One decision about the network. What does not apply is absent or `null`, as in the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of `Record`, by the same names")]
pub struct NetworkEvent {
    pub timestamp_unix_ms: u64,
    pub mode: EventMode,
    pub decision: EventDecision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_mechanism: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_credential_active: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial_category: Option<String>,
    pub target: String,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub reason: Option<String>,
}

impl NetworkEvent {
    /// Reads an event from JSON; keys besides its own are passed over.
    ///
    /// # Errors
    /// It is no object, or none of the format; in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        object(text)
    }

    /// The keys of an event, in the order in which records are shown.
    pub const KEYS: [&str; 15] = [
        "timestamp_unix_ms",
        "mode",
        "decision",
        "target",
        "port",
        "method",
        "path",
        "status",
        "reason",
        "route_id",
        "auth_mechanism",
        "auth_outcome",
        "managed_credential_active",
        "injection_mode",
        "denial_category",
    ];
}

/// The words that the format has for the keys that take one, besides those that are enumerations
/// here: this package's own, and those of the `nono` tools.
pub(crate) const WORDS: [(&str, [&[&str]; 2]); 4] = [
    ("auth_mechanism", [AuthMechanism::WORDS, &[]]),
    ("auth_outcome", [AuthOutcome::WORDS, &[]]),
    ("injection_mode", [InjectionMode::WORDS, &["oauth2"]]),
    ("denial_category", [DenialCategory::WORDS, &[]]),
];

impl From<&Record> for NetworkEvent {
    fn from(record: &Record) -> Self {
        Self {
            timestamp_unix_ms: record.timestamp_unix_ms,
            mode: match record.mode {
                Mode::Connect => EventMode::Connect,
                Mode::ConnectIntercept => EventMode::ConnectIntercept,
                Mode::Reverse => EventMode::Reverse,
            },
            decision: match record.decision {
                Decision::Allow => EventDecision::Allow,
                Decision::Deny => EventDecision::Deny,
            },
            route_id: record.route_id.as_deref().map(Into::into),
            auth_mechanism: record.auth_mechanism.map(|word| word.as_str().into()),
            auth_outcome: record.auth_outcome.and_then(outcome),
            managed_credential_active: record.managed_credential_active,
            injection_mode: record.injection_mode.map(|word| word.as_str().into()),
            denial_category: record.denial_category.and_then(category),
            target: record.target.to_string(),
            port: record.port,
            method: record.method.as_deref().map(Into::into),
            path: record.path.as_deref().map(str::to_owned),
            status: record.status,
            reason: reason(record),
        }
    }
}

/// Why it was decided so. The format has no word for records that were lost: here it is said how
/// many there were, since they are no request that was refused.
fn reason(record: &Record) -> Option<String> {
    let reason = record.reason.as_deref();
    match record.dropped {
        None => reason.map(Into::into),
        Some(count) => {
            let reason = reason.unwrap_or_default();
            Some(format!("no request, but {count} that are not recorded: {reason}"))
        }
    }
}

/// The word of the format; it has none for a client that nobody asks for a token.
fn outcome(outcome: AuthOutcome) -> Option<String> {
    (outcome != AuthOutcome::NotRequired).then(|| outcome.as_str().to_owned())
}

/// The word of the format, if it has one: other tools read no event with another. What it was is
/// in `reason`.
fn category(category: DenialCategory) -> Option<String> {
    match category {
        DenialCategory::InvalidRequest
        | DenialCategory::UnknownRoute
        | DenialCategory::OverLimit
        | DenialCategory::UpstreamFailed => None,
        known => Some(known.as_str().to_owned()),
    }
}

/// How the network was reached. [`Forward`](Self::Forward) and [`Unknown`](Self::Unknown) are
/// this package's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of `Mode`")]
pub enum EventMode {
    Connect,
    ConnectIntercept,
    Reverse,
    External,
    Forward,
    Unknown,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "words of the format")]
pub enum EventDecision {
    Allow,
    Deny,
    ApproveRequested,
    ApproveGranted,
    ApproveDenied,
    ApproveTimeout,
    ApproveError,
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
