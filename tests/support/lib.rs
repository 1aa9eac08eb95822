//! What the behaviour tests share: an origin that records what reaches it, a client that says
//! byte for byte what it sends, certificates, and a proxy with its environment.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_debug_implementations,
    reason = "fixtures of tests, which fail by panicking"
)]

mod ca;
mod client;
mod collector;
pub mod frames;
mod isolation;
mod message;
mod origin;
mod proxy;
pub mod sandboxed;
pub mod scripted;
mod tunnel;
mod wire;

pub use ca::{Authority, Identity};
pub use client::{Connection, Reply, exchange};
pub use collector::{Collector, Delivery, answer, attributes};
pub use isolation::{apart, isolated, isolated_async, isolated_with_hosts};
pub use message::Message;
pub use origin::{Origin, Reaction, Seen};
pub use proxy::{KEY_VARIABLE, REAL_KEY, TestProxy, route};
pub use tunnel::Http2;
pub use wire::{Heard, Wire};
