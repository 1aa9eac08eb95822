//! What the proxy does on the wire: request bytes in, bytes at the origin and bytes out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "conformance/bodies.rs"]
mod bodies;
#[path = "conformance/connections.rs"]
mod connections;
#[path = "conformance/exchanges.rs"]
mod exchanges;
#[path = "conformance/heads.rs"]
mod heads;
#[path = "conformance/hostile.rs"]
mod hostile;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/responses.rs"]
mod responses;
#[path = "conformance/upgrades.rs"]
mod upgrades;
