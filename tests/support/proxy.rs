//! A proxy under test.

use std::net::SocketAddr;
use std::ops::Deref;

use nono_audit::{Phase, Record};
use nono_proxy::{Limits, ProxyConfig, ProxyHandle, RouteConfig};

use crate::client::HANG;
use crate::{Reply, exchange};

/// The key that clients must never see.
pub const REAL_KEY: &str = "sk-real-0123456789abcdef";

/// A variable that holds [`REAL_KEY`] in every test process; `.cargo/config.toml` sets it, since
/// a threaded process cannot.
pub const KEY_VARIABLE: &str = "NONO_TEST_KEY";

/// A running proxy and its session token.
pub struct TestProxy {
    handle: ProxyHandle,
    /// The session token.
    pub token: String,
}

impl TestProxy {
    /// Starts a proxy.
    pub async fn start(config: ProxyConfig) -> Self {
        let handle = ProxyHandle::start(config).await.unwrap();
        let token = handle.env_vars().into_iter().find(|(name, _)| name == "NONO_PROXY_TOKEN");
        Self { handle, token: token.unwrap().1 }
    }

    /// As [`TestProxy::with_route`], with `limits`.
    pub async fn with_limits(origin: SocketAddr, limits: Limits) -> Self {
        let routes = vec![route("/api", origin)];
        Self::start(ProxyConfig { routes, limits, ..ProxyConfig::default() }).await
    }

    /// Starts a proxy with one route, `/api`, to `origin`, with the real key as its credential.
    pub async fn with_route(origin: SocketAddr) -> Self {
        Self::with_limits(origin, Limits::default()).await
    }

    /// Starts a proxy that lets clients reach `hosts`.
    pub async fn with_hosts(hosts: &[&str]) -> Self {
        let allowed_hosts = hosts.iter().map(ToString::to_string).collect();
        Self::start(ProxyConfig { allowed_hosts, ..ProxyConfig::default() }).await
    }

    /// A GET to a path of the proxy, with the session token as the API key.
    pub async fn get(&self, path: &str) -> Reply {
        exchange(self.addr(), &(self.begin(&format!("GET {path}")) + "\r\n")).await
    }

    /// The head of a request to a route, begun with `line` and the session token, without its
    /// end: `GET /api/x`.
    pub fn begin(&self, line: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {}\r\n", self.token)
    }

    /// As [`TestProxy::begin`], of a plain http request to `origin` through the proxy.
    pub fn begin_forward(&self, method: &str, origin: SocketAddr, path: &str) -> String {
        let token = self.proxy_authorization();
        format!("{method} http://{origin}{path} HTTP/1.1\r\nHost: {origin}\r\n{token}")
    }

    /// The records of ends so far, once there are `count`; they are written by other threads.
    pub async fn records(&self, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        let wait = async {
            while records.len() < count {
                records.extend(self.drain_ends());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG, wait).await.expect("a record is missing");
        records
    }

    /// The records so far, without those of openings.
    fn drain_ends(&self) -> impl Iterator<Item = Record> {
        self.handle.drain_audit().into_iter().filter(|record| record.phase == Phase::End)
    }

    /// The field with which clients of tunnels and forwards show the token.
    pub fn proxy_authorization(&self) -> String {
        format!("Proxy-Authorization: Bearer {}\r\n", self.token)
    }

    /// The records of ends so far, which must be one.
    pub fn only_record(&self) -> Record {
        let mut records: Vec<_> = self.drain_ends().collect();
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }
}

impl Deref for TestProxy {
    type Target = ProxyHandle;

    fn deref(&self) -> &ProxyHandle {
        &self.handle
    }
}

/// A route at `prefix` to a plain origin, with the real key as its credential.
pub fn route(prefix: &str, origin: SocketAddr) -> RouteConfig {
    RouteConfig {
        prefix: prefix.into(),
        upstream: format!("http://{origin}"),
        credential_key: Some(format!("env://{KEY_VARIABLE}")),
        ..RouteConfig::default()
    }
}
