//! What a collector says to what it was sent.

use prost::Message as _;

/// The longest explanation that is passed on, in bytes.
const LONGEST: usize = 200;

/// What a collector took of a request only in part did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// How many log records or spans.
    pub count: u64,
    /// Why, in its words; may be empty.
    pub reason: String,
}

impl Rejected {
    /// What an answer of success says to have rejected; `None` when that is nothing.
    pub fn read(answer: &[u8]) -> Option<Self> {
        let partial = Response::decode(answer).ok()?.partial_success?;
        let count = u64::try_from(partial.rejected).ok()?;
        (count > 0).then(|| Self { count, reason: shown(&partial.error_message) })
    }
}

/// Why a request failed, in the collector's words: the message of the `Status` that it answers.
pub fn explanation(answer: &[u8]) -> Option<String> {
    let status = Status::decode(answer).ok()?;
    let text = shown(&status.message);
    (!text.is_empty()).then_some(text)
}

/// `ExportLogsServiceResponse`, and `ExportTraceServiceResponse`, which is the same.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`, of which the message is of interest.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// Text from outside, in one line and not too long.
fn shown(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::redact::cut(&mut line, LONGEST);
    line
}
