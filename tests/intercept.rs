//! Tunnels whose TLS ends in the proxy: what is inside them is governed as all else.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

#[path = "intercept/bundle.rs"]
mod bundle;
#[path = "intercept/games.rs"]
mod games;
#[path = "intercept/http2.rs"]
mod http2;
#[path = "intercept/inside.rs"]
mod inside;
#[path = "intercept/preloaded.rs"]
mod preloaded;
#[path = "intercept/seats.rs"]
mod seats;
#[path = "intercept/tunnels.rs"]
mod tunnels;
#[path = "intercept/websocket.rs"]
mod websocket;

use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use nono_proxy::{InterceptConfig, ProxyConfig, RouteConfig};
use support::{Authority, Origin, Seen, TestProxy, route};
use tempfile::TempDir;

/// An origin that speaks TLS, and a proxy that intercepts what goes there.
struct Setting {
    origin: Origin,
    proxy: TestProxy,
    /// Where the proxy keeps its files.
    dir: TempDir,
    _authority: Authority,
}

impl Setting {
    /// With one route, `/api`, to the origin, with the real key as its credential.
    async fn new() -> Self {
        Self::with(|config| config).await
    }

    /// As [`Setting::new`], with another configuration.
    async fn with(edit: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Self {
        let authority = Authority::new();
        let identity = authority.identity(&["localhost", "127.0.0.1"]).with_http2();
        let origin = Origin::start(Some(identity), |seen: &Seen| {
            if seen.target.ends_with("/large") {
                return Response::new(Full::from(vec![b'x'; 1 << 20]).boxed());
            }
            if let Some((_, length)) = seen.target.split_once("/bytes/") {
                return Response::new(Full::from(vec![b'x'; length.parse().unwrap()]).boxed());
            }
            let body = format!("{} {}", seen.method, seen.body.len());
            if !seen.target.ends_with("/trailers") {
                return Response::new(Full::from(body).boxed());
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = [Ok(Frame::data(body.into())), Ok(Frame::trailers(trailers))];
            Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed())
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let route = RouteConfig {
            upstream: format!("https://localhost:{}", origin.addr.port()),
            tls_ca: Some(authority.pem_file()),
            ..route("/api", origin.addr)
        };
        let intercept = InterceptConfig {
            ca_dir: dir.path().into(),
            parent_ca_pems: std::fs::read(authority.pem_file()).unwrap(),
            ..InterceptConfig::default()
        };
        let config = edit(ProxyConfig {
            routes: vec![route],
            intercept: Some(intercept),
            ..ProxyConfig::default()
        });
        let proxy = TestProxy::start(config).await;
        Self { origin, proxy, dir, _authority: authority }
    }

    /// The origin's port.
    fn port(&self) -> u16 {
        self.origin.addr.port()
    }

    /// `GET path` as a client inside a tunnel sends it, without its end.
    fn get(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n", self.port())
    }
}

/// With another way to intercept.
fn intercept(edit: impl Fn(&mut InterceptConfig)) -> impl FnOnce(ProxyConfig) -> ProxyConfig {
    move |mut config| {
        config.intercept.iter_mut().for_each(edit);
        config
    }
}
