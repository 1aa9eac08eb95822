//! Reading what programs hand in, strictly: a key that is not known, and a word that is none of the
//! format's, is an error that names it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AuditEntry, CapabilityRequest, ScrubPolicyDiff, SessionEvent, UrlOpenRequest};
use crate::canonical::Node;
use crate::error::reason;
use crate::network_event::{NetworkEvent, WORDS};
use crate::{Hash, shape};

impl SessionEvent {
    /// Reads an event from JSON.
    ///
    /// # Errors
    /// It is no event of the format.
    pub fn from_json(text: &str) -> Result<Self, InvalidEvent> {
        Self::read(Node::read(text).map_err(InvalidEvent::of("event"))?)
    }

    fn read(mut node: Node) -> Result<Self, InvalidEvent> {
        let kind = node.take("type").map(|kind| kind.text());
        Ok(match kind.as_deref().map(|kind| kind.trim_matches('"')) {
            Some("session_started") => Self::SessionStarted(read("session_started", &node)?),
            Some("session_ended") => Self::SessionEnded(read("session_ended", &node)?),
            Some("capability_decision") => {
                Self::CapabilityDecision(read("capability_decision", &node)?)
            }
            Some("url_open") => Self::UrlOpen(read("url_open", &node)?),
            Some("network") => {
                if let Some(event) = node.get("event") {
                    check_network("network.event", event)?;
                }
                Self::Network(read("network", &node)?)
            }
            Some(other) => {
                let kinds =
                    "session_started, session_ended, capability_decision, url_open, network";
                let reason = format!("type: unknown type {other}, expected one of {kinds}");
                return Err(InvalidEvent { at: "event".into(), reason });
            }
            None => return Err(InvalidEvent::of("event")("type: missing field `type`".into())),
        })
    }
}

/// Reads what [`SessionEvent`]s are made of, by the name that it has in Python, and returns it
/// as the format has it: keys in their order, without those that may be left out.
///
/// # Errors
/// It is none, or there is no such name.
pub fn normalised(model: &str, text: &str) -> Result<String, InvalidEvent> {
    let mut node = Node::read(text).map_err(InvalidEvent::of(model))?;
    let kind = match model {
        "SessionStartedEvent" => "session_started",
        "SessionEndedEvent" => "session_ended",
        "CapabilityDecisionEvent" => "capability_decision",
        "UrlOpenEvent" => "url_open",
        "NetworkEvent" => "network",
        "AuditEntryPayload" => return again::<AuditEntry>(model, &node),
        "CapabilityRequestPayload" => return again::<CapabilityRequest>(model, &node),
        "UrlOpenRequestPayload" => return again::<UrlOpenRequest>(model, &node),
        "ScrubPolicyDiffPayload" => return again::<ScrubPolicyDiff>(model, &node),
        "NetworkAuditEventPayload" => {
            check_network(model, &node)?;
            return again::<NetworkEvent>(model, &node);
        }
        "AuditEventRecord" => {
            let missing = || InvalidEvent::of(model)("event: missing field `event`".into());
            let event = SessionEvent::read(node.take("event").ok_or_else(missing)?)?;
            let line: Line = read(model, &node)?;
            return write(model, &Whole { line, event });
        }
        _ => return Err(InvalidEvent::of(model)("there is no such model".into())),
    };
    match node.get("type").map(Node::text) {
        Some(found) if found == format!("\"{kind}\"") => write(model, &SessionEvent::read(node)?),
        Some(found) => Err(InvalidEvent::of(model)(format!("type: {found} should be \"{kind}\""))),
        None => Err(InvalidEvent::of(model)("type: missing field `type`".into())),
    }
}

/// A line of a log but for its event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sequence: u64,
    #[serde(default)]
    prev_chain: Option<Hash>,
    leaf_hash: Hash,
    chain_hash: Hash,
    #[serde(default)]
    event_json: Option<String>,
}

#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    line: Line,
    event: SessionEvent,
}

fn again<T: Serialize + DeserializeOwned>(at: &str, node: &Node) -> Result<String, InvalidEvent> {
    write(at, &read::<T>(at, node)?)
}

fn write(at: &str, value: &impl Serialize) -> Result<String, InvalidEvent> {
    serde_json::to_string(value).map_err(|error| InvalidEvent::of(at)(error.to_string()))
}

/// Reads a value of the format; what is wrong with it is named by its path.
pub(crate) fn read<T>(at: &str, node: &Node) -> Result<T, InvalidEvent>
where
    T: Serialize + DeserializeOwned,
{
    if node.members().is_none() {
        return Err(InvalidEvent::of(at)("it is no JSON object".into()));
    }
    let text = node.text();
    let mut reader = serde_json::Deserializer::from_str(&text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let reason = reason(error.inner());
        InvalidEvent::of(at)(match path.as_str() {
            "." => reason,
            path => format!("{path}: {reason}"),
        })
    })?;
    shape::check(node, &value).map_err(InvalidEvent::of(at))?;
    Ok(value)
}

/// Whether the keys and words of an event of the network are those of the format. Sessions are read
/// less strictly, since there are tools that have more of them.
fn check_network(at: &str, node: &Node) -> Result<(), InvalidEvent> {
    let no_object = || InvalidEvent::of(at)("it is no JSON object".into());
    for (written, value) in node.members().ok_or_else(no_object)? {
        let key = written.trim_matches('"');
        if !NetworkEvent::KEYS.contains(&key) {
            return Err(InvalidEvent::of(at)(format!("{key}: unknown field `{key}`")));
        }
        let (Some(words), Node::Plain(text)) = (words(key), value) else {
            continue;
        };
        let is_known = words.iter().any(|word| text.trim_matches('"') == *word);
        if text.starts_with('"') && !is_known {
            let expected = words.join(", ");
            return Err(InvalidEvent::of(at)(format!("{key}: {text} is none of {expected}")));
        }
    }
    Ok(())
}

fn words(key: &str) -> Option<Vec<&'static str>> {
    let (_, words) = WORDS.iter().find(|(name, _)| *name == key)?;
    Some(words.concat())
}

/// What is not as the format has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEvent {
    at: String,
    reason: String,
}

impl InvalidEvent {
    fn of(at: &str) -> impl FnOnce(String) -> Self {
        let at = at.to_owned();
        move |reason| Self { at, reason }
    }
}

impl std::fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.reason)
    }
}

impl std::error::Error for InvalidEvent {}
