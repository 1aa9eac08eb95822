//! What a collector says to what it was sent.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use super::Signal;

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
    pub fn read(signal: Signal, answer: &[u8]) -> Option<Self> {
        let (count, reason) = match signal {
            Signal::Logs => {
                let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
                (partial.rejected_log_records, partial.error_message)
            }
            Signal::Spans => {
                let partial = ExportTraceServiceResponse::decode(answer).ok()?.partial_success?;
                (partial.rejected_spans, partial.error_message)
            }
        };
        let count = u64::try_from(count).ok()?;
        (count > 0).then(|| Self { count, reason: shown(&reason) })
    }
}

/// Why a request failed, in the collector's words: the message of the `Status` that it answers.
pub fn explanation(answer: &[u8]) -> Option<String> {
    let status = Status::decode(answer).ok()?;
    let text = shown(&status.message);
    (!text.is_empty()).then_some(text)
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
