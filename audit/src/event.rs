//! What a session's log tells of: its beginning and end, and what was decided meanwhile.
//!
//! The JSON is that of the `nono` tools, key by key and in their order.

mod read;

use serde::{Deserialize, Serialize};

use crate::Record;
use crate::canonical::ascii;
use crate::network_event::NetworkEvent;

pub(crate) use read::read;
pub use read::{InvalidEvent, normalised};

/// One event of a session's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionEvent {
    /// The session began.
    SessionStarted(SessionStarted),
    /// The session ended.
    SessionEnded(SessionEnded),
    /// Somebody decided about a path.
    CapabilityDecision(CapabilityDecision),
    /// The session asked for a URL to be opened.
    UrlOpen(UrlOpen),
    /// The session asked for something of the network.
    Network(Network),
}

/// The beginning of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStarted {
    /// When, as [`timestamp`](crate::timestamp) writes it.
    pub started: String,
    /// What ran, argument by argument.
    pub command: Vec<String>,
    /// How the command was redacted, if that differs from the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction_policy: Option<ScrubPolicyDiff>,
}

/// What a policy of redaction adds to the default, and what it takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ScrubPolicyDiff {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added_flags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_flags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added_headers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_headers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added_query_keys: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_query_keys: Vec<String>,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnded {
    /// When, as [`timestamp`](crate::timestamp) writes it.
    pub ended: String,
    /// How the command ended; `-N` for signal N.
    pub exit_code: i64,
}

/// A decision about a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityDecision {
    /// Of what, and how.
    pub entry: AuditEntry,
}

/// What was asked for, and the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// When.
    pub timestamp: String,
    /// What was asked for.
    pub request: CapabilityRequest,
    /// The answer.
    pub decision: Approval,
    /// Who gave it.
    pub backend: String,
    /// How long that took, in milliseconds.
    pub duration_ms: i64,
}

/// A path that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityRequest {
    /// Tells requests apart.
    pub request_id: String,
    /// The path.
    pub path: String,
    /// What for.
    pub access: Access,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// The process that asked.
    pub child_pid: i64,
    /// The session that it belongs to.
    pub session_id: String,
}

/// What a path is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the format")]
pub enum Access {
    Read,
    Write,
    ReadWrite,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// It was granted.
    Granted,
    /// Nobody answered in time.
    Timeout,
    /// It was denied.
    Denied(Denial),
}

/// Why a request was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// In words.
    pub reason: String,
}

/// A URL that was to be opened outside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlOpen {
    /// Which one, and who asked.
    pub request: UrlOpenRequest,
    /// Whether it was opened.
    pub success: bool,
    /// Why not.
    #[serde(default)]
    pub error: Option<String>,
}

/// A URL, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlOpenRequest {
    /// Tells requests apart.
    pub request_id: String,
    /// The URL.
    pub url: String,
    /// The process that asked.
    pub child_pid: i64,
    /// The session that it belongs to.
    pub session_id: String,
}

/// Something of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What, and what was decided.
    pub event: NetworkEvent,
}

impl From<&Record> for SessionEvent {
    /// What a session's log tells of an exchange of its proxy.
    fn from(record: &Record) -> Self {
        Self::Network(Network { event: record.into() })
    }
}

impl SessionEvent {
    /// The text that is hashed.
    pub(crate) fn text(&self) -> serde_json::Result<String> {
        Ok(ascii(&serde_json::to_string(self)?).into_owned())
    }
}

#[cfg(test)]
mod tests;
