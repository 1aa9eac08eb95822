//! Faults that proxies of this kind have had, each shown not to be here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nono_audit::{Decision, DenialCategory, Outcome};
use nono_proxy::{InjectMode, Limits, ProxyConfig, RouteConfig};
use support::{Connection, REAL_KEY, Reply, TestProxy, Wire, exchange, route};
use tempfile::NamedTempFile;

async fn proxy(routes: Vec<RouteConfig>) -> TestProxy {
    TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await
}

/// Sends `line` to a route without any token of its own.
async fn bare(proxy: &TestProxy, line: &str) -> Reply {
    exchange(proxy.addr(), &format!("{line} HTTP/1.1\r\nHost: p\r\n\r\n")).await
}

fn ruled(prefix: &str, origin: SocketAddr, rule: (&str, &str)) -> RouteConfig {
    let endpoint_rules = vec![(rule.0.into(), rule.1.into())];
    RouteConfig { endpoint_rules, ..route(prefix, origin) }
}

/// A file that holds `secret`, as a route's credential.
fn secret_file(secret: &str) -> (NamedTempFile, Option<String>) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(secret.as_bytes()).unwrap();
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    let locator = format!("file://{}", file.path().display());
    (file, Some(locator))
}

#[tokio::test]
async fn clients_that_leave_while_the_upstream_thinks_do_not_use_up_the_places() {
    let wire = Wire::bind().await;
    let routes = vec![route("/api", wire.addr)];
    let config = ProxyConfig { routes, max_connections: 8, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    for round in 0..4 {
        let mut running = Vec::new();
        for _ in 0..8 {
            let (client, upstream) =
                wire.request(&proxy, proxy.begin("GET /api/hang") + "\r\n").await;
            running.push((client, upstream));
        }
        assert_eq!(proxy.get("/api/x").await.status, 503, "round {round}");
        running.clear();
        let records = proxy.records(9).await;
        let left = records.iter().filter(|record| record.outcome == Outcome::ClientAbort);
        assert_eq!(left.count(), 8);
    }
}

#[tokio::test]
async fn a_forward_is_over_with_its_response_though_the_upstream_keeps_its_connection() {
    let origin = Wire::bind().await.ok();
    let config = ProxyConfig {
        allowed_hosts: vec!["127.0.0.1".into()],
        max_connections: 1,
        limits: Limits { workers: 1, ..Limits::default() },
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    for _ in 0..300 {
        let request = proxy.begin_forward("GET", origin.addr, "/") + "\r\n";
        assert_eq!(exchange(proxy.addr(), &request).await.status, 200);
        assert_eq!(proxy.only_record().outcome, Outcome::Complete);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let origin = Wire::bind().await.ok();
    let routes = vec![route("/api", origin.addr)];
    let config = ProxyConfig { routes, max_connections: 4, ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut connection = Connection::open(proxy.addr()).await;
        connection.send(&"GET /api/x HTTP/1.1\r\nHost:"[..n % 20]).await;
        idle.push(connection);
    }
    for _ in 0..8 {
        assert_eq!(proxy.get("/api/x").await.status, 200);
    }
}

const WAYS_AROUND: &[(&str, u16)] = &[
    ("/rule/secret#/../public/x", 400),
    ("/rule/public/x#/../../secret", 400),
    ("/rule/public/..\\secret", 400),
    ("/rule/public/..;/secret", 400),
    ("/rule/public/%2e%2e/secret", 400),
    ("/rule/public/%2e%2e%2fsecret", 400),
    ("/rule/public/%252e%252e/secret", 400),
    ("/rule/public/%c0%ae%c0%ae/secret", 400),
    ("/rule/secret?/public/x", 403),
    ("/rule/PUBLIC/x", 403),
    ("/rule//public/x", 403),
    ("/star/v1/a/b", 403),
    ("/star/v1/a%2fb", 400),
    ("/base/../admin", 400),
    ("/base/%2e%2e/admin", 400),
    ("/base/..", 400),
    ("/base/.%2E/admin", 400),
    ("/baserule/../x", 400),
    ("/baserule/%2e%2e/x", 400),
    ("/baserule/v1/x", 403),
];

#[tokio::test]
async fn rules_and_base_paths_hold_against_every_known_way_around_them() {
    let origin = Wire::bind().await.ok();
    let base = |prefix: &str, config: RouteConfig| RouteConfig {
        prefix: prefix.into(),
        upstream: format!("http://{}/v1", origin.addr),
        ..config
    };
    let proxy = proxy(vec![
        ruled("/rule", origin.addr, ("GET", "/public/**")),
        ruled("/star", origin.addr, ("GET", "/v1/*")),
        base("/base", route("/base", origin.addr)),
        base("/baserule", ruled("/baserule", origin.addr, ("GET", "/x"))),
    ])
    .await;
    for (path, status) in WAYS_AROUND {
        assert_eq!(proxy.get(path).await.status, *status, "{path}");
    }
    assert!(origin.requests().is_empty());
    for (path, arrives) in [
        ("/rule/public/x", "/public/x"),
        ("/star/v1/a", "/v1/a"),
        ("/base/admin", "/v1/admin"),
        ("/baserule/x?y=../z", "/v1/x?y=../z"),
    ] {
        assert_eq!(proxy.get(path).await.status, 200, "{path}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.line(), format!("GET {arrives} HTTP/1.1"));
    }
}

#[tokio::test]
async fn a_forward_to_the_upstream_of_a_route_is_refused_and_names_the_route() {
    let origin = Wire::bind().await.ok();
    let config = ProxyConfig {
        allowed_hosts: vec!["127.0.0.1".into(), "localhost".into()],
        routes: vec![ruled("/api", origin.addr, ("GET", "/ok"))],
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    let port = origin.addr.port();
    for host in ["127.0.0.1", "2130706433", "127.1", "0x7f000001"] {
        let token = proxy.proxy_authorization();
        let host = format!("{host}:{port}");
        let head = format!("GET http://{host}/forbidden HTTP/1.1\r\nHost: {host}\r\n{token}\r\n");
        let reply = exchange(proxy.addr(), &head).await;
        assert_eq!((reply.status, reply.code()), (403, "route_only".into()), "{host}");
        assert!(reply.text().contains("/api"), "{}", reply.text());
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn no_record_is_lost_nor_pushed_out_by_strangers() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let stranger = "GET /api/x HTTP/1.1\r\nHost: p\r\n\r\n";
    let good = proxy.begin("GET /api/good") + "\r\n";
    for _ in 0..5 {
        let mut connection = Connection::open(proxy.addr()).await;
        connection.send(good.clone() + &stranger.repeat(1000)).await;
        assert_eq!(connection.message().await.status(), 200);
        for _ in 0..1000 {
            assert_eq!(connection.message().await.status(), 401);
        }
    }
    let records = proxy.drain_audit();
    assert_eq!(records.len(), 5005);
    assert!(records.iter().map(|record| record.sequence).eq(0..5005));
    let allowed = records.iter().filter(|record| record.decision == Decision::Allow);
    assert_eq!(allowed.count(), 5);
}

#[tokio::test]
async fn whatever_is_wrong_is_answered_and_recorded() {
    let origin = Wire::bind().await.ok();
    let (_file, broken) = secret_file("two\nlines");
    let unusable = RouteConfig { credential_key: broken, ..route("/broken", origin.addr) };
    let proxy = proxy(vec![route("/api", origin.addr), unusable]).await;
    for (line, field, status, category) in [
        ("GET /nowhere/x", "", 404, Some(DenialCategory::UnknownRoute)),
        ("GET /api?x=1", "", 200, None),
        ("GET /api", "", 200, None),
        ("FROB /api/x", "", 200, None),
        ("G@T /api/x", "", 400, Some(DenialCategory::InvalidRequest)),
        ("GET /broken/x", "", 503, Some(DenialCategory::ManagedCredentialUnavailable)),
        ("GET /api/x", "X: \u{e9}\r\n", 200, None),
        ("NONSENSE", "", 400, Some(DenialCategory::InvalidRequest)),
    ] {
        let reply = exchange(proxy.addr(), &(proxy.begin(line) + field + "\r\n")).await;
        assert_eq!(reply.status, status, "{line}");
        let record = proxy.records(1).await.remove(0);
        assert_eq!((record.status, record.denial_category), (Some(status), category), "{line}");
        if category.is_some() {
            assert_eq!(reply.json()["request_id"], record.id.to_string());
        }
    }
    assert_eq!(origin.requests()[0].line(), "GET /?x=1 HTTP/1.1");
}

#[tokio::test]
async fn the_refusal_of_a_large_upload_is_recorded() {
    let origin = Wire::bind().await.ok();
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut client = Connection::open(proxy.addr()).await;
    let head = "POST /api/x HTTP/1.1\r\nHost: p\r\nContent-Length: 20000000\r\n\r\n";
    client.send(head).await;
    client.try_send(vec![0; 20_000_000]).await;
    assert_eq!(client.message().await.status(), 401);
    let record = proxy.records(1).await.remove(0);
    assert_eq!((record.status, record.outcome), (Some(401), Outcome::Refused));
}

#[tokio::test]
async fn an_sdk_that_knows_only_the_token_uses_a_route_without_credential() {
    let origin = Wire::bind().await.ok();
    let open = RouteConfig { credential_key: None, ..route("/open", origin.addr) };
    let proxy = proxy(vec![open]).await;
    assert_eq!(bare(&proxy, "GET /open/x").await.status, 401);
    let token = &proxy.token;
    let basic = BASE64.encode(format!("u:{token}"));
    for field in [
        format!("Authorization: Bearer {token}"),
        format!("Authorization: Basic {basic}"),
        format!("x-api-key: {token}"),
    ] {
        let head = format!("GET /open/x HTTP/1.1\r\nHost: p\r\n{field}\r\n\r\n");
        assert_eq!(exchange(proxy.addr(), &head).await.status, 200, "{field}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.fields(), [format!("host: {}", origin.addr)], "{field}");
    }
}

#[tokio::test]
async fn a_basic_route_takes_the_token_in_both_schemes_and_sends_its_own_pair() {
    let origin = Wire::bind().await.ok();
    let (_file, pair) = secret_file("user:pass word");
    let basic = RouteConfig {
        inject_mode: InjectMode::BasicAuth,
        credential_key: pair,
        ..route("/basic", origin.addr)
    };
    let proxy = proxy(vec![basic]).await;
    let token = &proxy.token;
    for value in [
        format!("Basic {}", BASE64.encode(format!("u:{token}"))),
        format!("Basic {}", BASE64.encode(format!(":{token}"))),
        format!("Bearer {token}"),
    ] {
        let head = format!("GET /basic/x HTTP/1.1\r\nHost: p\r\nAuthorization: {value}\r\n\r\n");
        assert_eq!(exchange(proxy.addr(), &head).await.status, 200);
        let seen = origin.requests().pop().unwrap();
        let own = format!("Basic {}", BASE64.encode("user:pass word"));
        assert_eq!(seen.values("authorization"), [own]);
    }
}

#[tokio::test]
async fn a_secret_in_the_path_is_escaped_and_replaces_every_copy_of_the_token() {
    let origin = Wire::bind().await.ok();
    let (_file, awkward) = secret_file("sk/..?x#y z");
    let config = RouteConfig {
        inject_mode: InjectMode::UrlPath,
        path_pattern: Some("/bot{}/".into()),
        credential_key: awkward,
        ..route("/path", origin.addr)
    };
    let proxy = proxy(vec![config]).await;
    let token = &proxy.token;
    assert_eq!(bare(&proxy, &format!("GET /path/bot{token}/a/bot{token}/b")).await.status, 200);
    let line = origin.only().line();
    assert!(!line.contains(token.as_str()), "{line}");
    let path = line.split(' ').nth(1).unwrap();
    let segments: Vec<_> = path.split('/').collect();
    assert_eq!(segments.len(), 5, "{path}");
    assert_eq!(segments[1], segments[3]);
    let decoded = percent_encoding::percent_decode_str(segments[1]).decode_utf8().unwrap();
    assert_eq!(decoded, "botsk/..?x#y z");
    // A copy elsewhere cannot be replaced, so it is not sent either.
    let elsewhere = format!("GET /path/bot{token}/a/{token}");
    assert_eq!(bare(&proxy, &elsewhere).await.status, 401);
    for record in proxy.records(2).await {
        assert!(!record.path.unwrap().contains(token.as_str()));
    }
}

#[tokio::test]
async fn the_environment_names_the_address_that_is_bound() {
    let bind: SocketAddr = "[::1]:0".parse().unwrap();
    let origin = Wire::bind().await.ok();
    let routes = vec![route("/my-api", origin.addr)];
    let proxy = TestProxy::start(ProxyConfig { bind, routes, ..ProxyConfig::default() }).await;
    let base = format!("http://[::1]:{}", proxy.addr().port());
    let variables = proxy.credential_env_vars();
    assert!(variables.contains(&("MY_API_BASE_URL".into(), format!("{base}/my-api"))));
    assert!(variables.contains(&("MY_API_API_KEY".into(), proxy.token.clone())));
    let proxied = format!("http://nono:{}@[::1]:{}", proxy.token, proxy.addr().port());
    assert!(proxy.env_vars().contains(&("HTTP_PROXY".into(), proxied)));
    assert_eq!(proxy.get("/my-api/x").await.status, 200);
}

#[tokio::test]
async fn a_stream_goes_on_through_the_grace_of_a_shutdown() {
    let wire = Wire::bind().await;
    let proxy = TestProxy::with_route(wire.addr).await;
    let (mut client, mut upstream) = wire.request(&proxy, proxy.begin("GET /api/x") + "\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n0\n\r\n").await;
    client.only_head().await;
    assert_eq!(client.chunk().await.unwrap(), b"0\n");
    let talk = async {
        for n in 1..5 {
            upstream.send(format!("2\r\n{n}\n\r\n")).await;
            assert_eq!(client.chunk().await.unwrap(), format!("{n}\n").as_bytes());
        }
        upstream.send("0\r\n\r\n").await;
        assert_eq!(client.chunk().await, None);
    };
    tokio::join!(proxy.shutdown(Duration::from_mins(1)), talk);
    assert_eq!(proxy.only_record().outcome, Outcome::Complete);
}

#[tokio::test]
async fn the_placeholder_of_the_documentation_is_one_and_others_are_mistakes() {
    let origin = Wire::bind().await.ok();
    let formatted = |format: &str| RouteConfig {
        credential_format: Some(format.into()),
        ..route("/api", origin.addr)
    };
    for format in ["Bearer {credential}", "Bearer {}"] {
        let proxy = proxy(vec![formatted(format)]).await;
        assert_eq!(proxy.get("/api/x").await.status, 200);
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.values("authorization"), [format!("Bearer {REAL_KEY}")]);
    }
    for format in ["Bearer", "Bearer {key}", "{} {}", "Bearer {credential} {}"] {
        assert!(formatted(format).check().is_err(), "{format}");
    }
}
