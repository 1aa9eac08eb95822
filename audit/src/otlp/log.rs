//! A record as a log record.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use super::attributes::{Attributes, failure};
use super::span::{end, nanoseconds};
use crate::recorder::unix_ms;
use crate::{Decision, Phase, Record, SpanContext};

/// The log record of `record`, in the trace that its exchange is in.
pub(super) fn log(record: &Record) -> LogRecord {
    let (trace_id, span_id) = match record.phase {
        Phase::Gap => (Vec::new(), Vec::new()),
        Phase::Open | Phase::End => {
            let own = SpanContext::of(record);
            (own.trace.get().to_be_bytes().to_vec(), own.span.get().to_be_bytes().to_vec())
        }
    };
    let is_warning = record.decision == Decision::Deny || failure(record).is_some();
    let (severity, severity_text) =
        if is_warning { (SeverityNumber::Warn, "WARN") } else { (SeverityNumber::Info, "INFO") };
    LogRecord {
        time_unix_nano: end(record),
        observed_time_unix_nano: nanoseconds(unix_ms()),
        severity_number: severity.into(),
        severity_text: severity_text.into(),
        body: Some(AnyValue { value: Some(Value::StringValue(sentence(record))) }),
        attributes: Attributes::of_log(record).into_vec(),
        flags: u32::from(!trace_id.is_empty()),
        trace_id,
        span_id,
        event_name: event(record.phase).into(),
        ..LogRecord::default()
    }
}

fn event(phase: Phase) -> &'static str {
    match phase {
        Phase::Open => "nono.tunnel.opened",
        Phase::End => "nono.exchange",
        Phase::Gap => "nono.gap",
    }
}

/// For who reads the log: who asked what, and what came of it.
fn sentence(record: &Record) -> String {
    let reason = record.reason.as_deref().unwrap_or_default();
    if record.phase == Phase::Gap {
        return format!("{} records dropped: {reason}", record.dropped.unwrap_or_default());
    }
    let method = record.method.as_deref().unwrap_or("-");
    let status = record.status.map_or(Cow::Borrowed("-"), |status| status.to_string().into());
    format!(
        "{method} {}{} {} {status} {}",
        record.target,
        record.path.as_deref().unwrap_or_default(),
        record.decision.as_str(),
        record.outcome.as_str(),
    )
}
