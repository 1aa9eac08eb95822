//! Sends records to a collector of OpenTelemetry, by OTLP over HTTP.
//!
//! A thread of its own takes records from their source, which lets go of them when the collector
//! has taken a batch or has refused it for good; so each is delivered at least once, and an outage
//! costs nothing but room. A record that is delivered twice has the same ids both times.
//!
//! The source is the log, of which this is a consumer like any other: then what is not delivered
//! ends with the process. Or it is a queue on disk, which the log's writer fills as a sink: then the
//! next process that opens the queue delivers what is left, with the session that it is of.
//!
//! The collector is named by whoever runs the proxy, not by its clients: no rule for hosts
//! applies to it, and it is reached directly, without the external proxy.

mod backoff;
mod client;
mod collector;
mod config;
mod export;
mod source;
mod status;

pub(crate) use collector::Collector;
pub use config::{Compression, OtlpConfig};
pub(crate) use export::Export;
pub(crate) use source::Source;
