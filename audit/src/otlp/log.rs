//! A record as a log record.

use std::borrow::Cow;

use super::attributes::{Attributes, STRING_VALUE, failure};
use super::span::{end, nanoseconds};
use super::wire::Message;
use crate::recorder::unix_ms;
use crate::{Decision, Phase, Record, SpanContext};

/// The numbers of the fields of `LogRecord`.
mod field {
    pub(super) const TIME: u64 = 1;
    pub(super) const SEVERITY_NUMBER: u64 = 2;
    pub(super) const SEVERITY_TEXT: u64 = 3;
    pub(super) const BODY: u64 = 5;
    pub(super) const ATTRIBUTES: u64 = 6;
    pub(super) const FLAGS: u64 = 8;
    pub(super) const TRACE_ID: u64 = 9;
    pub(super) const SPAN_ID: u64 = 10;
    pub(super) const OBSERVED_TIME: u64 = 11;
    pub(super) const EVENT_NAME: u64 = 12;
}

/// `SEVERITY_NUMBER_INFO` and `SEVERITY_NUMBER_WARN`.
const INFO: u64 = 9;
const WARN: u64 = 13;

/// That the span that the log record is in is recorded.
const SAMPLED: u32 = 1;

/// Writes the log record of `record`, in the trace that its exchange is in.
pub(super) fn write(log: &mut Message, record: &Record) {
    let is_warning = record.decision == Decision::Deny || failure(record).is_some();
    let (number, text) = if is_warning { (WARN, "WARN") } else { (INFO, "INFO") };
    log.fixed64(field::TIME, end(record));
    log.fixed64(field::OBSERVED_TIME, nanoseconds(unix_ms()));
    log.varint(field::SEVERITY_NUMBER, number);
    log.text(field::SEVERITY_TEXT, text);
    log.nested(field::BODY, |body| body.text(STRING_VALUE, &sentence(record)));
    Attributes::new(log, field::ATTRIBUTES).of_log(record);
    if record.phase != Phase::Gap {
        let own = SpanContext::of(record);
        log.fixed32(field::FLAGS, SAMPLED);
        log.bytes(field::TRACE_ID, &own.trace.get().to_be_bytes());
        log.bytes(field::SPAN_ID, &own.span.get().to_be_bytes());
    }
    log.text(field::EVENT_NAME, event(record.phase));
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
