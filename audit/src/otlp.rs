//! Records as messages of OTLP, the protocol of OpenTelemetry, in their binary form.
//!
//! Each record is a log record with everything that it holds; the end of an exchange is a span
//! besides. What the semantic conventions for HTTP have a name for goes by it (`url.path`,
//! `http.response.status_code`, …); all else is `nono.` and the name of the record's field.

mod answer;
mod attributes;
mod log;
mod span;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;

use crate::{Phase, Record, Session};
use attributes::Attributes;

pub use answer::{Rejected, explanation};

/// The version of the semantic conventions that the names are of.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// What is sent, each kind to an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A log record for each record.
    Logs,
    /// A span for each exchange that has ended.
    Spans,
}

impl Signal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Spans];

    /// The path that it is sent to, behind the collector's base address.
    pub fn path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Spans => "/v1/traces",
        }
    }

    /// Whether there is one of `record`.
    pub fn tells_of(self, record: &Record) -> bool {
        self == Self::Logs || record.phase == Phase::End
    }
}

/// Makes messages of one proxy's records.
#[derive(Debug)]
pub struct Encoder {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Encoder {
    /// For the records of `session`, of the service called `service`. Further `attributes` say
    /// more of it; they win over those that are known here.
    pub fn new(service: &str, session: Session, attributes: &[(String, String)]) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut about = Attributes::default();
        let (instance, process) = (session.to_string(), i64::from(std::process::id()));
        let is_given = |name: &str| attributes.iter().any(|(given, _)| given == name);
        for (name, value) in [
            ("service.name", service),
            ("service.version", version),
            ("service.instance.id", &instance),
        ] {
            about.text(name, (!is_given(name)).then_some(value));
        }
        about.number("process.pid", (!is_given("process.pid")).then_some(process));
        for (name, value) in attributes {
            about.text(name, Some(value));
        }
        Self {
            resource: Resource { attributes: about.into_vec(), ..Resource::default() },
            scope: InstrumentationScope {
                name: "nono".into(),
                version: version.into(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// The request that hands `records` over; `None` when there is nothing to hand over.
    pub fn encode(&self, signal: Signal, records: &[&Record]) -> Option<Vec<u8>> {
        let told = records.iter().copied().filter(|record| signal.tells_of(record));
        let mut records = told.peekable();
        records.peek()?;
        Some(match signal {
            Signal::Logs => self.logs(records),
            Signal::Spans => self.spans(records),
        })
    }

    fn logs<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Vec<u8> {
        let scope_logs = ScopeLogs {
            scope: Some(self.scope.clone()),
            log_records: records.map(log::log).collect(),
            schema_url: SCHEMA.into(),
        };
        let resource_logs = ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs: vec![scope_logs],
            schema_url: SCHEMA.into(),
        };
        ExportLogsServiceRequest { resource_logs: vec![resource_logs] }.encode_to_vec()
    }

    fn spans<'a>(&self, ends: impl Iterator<Item = &'a Record>) -> Vec<u8> {
        let scope_spans = ScopeSpans {
            scope: Some(self.scope.clone()),
            spans: ends.map(span::span).collect(),
            schema_url: SCHEMA.into(),
        };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: SCHEMA.into(),
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
    }
}

#[cfg(test)]
mod tests;
