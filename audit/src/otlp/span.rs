//! An exchange as a span: what the proxy, as a server, did for its client.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use super::attributes::{Attributes, failure, name};
use crate::{Record, SpanContext};

/// That the span is recorded, which it is whatever its parent says: a client must not be able to
/// hide what it does.
const SAMPLED: u32 = 1;

/// The span of the exchange whose end `record` tells of.
pub(super) fn span(record: &Record) -> Span {
    let own = SpanContext::of(record);
    let parent = record.traceparent.as_deref();
    let parent_span_id = parent.map(|parent| parent.span.get().to_be_bytes().to_vec());
    let origin = if parent.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    Span {
        trace_id: own.trace.get().to_be_bytes().to_vec(),
        span_id: own.span.get().to_be_bytes().to_vec(),
        parent_span_id: parent_span_id.unwrap_or_default(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32 | origin,
        name: name(record),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanoseconds(record.timestamp_unix_ms),
        end_time_unix_nano: end(record),
        attributes: Attributes::of_span(record).into_vec(),
        status: Some(status(record)),
        ..Span::default()
    }
}

fn status(record: &Record) -> Status {
    match failure(record) {
        Some(_) => Status {
            code: StatusCode::Error.into(),
            message: record.reason.as_deref().unwrap_or_default().to_owned(),
        },
        None => Status::default(),
    }
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
