//! An exchange as a span: what the proxy, as a server, did for its client.

use std::time::Duration;

use super::attributes::{Attributes, failure, name};
use super::wire::Message;
use crate::{Record, SpanContext};

/// The numbers of the fields of `Span`.
mod field {
    pub(super) const TRACE_ID: u64 = 1;
    pub(super) const SPAN_ID: u64 = 2;
    pub(super) const PARENT_SPAN_ID: u64 = 4;
    pub(super) const NAME: u64 = 5;
    pub(super) const KIND: u64 = 6;
    pub(super) const START_TIME: u64 = 7;
    pub(super) const END_TIME: u64 = 8;
    pub(super) const ATTRIBUTES: u64 = 9;
    pub(super) const STATUS: u64 = 15;
    pub(super) const FLAGS: u64 = 16;
    /// Those of its `Status`.
    pub(super) const MESSAGE: u64 = 2;
    pub(super) const CODE: u64 = 3;
}

/// `SpanKind.SERVER` and `StatusCode.ERROR`.
const SERVER: u64 = 2;
const ERROR: u64 = 2;

/// That the span is recorded, which it is whatever its parent says: a client must not be able to
/// hide what it does.
const SAMPLED: u32 = 1;

/// That it is known whether the parent is of another process; and that it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Writes the span of the exchange whose end `record` tells of.
pub(super) fn write(span: &mut Message, record: &Record) {
    let own = SpanContext::of(record);
    span.bytes(field::TRACE_ID, &own.trace.get().to_be_bytes());
    span.bytes(field::SPAN_ID, &own.span.get().to_be_bytes());
    let mut flags = SAMPLED | HAS_IS_REMOTE;
    if let Some(parent) = record.traceparent.as_deref() {
        span.bytes(field::PARENT_SPAN_ID, &parent.span.get().to_be_bytes());
        flags |= IS_REMOTE;
    }
    span.text(field::NAME, &name(record));
    span.varint(field::KIND, SERVER);
    span.fixed64(field::START_TIME, nanoseconds(record.timestamp_unix_ms));
    span.fixed64(field::END_TIME, end(record));
    Attributes::new(span, field::ATTRIBUTES).of_span(record);
    if failure(record).is_some() {
        span.nested(field::STATUS, |status| {
            status.text(field::MESSAGE, record.reason.as_deref().unwrap_or_default());
            status.varint(field::CODE, ERROR);
        });
    }
    span.fixed32(field::FLAGS, flags);
}

/// When what `record` tells of was over, since the Unix epoch.
pub(super) fn end(record: &Record) -> u64 {
    let took = Duration::try_from_secs_f64(record.duration_ms / 1000.0).unwrap_or_default();
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    nanoseconds(record.timestamp_unix_ms).saturating_add(took)
}

pub(super) fn nanoseconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_mul(1_000_000)
}
