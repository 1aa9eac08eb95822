//! Records on their way to a collector of OpenTelemetry, and the context of traces.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

#[path = "otlp/config.rs"]
mod config;
#[path = "otlp/context.rs"]
mod context;
#[path = "otlp/delivery.rs"]
mod delivery;
#[path = "otlp/queue.rs"]
mod queue;

use std::net::SocketAddr;
use std::time::Duration;

use nono_proxy::{Limits, OtlpConfig, ProxyConfig};
use support::{TestProxy, route};

/// A proxy with a route, `/api`, to `origin`, that exports as `otlp` says.
async fn exporting(origin: SocketAddr, otlp: OtlpConfig) -> TestProxy {
    with_limits(origin, otlp, Limits::default()).await
}

async fn with_limits(origin: SocketAddr, otlp: OtlpConfig, limits: Limits) -> TestProxy {
    TestProxy::start(ProxyConfig {
        routes: vec![route("/api", origin)],
        otlp: Some(otlp),
        limits,
        ..ProxyConfig::default()
    })
    .await
}

/// Asks for something `count` times.
async fn ask(proxy: &TestProxy, count: u64) {
    for n in 0..count {
        assert_eq!(proxy.get(&format!("/api/{n}")).await.status, 200);
    }
}

/// Ends `proxy`, and returns the codes and messages of what it has to say.
async fn end(proxy: &TestProxy) -> Vec<(&'static str, String)> {
    proxy.shutdown(Duration::from_secs(5)).await;
    proxy.diagnostics().into_iter().map(|found| (found.code, found.message)).collect()
}
