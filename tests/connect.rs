//! `CONNECT` tunnels: to allowed hosts, for those who show the token, byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use nono_audit::{Decision, DenialCategory, Mode, Outcome, Phase};
use nono_proxy::{Limits, ProxyConfig};
use support::{Connection, Origin, Reply, TestProxy, exchange, isolated_async, route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn head(target: &str, fields: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")
}

async fn connect(proxy: &TestProxy, target: &str) -> Reply {
    exchange(proxy.addr(), &head(target, &proxy.proxy_authorization())).await
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_record_counts_them() {
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut tunnel = Connection::open(proxy.addr()).await;
    tunnel.send(head(&echo.to_string(), &proxy.proxy_authorization())).await;
    assert!(tunnel.head().await.starts_with("http/1.1 200"));
    tunnel.send("ping").await;
    assert_eq!(tunnel.exactly(4).await, b"ping");
    let opened = proxy.drain_audit();
    assert!(opened.iter().all(|record| record.phase == Phase::Open), "the tunnel still runs");
    tunnel.finish().await;
    assert!(tunnel.rest().await.is_empty());

    proxy.shutdown(std::time::Duration::from_secs(5)).await;
    let record = proxy.only_record();
    assert_eq!((record.mode, record.decision), (Mode::Connect, Decision::Allow));
    assert_eq!((&*record.target, record.port), ("127.0.0.1", Some(echo.port())));
    assert_eq!((record.bytes_in, record.bytes_out), (4, 4));
    assert_eq!((record.outcome, record.status), (Outcome::Complete, Some(200)));
}

#[tokio::test]
async fn bytes_sent_right_behind_the_request_are_kept() {
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut tunnel = Connection::open(proxy.addr()).await;
    tunnel.send(head(&echo.to_string(), &proxy.proxy_authorization()) + "early").await;
    tunnel.head().await;
    assert_eq!(tunnel.exactly(5).await, b"early");
}

#[tokio::test]
async fn a_side_that_closes_early_still_receives() {
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut tunnel = Connection::open(proxy.addr()).await;
    tunnel.send(head(&echo.to_string(), &proxy.proxy_authorization())).await;
    tunnel.head().await;
    let bulk = vec![7u8; 3_000_000];
    tunnel.send(&bulk[..1000]).await;
    tunnel.finish().await;
    assert_eq!(tunnel.rest().await, &bulk[..1000]);
}

#[tokio::test]
async fn a_stranger_is_challenged_before_the_host_is_judged() {
    let proxy = TestProxy::with_hosts(&["allowed.example"]).await;
    for target in ["allowed.example:443", "other.example:443"] {
        for fields in [
            "",
            "Proxy-Authorization: Bearer wrong\r\n",
            "Proxy-Authorization: Basic bm9ubzp3cm9uZw==\r\n",
            "Proxy-Authorization: Basic ???\r\n",
        ] {
            let reply = exchange(proxy.addr(), &head(target, fields)).await;
            assert_eq!((reply.status, reply.code()), (407, "proxy_token_required".into()));
            assert!(reply.head.contains("proxy-authenticate: basic"), "{}", reply.head);
        }
    }
    let records = proxy.drain_audit();
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|record| {
        record.denial_category == Some(DenialCategory::AuthenticationFailed)
            && record.status == Some(407)
    }));
    let asked: Vec<_> = records.iter().map(|record| (&*record.target, record.port)).collect();
    assert_eq!(asked[..4], [("allowed.example", Some(443)); 4]);
    assert_eq!(asked[4..], [("other.example", Some(443)); 4]);
}

#[tokio::test]
async fn the_token_in_an_api_key_header_does_not_open_a_tunnel() {
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let fields = format!("Authorization: Bearer {}\r\n", proxy.token);
    assert_eq!(exchange(proxy.addr(), &head("127.0.0.1:9", &fields)).await.status, 407);
}

#[test]
fn hosts_that_no_rule_allows_are_refused_with_the_rule_that_would() {
    isolated_async("hosts_that_no_rule_allows_are_refused_with_the_rule_that_would", async {
        let proxy = TestProxy::with_hosts(&["allowed.example", "*.wild.example"]).await;
        for (target, host) in [
            ("other.example:443", "other.example"),
            ("wild.example:443", "wild.example"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("2130706433:80", "127.0.0.1"),
        ] {
            let reply = connect(&proxy, target).await;
            assert_eq!((reply.status, reply.code()), (403, "host_not_allowed".into()), "{target}");
            let hint = reply.json()["hint"].as_str().unwrap().to_owned();
            assert!(hint.contains(&format!("\"{host}:")), "{hint}");
        }
        for record in proxy.drain_audit() {
            assert_eq!(record.denial_category, Some(DenialCategory::HostDenied));
            assert_eq!((record.decision, record.outcome), (Decision::Deny, Outcome::Refused));
        }
    });
}

#[test]
fn addresses_that_no_rule_names_are_not_reached_through_allow_all() {
    isolated_async("addresses_that_no_rule_names_are_not_reached_through_allow_all", async {
        let config = ProxyConfig { allow_all_hosts: true, ..ProxyConfig::default() };
        let proxy = TestProxy::start(config).await;
        for target in [
            "127.0.0.1:80",
            "localhost:80",
            "[::1]:80",
            "10.0.0.1:80",
            "0.0.0.0:80",
            "2130706433:80",
            "169.254.169.254:80",
            "0xa9fea9fe:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "metadata.google.internal:80",
        ] {
            let reply = connect(&proxy, target).await;
            assert_eq!((reply.status, reply.code()), (403, "address_refused".into()), "{target}");
        }
    });
}

#[tokio::test]
async fn a_rule_for_what_is_never_reached_is_refused() {
    for host in [
        "169.254.169.254",
        "169.254.169.254:80",
        "metadata.google.internal",
        "metadata.goog",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "[::ffff:169.254.169.254]:80",
        "0.0.0.0",
        "fe80::1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let config = ProxyConfig { allowed_hosts: vec![host.into()], ..ProxyConfig::default() };
        let error = config.check().unwrap_err();
        assert_eq!(error.field(), "allowed_hosts");
        assert!(error.to_string().contains(&format!("{host:?}")), "{error}");
        // To deny it, or to bypass another proxy for it, means what is so already.
        let denied = ProxyConfig { denied_hosts: vec![host.into()], ..ProxyConfig::default() };
        denied.check().unwrap();
    }
}

#[test]
fn several_hosts_in_one_rule_are_refused() {
    for rule in [
        "evil.example,bad.example",
        "evil.example;bad.example",
        "*.evil.example,*.bad.example",
        "*.evil.example|bad.example",
        "127.0.0.1,127.0.0.2",
        "\"evil.example\"",
    ] {
        let denied = ProxyConfig { denied_hosts: vec![rule.into()], ..ProxyConfig::default() };
        assert_eq!(denied.check().unwrap_err().field(), "denied_hosts", "{rule}");
        let allowed = ProxyConfig { allowed_hosts: vec![rule.into()], ..ProxyConfig::default() };
        assert_eq!(allowed.check().unwrap_err().field(), "allowed_hosts", "{rule}");
    }
    for rule in ["_dmarc.a-b.example", "b\u{fc}cher.example", "*.xn--bcher-kva.example", "[::1]:80"]
    {
        let denied = ProxyConfig { denied_hosts: vec![rule.into()], ..ProxyConfig::default() };
        denied.check().unwrap();
    }
}

#[tokio::test]
async fn a_denied_host_wins_over_an_allowed_one() {
    let config = ProxyConfig {
        allowed_hosts: vec!["127.0.0.1".into()],
        denied_hosts: vec!["127.0.0.1:7".into()],
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    assert_eq!(connect(&proxy, "127.0.0.1:7").await.code(), "host_denied");
}

#[tokio::test]
async fn the_upstream_of_a_route_is_reached_through_the_route_alone() {
    let origin = Origin::hello().await;
    let config = ProxyConfig {
        allowed_hosts: vec!["127.0.0.1".into()],
        routes: vec![route("/api", origin.addr)],
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    let reply = connect(&proxy, &origin.addr.to_string()).await;
    assert_eq!((reply.status, reply.code()), (403, "route_only".into()));
    assert!(reply.text().contains("route /api"), "{}", reply.text());
    let record = proxy.only_record();
    assert_eq!(record.denial_category, Some(DenialCategory::ConnectBypassesL7));
    assert_eq!(record.route_id.as_deref(), Some("api"));
}

#[tokio::test]
async fn a_route_opens_its_upstream_to_itself_and_no_other_port_of_it() {
    let origin = Origin::hello().await;
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    assert_eq!(connect(&proxy, &echo.to_string()).await.code(), "host_not_allowed");
}

#[tokio::test]
async fn the_proxy_itself_is_not_a_target() {
    let proxy = TestProxy::with_hosts(&["127.0.0.1", "localhost"]).await;
    let port = proxy.addr().port();
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let reply = connect(&proxy, &format!("{host}:{port}")).await;
        assert_eq!((reply.status, reply.code()), (508, "own_listener".into()), "{host}");
    }
}

#[tokio::test]
async fn a_target_without_one_host_and_port_is_malformed() {
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    for target in ["127.0.0.1", "user@127.0.0.1:80", "127.0.0.1:0", "127.0.0.1:99999"] {
        assert_eq!(connect(&proxy, target).await.status, 400, "{target}");
    }
}

#[tokio::test]
async fn a_refused_client_may_try_again_on_its_connection() {
    let echo = Origin::echo().await;
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(head(&echo.to_string(), "")).await;
    assert_eq!(connection.reply().await.status, 407);
    connection.send(head(&echo.to_string(), &proxy.proxy_authorization())).await;
    assert!(connection.head().await.starts_with("http/1.1 200"));
}

/// More than is left to the kernel at once, on more tunnels than that may be.
#[tokio::test]
async fn bulk_comes_through_whole_also_on_many_tunnels_and_after_one_side_has_closed() {
    const LENGTH: usize = 2_000_000;
    let echo = Origin::echo().await;
    let limits = Limits { workers: 1, ..Limits::default() };
    let allowed_hosts = vec!["127.0.0.1".into()];
    let config = ProxyConfig { allowed_hosts, limits, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let head = head(&echo.to_string(), &proxy.proxy_authorization());
    let tunnels = (0..12_u8).map(|number| {
        let (head, addr) = (head.clone(), proxy.addr());
        tokio::spawn(async move {
            // Of a period that no buffer's size is a multiple of.
            let sent: Vec<u8> = (0..251).map(|n: u8| n ^ number).cycle().take(LENGTH).collect();
            let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            let writing = async {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let mut came = Vec::new();
            let ((), read) = tokio::join!(writing, from.read_to_end(&mut came));
            read.unwrap();
            let body = came.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
            assert!(came[body..] == sent, "{} bytes came back", came.len() - body);
        })
    });
    for tunnel in futures_util::future::join_all(tunnels).await {
        tunnel.unwrap();
    }
    proxy.shutdown(std::time::Duration::from_secs(5)).await;
    let ended = proxy.drain_audit();
    let ended: Vec<_> = ended.iter().filter(|record| record.phase == Phase::End).collect();
    assert_eq!(ended.len(), 12);
    for record in ended {
        assert_eq!((record.bytes_in, record.bytes_out), (LENGTH as u64, LENGTH as u64));
        assert_eq!(record.outcome, Outcome::Complete);
    }
}

/// What the kernel holds for a client that reads slowly reaches it, and nothing is lost when the
/// server leaves first.
#[tokio::test]
async fn bulk_waits_for_a_slow_reader() {
    const LENGTH: usize = 15_000_000;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let target = server.local_addr().unwrap().to_string();
    let mut tunnel = Connection::open(proxy.addr()).await;
    tunnel.send(head(&target, &proxy.proxy_authorization())).await;
    let (mut upstream, _) = server.accept().await.unwrap();
    tunnel.head().await;
    let sending = tokio::spawn(async move {
        let sent: Vec<u8> = (0..251_u8).cycle().take(LENGTH).collect();
        upstream.write_all(&sent).await.unwrap();
    });
    let came = tunnel.exactly(1_000_000).await;
    let whole = [came, tunnel.rest().await].concat();
    assert!(whole.iter().copied().eq((0..251_u8).cycle().take(LENGTH)));
    sending.await.unwrap();
}

/// A tunnel to `server`, and the server's end of it.
async fn tunnel_to(
    server: &tokio::net::TcpListener,
    proxy: &TestProxy,
) -> (Connection, tokio::net::TcpStream) {
    let client = tokio::net::TcpStream::connect(proxy.addr()).await.unwrap();
    // It is reset when it is dropped.
    client.set_zero_linger().unwrap();
    let mut tunnel = Connection::over(client);
    let target = server.local_addr().unwrap().to_string();
    tunnel.send(head(&target, &proxy.proxy_authorization())).await;
    let (upstream, _) = server.accept().await.unwrap();
    assert!(tunnel.head().await.starts_with("http/1.1 200"));
    (tunnel, upstream)
}

/// What was cut short would else be taken for whole, where only the end says that it is.
#[tokio::test]
async fn what_one_side_cuts_short_the_other_sees_cut_short() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let mut byte = [0];

    let (tunnel, mut upstream) = tunnel_to(&server, &proxy).await;
    drop(tunnel);
    let seen = upstream.read(&mut byte).await.unwrap_err();
    assert_eq!(seen.kind(), std::io::ErrorKind::ConnectionReset, "by the client");

    let (mut tunnel, mut upstream) = tunnel_to(&server, &proxy).await;
    upstream.write_all(b"part").await.unwrap();
    assert_eq!(tunnel.exactly(4).await, b"part");
    upstream.set_zero_linger().unwrap();
    drop(upstream);
    let seen = tunnel.into_stream().read(&mut byte).await.unwrap_err();
    assert_eq!(seen.kind(), std::io::ErrorKind::ConnectionReset, "by the upstream");

    let (tunnel, mut upstream) = tunnel_to(&server, &proxy).await;
    proxy.shutdown(std::time::Duration::ZERO).await;
    for seen in [upstream.read(&mut byte).await, tunnel.into_stream().read(&mut byte).await] {
        assert_eq!(seen.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "by the proxy");
    }
    let ends = proxy.drain_audit().into_iter().filter(|record| record.phase == Phase::End);
    let outcomes: Vec<_> = ends.map(|record| record.outcome).collect();
    assert_eq!(outcomes, [Outcome::ClientAbort, Outcome::UpstreamAbort, Outcome::Shutdown]);
}

/// Bulk is gathered, but never waited for by both sides.
#[tokio::test]
async fn the_end_of_bulk_comes_before_its_sender_has_an_answer() {
    const LENGTH: usize = 1_500_001;
    const TURNS: usize = 20;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TestProxy::with_hosts(&["127.0.0.1"]).await;
    let (mut tunnel, mut upstream) = tunnel_to(&server, &proxy).await;
    let sending = tokio::spawn(async move {
        let bulk = vec![7; LENGTH];
        for _ in 0..TURNS {
            upstream.write_all(&bulk).await.unwrap();
            assert_eq!(upstream.read_u8().await.unwrap(), b'!');
        }
        upstream
    });
    for _ in 0..TURNS {
        assert!(tunnel.exactly(LENGTH).await.iter().all(|byte| *byte == 7));
        tunnel.send("!").await;
    }
    // The other way.
    let mut upstream = sending.await.unwrap();
    for _ in 0..TURNS {
        let mut came = vec![0; LENGTH];
        let bulk = vec![8; LENGTH];
        let ((), read) = tokio::join!(tunnel.send(&bulk), upstream.read_exact(&mut came));
        read.unwrap();
        assert!(came == bulk);
        upstream.write_all(b"!").await.unwrap();
        assert_eq!(tunnel.exactly(1).await, b"!");
    }
}
