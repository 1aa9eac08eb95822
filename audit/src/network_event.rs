//! A decision about the network, as sessions and their logs tell of it.

use serde::{Deserialize, Serialize};

use crate::error::object;
use crate::recorder::unix_ms;
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
    /// Reads an event from JSON, as records are shown; keys besides its own are passed over, and so
    /// are words that the format has not.
    ///
    /// # Errors
    /// It is no object, or none of the format; in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let event: Self = object(text)?;
        Ok(Self {
            auth_outcome: event.auth_outcome.as_deref().and_then(of_format),
            denial_category: event.denial_category.as_deref().and_then(of_format),
            ..event
        })
    }

    /// What stands for events that are not there, and says which in `reason`: the format has no
    /// word for that, and they are no request that was refused.
    pub(crate) fn gap(reason: String) -> Self {
        Self::refused(EventMode::Reverse, reason)
    }

    /// Something that is refused now, of which nothing else is known.
    pub fn refused(mode: EventMode, reason: String) -> Self {
        Self {
            timestamp_unix_ms: unix_ms(),
            mode,
            decision: EventDecision::Deny,
            route_id: None,
            auth_mechanism: None,
            auth_outcome: None,
            managed_credential_active: None,
            injection_mode: None,
            denial_category: None,
            target: String::new(),
            port: None,
            method: None,
            path: None,
            status: None,
            reason: Some(reason),
        }
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
            auth_outcome: record.auth_outcome.and_then(|word| of_format(word.as_str())),
            managed_credential_active: record.managed_credential_active,
            injection_mode: record.injection_mode.map(|word| word.as_str().into()),
            denial_category: record.denial_category.and_then(|word| of_format(word.as_str())),
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
            Some(format!("no request, but {count} that are not recorded: {}", reason.unwrap_or("")))
        }
    }
}

/// A word, if the format has it: other tools read no event with another. What it was is in
/// `reason`.
fn of_format(word: &str) -> Option<String> {
    let own = [
        AuthOutcome::NotRequired.as_str(),
        DenialCategory::InvalidRequest.as_str(),
        DenialCategory::UnknownRoute.as_str(),
        DenialCategory::OverLimit.as_str(),
        DenialCategory::UpstreamFailed.as_str(),
    ];
    (!own.contains(&word)).then(|| word.to_owned())
}

/// How the network was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of `Mode`")]
pub enum EventMode {
    Connect,
    ConnectIntercept,
    Reverse,
    External,
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
