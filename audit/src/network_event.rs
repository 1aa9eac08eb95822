//! A decision about the network, as sessions and their logs tell of it.

use serde::{Deserialize, Serialize};

use crate::error::object;
use crate::{AuthMechanism, AuthOutcome, Decision, DenialCategory, InjectionMode, Mode, Record};

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
                Mode::External => EventMode::External,
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
