//! Sends records to a collector of OpenTelemetry, by OTLP over HTTP.
//!
//! A consumer of the log like any other, with a thread of its own: what the collector has not
//! taken stays in the log, in memory and then on disk, and there is no second queue. Its place in
//! the log moves on when the collector has taken a batch, or has refused it for good; so each
//! record is delivered at least once, as long as the process lives, and an outage costs nothing
//! but room. A record that is delivered twice has the same ids both times.
//!
//! The collector is named by whoever runs the proxy, not by its clients: no rule for hosts
//! applies to it, and it is reached directly, without the external proxy.

mod backoff;
mod client;
mod collector;
mod export;
mod status;

pub(crate) use collector::Collector;
pub use collector::OtlpConfig;
pub(crate) use export::Export;
