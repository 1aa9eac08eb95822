//! The session token: it gets no further than the proxy, and nobody passes without it unless
//! nobody has to have it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nono_audit::{AuthMechanism, AuthOutcome};
use nono_proxy::{InjectMode, ProxyConfig, RouteConfig};
use support::{Connection, Origin, REAL_KEY, Reply, TestProxy, exchange, route};

/// A proxy with routes of every kind to `origin`.
async fn proxy(origin: &Origin, require_auth: bool) -> TestProxy {
    let base = |prefix: &str| route(prefix, origin.addr);
    let query = RouteConfig {
        inject_mode: InjectMode::QueryParam,
        query_param_name: Some("key".into()),
        ..base("/query")
    };
    let path = RouteConfig {
        inject_mode: InjectMode::UrlPath,
        path_pattern: Some("/bot{}/".into()),
        ..base("/path")
    };
    let open = RouteConfig { credential_key: None, ..base("/open") };
    let strips = RouteConfig { strip_client_credentials: true, ..base("/strips") };
    let strips_open = RouteConfig {
        strip_client_credentials: true,
        credential_key: None,
        ..base("/strips-open")
    };
    let rules =
        RouteConfig { endpoint_rules: vec![("GET".into(), "/**".into())], ..base("/rules") };
    let routes = vec![base("/header"), query, path, open, strips, strips_open, rules];
    let allowed_hosts = vec![origin.addr.to_string()];
    let config = ProxyConfig { routes, allowed_hosts, require_auth, ..ProxyConfig::default() };
    TestProxy::start(config).await
}

/// A GET of `target` with more header lines.
async fn get(proxy: &TestProxy, target: &str, fields: &[String]) -> Reply {
    let head = [format!("GET {target} HTTP/1.1"), "Host: proxy".into()];
    let lines = [&head, fields].concat().join("\r\n");
    exchange(proxy.addr(), &format!("{lines}\r\n\r\n")).await
}

#[tokio::test]
async fn a_parameter_that_is_the_token_is_a_key_and_goes_no_further() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, true).await;
    let token = &proxy.token;
    let escaped = format!("%{:x}{}", token.as_bytes()[0], &token[1..]);
    for (asked, sent) in [
        (format!("/header/x?key={token}"), "/x"),
        (format!("/header/x?key={token}&alt=sse"), "/x?alt=sse"),
        (format!("http://{}/header/x?key={token}&b=2", proxy.addr()), "/x?b=2"),
        (format!("/header/x?a=1&key={token}&&b=2"), "/x?a=1&&b=2"),
        (format!("/header/x?{token}"), "/x"),
        (format!("/header/x?key={escaped}&a=%20"), "/x?a=%20"),
        (format!("/open/x?key={token}&key={token}"), "/x"),
        (format!("/query/x?a=1&key={token}"), &format!("/x?a=1&key={REAL_KEY}")),
        (format!("/query/x?other={token}"), &format!("/x?key={REAL_KEY}")),
    ] {
        assert_eq!(get(&proxy, &asked, &[]).await.status, 200, "{asked}");
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.target, sent, "{asked}");
    }
    let records = proxy.drain_audit();
    assert!(records.iter().all(|r| r.auth_mechanism == Some(AuthMechanism::PhantomQuery)));
}

#[tokio::test]
async fn whichever_slot_counts_the_others_are_cleared() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, true).await;
    let token = proxy.token.clone();
    let bearer = format!("Authorization: Bearer {token}");
    for field in [
        format!("x-goog-api-key: {token}"),
        format!("api-key: Key {token}"),
        format!("api-key: prefix-{token}"),
        format!("x-api-key: first\r\nx-api-key: {token}"),
        format!("Proxy-Authorization: Digest {token}"),
        format!("Cookie: a=1; t={token}"),
        format!("x-anything: {}", BASE64.encode(format!("user:{token}"))),
    ] {
        for path in ["/header/x", "/open/x"] {
            let target = format!("{path}?key={token}&a=1");
            let reply = get(&proxy, &target, &[bearer.clone(), field.clone()]).await;
            assert_eq!(reply.status, 200, "{path} {field}: {}", reply.text());
        }
    }
    assert_eq!(origin.seen().len(), 14);
    for seen in origin.seen() {
        assert!(!format!("{seen:?}").contains(&token), "{seen:?}");
        assert_eq!(seen.target, "/x?a=1");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_taken_out_is_refused() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, true).await;
    let token = &proxy.token;
    let bearer = [format!("Authorization: Bearer {token}")];
    let escaped = format!("%{:x}{}", token.as_bytes()[0], &token[1..]);
    for target in [
        format!("/header/{token}"),
        format!("/header/bot{token}/x"),
        format!("/header/x?next=/y%3Fkey%3D{token}"),
        format!("/open/x?a={token}x"),
        format!("/query/x?a={token}x"),
        format!("/path/bot{token}/{token}"),
        format!("/path/bot{token}/x/{escaped}"),
        format!("/path/bot{token}/x{escaped}/bot{token}/y"),
        format!("/path/bot{escaped}/x"),
    ] {
        let reply = get(&proxy, &target, &bearer).await;
        assert_eq!((reply.status, reply.code()), (401, "token_misplaced".into()), "{target}");
    }
    assert!(origin.seen().is_empty());
    let target = format!("/path/bot{token}/bot{token}/%20x");
    assert_eq!(get(&proxy, &target, &[]).await.status, 200);
    assert_eq!(origin.only().target, format!("/bot{REAL_KEY}/bot{REAL_KEY}/%20x"));
}

#[tokio::test]
async fn a_credential_of_the_clients_own_can_be_stripped() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, true).await;
    let fields = [
        format!("Proxy-Authorization: Bearer {}", proxy.token),
        "Authorization: Bearer their-own".into(),
        "x-api-key: their-own".into(),
        "x-goog-api-key: their-own".into(),
    ];
    assert_eq!(get(&proxy, "/header/x", &fields).await.code(), "foreign_credential");
    for (path, key) in
        [("/strips/x", format!("Bearer {REAL_KEY}")), ("/strips-open/x", String::new())]
    {
        assert_eq!(get(&proxy, path, &fields).await.status, 200);
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.header("authorization"), key);
        assert!(!format!("{seen:?}").contains("their-own"), "{seen:?}");
    }
}

#[tokio::test]
async fn the_parameter_of_a_route_takes_no_key_of_the_clients_own() {
    let origin = Origin::hello().await;
    let query = |prefix| RouteConfig {
        inject_mode: InjectMode::QueryParam,
        query_param_name: Some("key".into()),
        ..route(prefix, origin.addr)
    };
    let strips = RouteConfig { strip_client_credentials: true, ..query("/strips") };
    let config = ProxyConfig { routes: vec![query("/query"), strips], ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let own = [format!("Authorization: Bearer {}", proxy.token)];
    for query in ["key=their-own", "a=1&key=", "%6bey=their-own", "key"] {
        let reply = get(&proxy, &format!("/query/x?{query}"), &own).await;
        assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()), "{query}");
    }
    for (asked, sent) in [
        ("/query/x?Key=a&&keys=b", "Key=a&&keys=b&"),
        ("/query/x?", ""),
        ("/strips/x?key=their-own&a=1&k%65y=2", "a=1&"),
    ] {
        assert_eq!(get(&proxy, asked, &own).await.status, 200, "{asked}");
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.target, format!("/x?{sent}key={REAL_KEY}"), "{asked}");
    }
}

#[tokio::test]
async fn googles_apis_take_a_key_in_the_query_too() {
    let origin = Origin::hello().await;
    let google = |prefix| RouteConfig {
        inject_header: "x-goog-api-key".into(),
        ..route(prefix, origin.addr)
    };
    let strips = RouteConfig { strip_client_credentials: true, ..google("/strips") };
    let config = ProxyConfig { routes: vec![google("/google"), strips], ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    let own = [format!("x-goog-api-key: {}", proxy.token)];
    let theirs = ["key", "a=1&access_token", "oauth_token", "%6bey"];
    for query in theirs.map(|name| format!("{name}=their-own")) {
        let reply = get(&proxy, &format!("/google/x?{query}"), &own).await;
        assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()), "{query}");
    }
    for query in [format!("key={}&alt=sse", proxy.token), "alt=sse".into()] {
        assert_eq!(get(&proxy, &format!("/google/x?{query}"), &own).await.status, 200);
    }
    for query in ["key=their-own&alt=sse", "access_token=a&alt=sse&key=&oauth_token=b"] {
        assert_eq!(get(&proxy, &format!("/strips/x?{query}"), &own).await.status, 200);
    }
    for seen in origin.seen() {
        assert_eq!((&*seen.target, seen.header("x-goog-api-key")), ("/x?alt=sse", REAL_KEY));
    }
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test]
async fn a_header_or_a_parameter_cannot_replace_the_method_that_rules_judge() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, true).await;
    let bearer = format!("Authorization: Bearer {}", proxy.token);
    let names = ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"];
    // As CGI and what is made after it has all three.
    let variables = names.map(|name| name.replace('-', "_"));
    for name in names.into_iter().chain(variables.iter().map(String::as_str)) {
        let fields = [bearer.clone(), format!("{name}: DELETE")];
        let reply = get(&proxy, "/rules/x", &fields).await;
        assert_eq!((reply.status, reply.code()), (400, "method_override".into()), "{name}");
        assert_eq!(get(&proxy, "/header/x", &fields).await.status, 200, "{name}");
    }
    let fields = [bearer];
    let reply = get(&proxy, "/rules/x?a=1&_method=DELETE", &fields).await;
    assert_eq!((reply.status, reply.code()), (400, "method_override".into()));
    assert_eq!(get(&proxy, "/header/x?_method=DELETE", &fields).await.status, 200);
    assert_eq!(origin.seen().len(), 7);
}

#[tokio::test]
async fn a_key_of_the_clients_own_is_found_under_a_name_with_underscores() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, true).await;
    let own = [format!("Authorization: Bearer {}", proxy.token), "X_API_Key: theirs".into()];
    let reply = get(&proxy, "/header/x", &own).await;
    assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()));
    assert_eq!(get(&proxy, "/strips/x", &own).await.status, 200);
    assert_eq!(origin.only().header("x_api_key"), "");
    // Nor the other way round.
    let route = RouteConfig { inject_header: "My_Key".into(), ..route("/api", origin.addr) };
    let config = ProxyConfig { routes: vec![route], ..ProxyConfig::default() };
    let proxy = TestProxy::start(config).await;
    for name in ["My_Key", "My-Key"] {
        let own = [format!("Authorization: Bearer {}", proxy.token), format!("{name}: theirs")];
        let reply = get(&proxy, "/api/x", &own).await;
        assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()), "{name}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn without_required_authentication_all_pass_and_the_record_says_so() {
    let origin = Origin::hello().await;
    let proxy = proxy(&origin, false).await;
    assert_eq!(get(&proxy, "/header/x", &[]).await.status, 200);
    let absolute = format!("GET http://{0}/x HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.addr);
    // The origin is the upstream of routes, which alone lead there; strangers may know that here.
    assert_eq!(exchange(proxy.addr(), &absolute).await.code(), "route_only");
    let shown = [format!("Authorization: Bearer {}", proxy.token)];
    assert_eq!(get(&proxy, "/open/x", &shown).await.status, 200);
    let [first, second] = <[_; 2]>::try_from(origin.seen()).unwrap();
    assert_eq!(first.header("authorization"), format!("Bearer {REAL_KEY}"));
    assert_eq!(second.header("authorization"), "");
    let outcomes: Vec<_> = proxy.drain_audit().iter().map(|r| r.auth_outcome.unwrap()).collect();
    let expected = [AuthOutcome::NotRequired, AuthOutcome::NotRequired, AuthOutcome::Succeeded];
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn without_required_authentication_tunnels_open() {
    let origin = Origin::hello().await;
    let config = ProxyConfig {
        allowed_hosts: vec![origin.addr.to_string()],
        require_auth: false,
        ..ProxyConfig::default()
    };
    let proxy = TestProxy::start(config).await;
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.addr)).await;
    assert!(connection.head().await.starts_with("http/1.1 200"));
    connection.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", origin.addr)).await;
    assert_eq!(connection.reply().await.text(), "hello");
}
