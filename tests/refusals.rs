//! What a refused client is told: the same shape always, and what to do about it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use nono_proxy::{Judge, Listed, ProxyConfig, RouteConfig, refusals};
use support::{Origin, Reply, TestProxy, exchange, isolated_async, route};

async fn connect(proxy: &TestProxy, target: &str) -> Reply {
    let token = proxy.proxy_authorization();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{token}\r\n");
    exchange(proxy.addr(), &head).await
}

async fn with_rules(origin: &Origin, rules: &[(&str, &str)]) -> TestProxy {
    let rules = rules.iter().map(|(method, path)| (method.to_string(), path.to_string()));
    let endpoint_rules = rules.collect();
    let config = RouteConfig {
        upstream: format!("http://{}/v1", origin.addr),
        endpoint_rules,
        ..route("/a/b", origin.addr)
    };
    TestProxy::start(ProxyConfig { routes: vec![config], ..ProxyConfig::default() }).await
}

/// The texts in double quotes in the hint of a refusal.
fn quoted(reply: &Reply) -> Vec<String> {
    let hint = reply.json()["hint"].as_str().unwrap().to_owned();
    hint.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_refusal_has_the_same_shape() {
    let origin = Origin::hello().await;
    let proxy = with_rules(&origin, &[("GET", "/ok")]).await;
    let ask = async |request: String| exchange(proxy.addr(), &request).await;
    let token = proxy.proxy_authorization();
    let replies = [
        (proxy.get("/nowhere").await, 404, "unknown_route", "http_request_denied"),
        (proxy.get("/a/b/secret").await, 403, "endpoint_not_allowed", "http_request_denied"),
        (proxy.get("/a/b/../x").await, 400, "ambiguous_path", "http_request_denied"),
        (connect(&proxy, "x.example:443").await, 403, "host_not_allowed", "http_request_denied"),
        (
            connect(&proxy, &proxy.addr().to_string()).await,
            508,
            "own_listener",
            "proxy_loop_detected",
        ),
        (
            ask("GET / HTTP/1.1\r\nHost: p\r\n\r\n".into()).await,
            401,
            "token_required",
            "http_request_denied",
        ),
        (
            ask("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".into()).await,
            407,
            "proxy_token_required",
            "http_request_denied",
        ),
        (
            ask(format!("TRACE http://x/ HTTP/1.1\r\nHost: x\r\n{token}\r\n")).await,
            405,
            "method_refused",
            "http_request_error",
        ),
        (ask("NONSENSE\r\n\r\n".into()).await, 400, "malformed_request", "http_request_error"),
    ];
    let records = proxy.records(replies.len()).await;
    for ((reply, status, code, error), record) in replies.into_iter().zip(records) {
        assert_eq!((reply.status, &*reply.code()), (status, code));
        let body = reply.json();
        let mut keys: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "error", "hint", "message", "request_id"], "{code}");
        assert!(!body["message"].as_str().unwrap().is_empty());
        assert_eq!(body["request_id"], record.id.to_string(), "{code}");
        assert!(reply.head.contains("content-type: application/json\r\n"), "{}", reply.head);
        let field = format!("proxy-status: nono; error={error}; details=\"{code}\"\r\n");
        assert!(reply.head.contains(&field), "{}", reply.head);
    }
}

/// RFC 9110 §15.5.2, §15.5.6, §15.5.8.
#[tokio::test]
async fn what_a_client_is_to_do_instead_is_said_in_a_field() {
    let origin = Origin::hello().await;
    let proxy = with_rules(&origin, &[("GET", "/ok")]).await;
    let misplaced = proxy.begin(&format!("GET /a/b/ok?x=y{}", proxy.token)) + "\r\n";
    let allow = "allow: get, head, post, put, patch, delete, options, connect\r\n";
    for (request, status, field) in [
        (misplaced, 401, "www-authenticate: bearer realm=\"nono\"\r\n"),
        (
            "GET /a/b HTTP/1.1\r\nHost: p\r\n\r\n".into(),
            401,
            "www-authenticate: bearer realm=\"nono\"\r\n",
        ),
        (
            "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            407,
            "proxy-authenticate: basic realm=\"nono\"\r\n",
        ),
        (proxy.begin("TRACE /a/b") + "\r\n", 405, allow),
    ] {
        let reply = exchange(proxy.addr(), &request).await;
        assert_eq!(reply.status, status, "{request}");
        assert!(reply.head.contains(field), "{}", reply.head);
    }
}

#[test]
fn a_judge_refuses_what_the_proxy_does() {
    let origin = "127.0.0.1:9".parse().unwrap();
    let endpoint_rules = vec![("*".to_owned(), "/ok".to_owned())];
    let routes = vec![RouteConfig { endpoint_rules, ..route("/api", origin) }];
    let judge = Judge::new(&ProxyConfig { routes, ..ProxyConfig::default() }).unwrap();
    for (method, path, refusal) in [
        ("POST", "/api/ok?a=1", None),
        ("TRACE", "/api/ok", Some("method_refused")),
        ("CONNECT", "/api/ok", Some("method_refused")),
        ("POST", "/api/ok?_method=DELETE", Some("method_override")),
        ("POST", "/api/;ok", Some("ambiguous_path")),
        ("POST", "/api/other", Some("endpoint_not_allowed")),
        ("POST", "/other", Some("unknown_route")),
    ] {
        assert_eq!(judge.endpoint(method, path).unwrap().refusal, refusal, "{method} {path}");
    }
}

#[test]
fn the_list_of_refusals_has_what_depends_on_the_request() {
    let listed = refusals();
    for (status, said) in [
        (400, "its body ends too early"),
        (401, "in the URL"),
        (408, "its head took too long"),
        (414, "its request line is too long"),
        (431, "its head is too long"),
        (431, "100 header fields"),
        (431, "its trailers are too long"),
        (503, "did not arrive within"),
        (503, "cannot be sent"),
        (503, "has expired"),
    ] {
        let is_it = |it: &Listed| it.status == status && it.message.contains(said);
        assert!(listed.iter().any(is_it), "{status} {said}");
    }
}

#[test]
fn the_rule_in_a_hint_lets_the_host_through() {
    isolated_async("the_rule_in_a_hint_lets_the_host_through", async {
        let strict = TestProxy::with_hosts(&["*.localhost"]).await;
        let all = ProxyConfig { allow_all_hosts: true, ..ProxyConfig::default() };
        let all = TestProxy::start(all).await;
        // Nothing listens on any of these, so what is let through is answered 502.
        for (proxy, target, code) in [
            (&strict, "127.0.0.1:9", "host_not_allowed"),
            (&strict, "[::1]:9", "host_not_allowed"),
            (&strict, "2130706433:9", "host_not_allowed"),
            (&strict, "LocalHost.:9", "host_not_allowed"),
            (&all, "localhost:9", "address_refused"),
            (&all, "[::ffff:127.0.0.1]:9", "address_refused"),
        ] {
            let refused = connect(proxy, target).await;
            assert_eq!((refused.status, &*refused.code()), (403, code), "{target}");
            let rules = quoted(&refused);
            let [rule] = &rules[..] else { unreachable!("{rules:?}") };
            let open = TestProxy::with_hosts(&[rule]).await;
            assert_eq!(connect(&open, target).await.status, 502, "{target} by {rule}");
            let beside = target.replace(":9", ":10");
            assert_eq!(connect(&open, &beside).await.code(), "host_not_allowed", "{beside}");
        }
        for target in ["169.254.169.254:80", "metadata.google.internal:80", "0.0.0.0:80"] {
            for proxy in [&strict, &all] {
                let refused = connect(proxy, target).await;
                assert_eq!(refused.code(), "address_refused", "{target}");
                assert!(refused.json()["hint"].is_null(), "no rule helps: {}", refused.text());
            }
        }
    });
}

#[tokio::test]
async fn the_rule_in_a_hint_lets_the_request_through_and_no_other() {
    let origin = Origin::hello().await;
    let strict = with_rules(&origin, &[("GET", "/ok")]).await;
    for (method, path) in
        [("GET", "/x/y.json?z=1"), ("POST", "/ok"), ("DELETE", ""), ("PURGE", "/~a/%20;b=@c")]
    {
        let send = async |proxy: &TestProxy, path: &str| {
            exchange(proxy.addr(), &(proxy.begin(&format!("{method} /a/b{path}")) + "\r\n")).await
        };
        let refused = send(&strict, path).await;
        assert_eq!((refused.status, refused.code()), (403, "endpoint_not_allowed".into()));
        let words = quoted(&refused);
        let [allowed_method, allowed_path] = &words[..] else { unreachable!("{words:?}") };
        let open = with_rules(&origin, &[(allowed_method, allowed_path)]).await;
        assert_eq!(send(&open, path).await.status, 200, "{method} {path}");
        assert_eq!(send(&open, "/other").await.status, 403, "{method} {path}");
        assert_eq!(open.get("/a/b/ok").await.status, 403, "{method} {path}");
    }
    // A path that would mean more as a rule than it does as a path is not made one.
    let refused = strict.get("/a/b/x/*").await;
    assert!(!refused.json()["hint"].as_str().unwrap().contains('*'), "{}", refused.text());
}
