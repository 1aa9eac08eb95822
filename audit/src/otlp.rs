//! Records as messages of OTLP, the protocol of OpenTelemetry, in their binary form.
//!
//! Each record is a log record with everything that it holds; the end of an exchange is a span
//! besides. What the semantic conventions for HTTP have a name for goes by it (`url.path`,
//! `http.response.status_code`, …); all else is `nono.` and the name of the record's field.

mod answer;
mod attributes;
mod log;
mod span;
mod wire;

use serde::{Deserialize, Serialize};

use crate::{Phase, Record, Session};
use attributes::Attributes;
use wire::Message;

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

/// The numbers of the fields of an export's request, and of what is in it: for logs the same as
/// for spans.
mod field {
    pub(super) const OF_RESOURCES: u64 = 1;
    pub(super) const RESOURCE: u64 = 1;
    pub(super) const OF_SCOPES: u64 = 2;
    pub(super) const SCOPE: u64 = 1;
    pub(super) const ITEMS: u64 = 2;
    pub(super) const SCHEMA_URL: u64 = 3;
    /// Those of `Resource` and `InstrumentationScope`.
    pub(super) const ATTRIBUTES: u64 = 1;
    pub(super) const NAME: u64 = 1;
    pub(super) const VERSION: u64 = 2;
}

/// Whose records they are, as a collector is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The name of the service.
    pub service: String,
    /// The run of the proxy.
    pub session: Session,
    /// The process that it ran in, if that is known.
    pub process: Option<u32>,
    /// What else is said of it; this wins over what is known here.
    pub attributes: Vec<(String, String)>,
}

/// Makes messages of the records of one resource.
#[derive(Debug)]
pub struct Encoder {
    /// Both as messages that are written.
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Encoder {
    /// For the records of `of`.
    pub fn new(of: &Resource) -> Self {
        let Resource { service, session, process, attributes } = of;
        let version = env!("CARGO_PKG_VERSION");
        let (mut resource, mut scope) = (Message::default(), Message::default());
        scope.text(field::NAME, "nono");
        scope.text(field::VERSION, version);
        let mut about = Attributes::new(&mut resource, field::ATTRIBUTES);
        let instance = session.to_string();
        let is_given = |name: &str| attributes.iter().any(|(given, _)| given == name);
        for (name, value) in [
            ("service.name", service.as_str()),
            ("service.version", version),
            ("service.instance.id", &instance),
        ] {
            about.text(name, (!is_given(name)).then_some(value));
        }
        about.number("process.pid", process.filter(|_| !is_given("process.pid")));
        for (name, value) in attributes {
            about.text(name, Some(value));
        }
        Self { resource: resource.into_bytes(), scope: scope.into_bytes() }
    }

    /// The request that hands `records` over; `None` when there is nothing to hand over.
    pub fn encode(&self, signal: Signal, records: &[&Record]) -> Option<Vec<u8>> {
        let told = records.iter().copied().filter(|record| signal.tells_of(record));
        let mut told = told.peekable();
        told.peek()?;
        let mut request = Message::default();
        request.nested(field::OF_RESOURCES, |of_resource| {
            of_resource.bytes(field::RESOURCE, &self.resource);
            of_resource.nested(field::OF_SCOPES, |of_scope| {
                of_scope.bytes(field::SCOPE, &self.scope);
                for record in told {
                    of_scope.nested(field::ITEMS, |item| match signal {
                        Signal::Logs => log::write(item, record),
                        Signal::Spans => span::write(item, record),
                    });
                }
                of_scope.text(field::SCHEMA_URL, SCHEMA);
            });
            of_resource.text(field::SCHEMA_URL, SCHEMA);
        });
        Some(request.into_bytes())
    }
}

#[cfg(test)]
mod tests;
