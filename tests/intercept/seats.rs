//! Connections that became tunnels still count among those that may be open.

use nono_proxy::{Limits, ProxyConfig};
use support::{Connection, Origin, TestProxy};

use super::Setting;

fn two(config: ProxyConfig) -> ProxyConfig {
    let limits = Limits { max_client_connections: 2, ..Limits::default() };
    ProxyConfig { limits, max_connections: 100, ..config }
}

/// What a new connection is told: there is no place, or that it has come.
async fn is_full(proxy: &TestProxy) -> bool {
    let reply = proxy.get("/nowhere").await;
    assert!(matches!(reply.status, 503 | 404), "{}", reply.status);
    reply.status == 503 && reply.code() == "too_many_connections"
}

async fn until_there_is_a_place(proxy: &TestProxy) {
    let freed = async { while is_full(proxy).await {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), freed).await.expect("still taken");
}

#[tokio::test]
async fn an_intercepted_tunnel_keeps_its_place_over_either_protocol() {
    let setting = Setting::with(two).await;
    let first = setting.proxy.inside(setting.port()).await;
    let second = setting.proxy.inside_http2(setting.port()).await;
    assert!(is_full(&setting.proxy).await);
    drop(first);
    until_there_is_a_place(&setting.proxy).await;
    drop(second);
}

#[tokio::test]
async fn a_tunnel_in_which_no_handshake_begins_keeps_its_place_too() {
    let setting = Setting::with(two).await;
    let target = format!("localhost:{}", setting.port());
    let tunnels = [setting.proxy.tunnel(&target).await, setting.proxy.tunnel(&target).await];
    assert!(is_full(&setting.proxy).await);
    drop(tunnels);
    until_there_is_a_place(&setting.proxy).await;
}

#[tokio::test]
async fn an_untouched_tunnel_keeps_its_place_until_both_sides_have_closed() {
    let echo = Origin::echo().await;
    let hosts = vec!["127.0.0.1".into()];
    let config = two(ProxyConfig { allowed_hosts: hosts, ..ProxyConfig::default() });
    let proxy = TestProxy::start(config).await;
    let mut first = Connection::over(proxy.tunnel(&echo.to_string()).await);
    let second = proxy.tunnel(&echo.to_string()).await;
    assert!(is_full(&proxy).await);
    first.send("ping").await;
    assert_eq!(first.exactly(4).await, b"ping");
    drop(second);
    until_there_is_a_place(&proxy).await;
    drop(first);
}
