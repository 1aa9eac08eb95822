//! Records as numbers, for Prometheus.

use std::fmt;
use std::io;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::{Outcome, Phase, Record, Sink};

/// Bounds of durations in seconds: from what the proxy itself takes to a model that thinks long.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
    600.0,
];

/// What is counted. Every record is, once: as a [`Sink`] of the log, or by [`count`](Self::count) if
/// the log does not keep it. What a record does not say is set when it is asked for.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<All>);

struct All {
    registry: Registry,
    requests: Family<Ending, Counter>,
    refusals: Family<Refused, Counter>,
    durations: Histogram,
    first_bytes: Histogram,
    bytes: Family<Direction, Counter>,
    opened: Counter,
    dropped: Counter,
    connections: Gauge,
    exchanges: Gauge,
    waiting: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    mode: &'static str,
    decision: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    category: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// What is so now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Open connections of clients.
    pub connections: usize,
    /// Exchanges that run.
    pub exchanges: usize,
    /// Records that the slowest consumer has not yet taken.
    pub waiting: u64,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("nono");
        let durations = Histogram::new(SECONDS);
        let first_bytes = Histogram::new(SECONDS);
        let all = All {
            requests: Family::default(),
            refusals: Family::default(),
            durations,
            first_bytes,
            bytes: Family::default(),
            opened: Counter::default(),
            dropped: Counter::default(),
            connections: Gauge::default(),
            exchanges: Gauge::default(),
            waiting: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Exchanges that have ended", all.requests.clone());
        registry.register("refusals", "Those that were refused", all.refusals.clone());
        let (name, help) = ("request_duration", "From a request's head to its exchange's end");
        registry.register_with_unit(name, help, Unit::Seconds, all.durations.clone());
        let (name, help) = ("time_to_first_byte", "From a request's head to its response's");
        registry.register_with_unit(name, help, Unit::Seconds, all.first_bytes.clone());
        registry.register_with_unit(
            "body",
            "Bytes of bodies and tunnels",
            Unit::Bytes,
            all.bytes.clone(),
        );
        registry.register("tunnels_opened", "Tunnels and upgrades", all.opened.clone());
        let (name, help) = ("audit_dropped", "Records for which there was no place");
        registry.register(name, help, all.dropped.clone());
        registry.register("connections", "Open client connections", all.connections.clone());
        registry.register("exchanges", "Exchanges that run", all.exchanges.clone());
        let (name, help) = ("audit_lag", "Records that the slowest consumer has not yet taken");
        registry.register(name, help, all.waiting.clone());
        Self(Arc::new(All { registry, ..all }))
    }

    /// All of them in the text format of `OpenMetrics`.
    ///
    /// # Errors
    /// The text cannot be written; memory aside, it always can.
    pub fn render(&self, now: Now) -> Result<String, fmt::Error> {
        let all = &*self.0;
        all.connections.set(i64::try_from(now.connections).unwrap_or(i64::MAX));
        all.exchanges.set(i64::try_from(now.exchanges).unwrap_or(i64::MAX));
        all.waiting.set(i64::try_from(now.waiting).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &all.registry)?;
        Ok(text)
    }

    /// Counts the exchange of `record`.
    pub fn count(&self, record: &Record) {
        let all = &*self.0;
        match record.phase {
            Phase::Open => drop(all.opened.inc()),
            Phase::Gap => drop(all.dropped.inc_by(record.dropped.unwrap_or_default())),
            Phase::End => {
                let ending = Ending {
                    mode: record.mode.as_str(),
                    decision: record.decision.as_str(),
                    outcome: record.outcome.as_str(),
                };
                all.requests.get_or_create(&ending).inc();
                all.durations.observe(record.duration_ms / 1000.0);
                if let Some(time) = record.time_to_first_byte_ms {
                    all.first_bytes.observe(time / 1000.0);
                }
                for (direction, bytes) in [("in", record.bytes_in), ("out", record.bytes_out)] {
                    all.bytes.get_or_create(&Direction { direction }).inc_by(bytes);
                }
                if record.outcome == Outcome::Refused
                    && let Some(category) = record.denial_category
                {
                    let status = record.status.unwrap_or_default();
                    let refused = Refused { category: category.as_str(), status };
                    all.refusals.get_or_create(&refused).inc();
                }
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            self.count(record);
        }
        Ok(())
    }
}

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
