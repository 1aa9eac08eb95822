//! Sources that are asked over the network, or by running a program.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::Response;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use nono_proxy::{Limits, OAuth2Config, ProxyConfig, RouteConfig, VaultConfig};
use support::{Authority, KEY_VARIABLE, Origin, REAL_KEY, Reaction, Seen, TestProxy};
use tokio::sync::Semaphore;

use crate::stage::{KeyFile, keys, keys_seen, open_route, proxy, until};

fn json(status: u16, body: &str) -> Reaction {
    let body = Full::from(body.to_owned()).boxed();
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn vault_route(origin: &Origin, vault: &Origin, key: &str) -> RouteConfig {
    let vault = VaultConfig {
        address: format!("http://{}", vault.addr),
        token_key: format!("env://{KEY_VARIABLE}"),
        namespace: Some("team".into()),
        tls_ca: None,
    };
    RouteConfig { credential_key: Some(key.into()), vault: Some(vault), ..open_route(origin) }
}

/// Answers as Vault's KV store does: one secret, one token, one namespace.
fn vault(seen: &Seen) -> Reaction {
    if seen.header("x-vault-token") != REAL_KEY {
        return json(403, r#"{"errors":["permission denied"]}"#);
    }
    assert_eq!((seen.method.as_str(), seen.header("x-vault-namespace")), ("GET", "team"));
    match seen.target.as_str() {
        "/v1/kv/data/llm/openai" => json(
            200,
            r#"{"data":{"data":{"key":"sk-from-vault","empty":"","pin":1234},"metadata":{"version":3}}}"#,
        ),
        "/v1/kv/data/sealed" => json(503, r#"{"errors":["Vault is sealed"]}"#),
        _ => json(404, r#"{"errors":[]}"#),
    }
}

#[tokio::test]
async fn a_field_of_a_secret_in_vault() {
    let (origin, vault) = (Origin::hello().await, Origin::start(None, vault).await);
    let proxy = proxy(vault_route(&origin, &vault, "vault://kv/llm/openai#key")).await;
    assert_eq!(proxy.diagnostics(), []);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["sk-from-vault"]);
}

#[tokio::test]
async fn what_vault_does_not_give_is_said_in_words() {
    let (origin, vault) = (Origin::hello().await, Origin::start(None, vault).await);
    for (key, code, said) in [
        ("vault://kv/llm/openai#other", "credential_not_found", "no field `other`"),
        ("vault://kv/llm/openai#empty", "credential_not_found", "no field `empty`"),
        ("vault://kv/llm/openai#pin", "credential_unavailable", "field `pin` in Vault is no text"),
        ("vault://kv/nothing#key", "credential_not_found", "vault kv put kv/nothing key="),
        ("vault://kv/sealed#key", "credential_unavailable", "sealed"),
    ] {
        let proxy = proxy(vault_route(&origin, &vault, key)).await;
        let found = proxy.diagnostics();
        let text = format!("{} {:?}", found[0].message, found[0].hint);
        assert_eq!(found[0].code, code, "{text}");
        assert!(text.contains(said) && text.contains(key), "{text}");
    }
    let mut route = vault_route(&origin, &vault, "vault://kv/llm/openai#key");
    let wrong = VaultConfig { token_key: "env://PATH".into(), ..route.vault.take().unwrap() };
    let proxy = proxy(RouteConfig { vault: Some(wrong), ..route }).await;
    let said = &proxy.diagnostics()[0].message;
    assert!(said.contains("refuses the token at `env://PATH`"), "{said}");
}

#[tokio::test]
async fn a_server_is_trusted_by_an_authority_of_its_own() {
    let authority = Authority::new();
    let identity = || Some(authority.identity(&["localhost"]));
    let issue = |_: &Seen| json(200, r#"{"access_token":"token-over-tls","expires_in":60}"#);
    let (vault, issuer) =
        (Origin::start(identity(), vault).await, Origin::start(identity(), issue).await);
    let origin = Origin::hello().await;
    for (tls_ca, status) in [(None, 503), (Some(authority.pem_file()), 200)] {
        let mut of_vault = vault_route(&origin, &vault, "vault://kv/llm/openai#key");
        let server = of_vault.vault.as_mut().unwrap();
        server.address = format!("https://localhost:{}", vault.addr.port());
        server.tls_ca.clone_from(&tls_ca);
        let of_issuer = OAuth2Config {
            token_url: format!("https://localhost:{}/token", issuer.addr.port()),
            tls_ca,
            ..oauth2(&issuer)
        };
        let of_issuer = RouteConfig { oauth2: Some(of_issuer), ..open_route(&origin) };
        for route in [of_vault, of_issuer] {
            let proxy = proxy(route).await;
            let said = format!("{:?}", proxy.diagnostics());
            assert_eq!(said.contains("no trusted authority"), status == 503, "{said}");
            assert_eq!(proxy.get("/api/x").await.status, status);
        }
    }
    assert_eq!(keys_seen(&origin), ["sk-from-vault", "token-over-tls"]);
}

#[tokio::test]
async fn a_vault_that_is_not_there_is_unavailable() {
    let origin = Origin::hello().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut route = vault_route(&origin, &origin, "vault://kv/llm/openai#key");
    route.vault.as_mut().unwrap().address = format!("http://{closed}");
    let proxy = proxy(route).await;
    let found = proxy.diagnostics();
    assert_eq!(found[0].code, "credential_unavailable");
    assert!(found[0].message.contains("cannot be reached"), "{}", found[0].message);
}

fn oauth2(issuer: &Origin) -> OAuth2Config {
    OAuth2Config {
        token_url: format!("http://{}/token", issuer.addr),
        client_id: "agent:1".into(),
        client_secret: Some(format!("env://{KEY_VARIABLE}")),
        scope: Some("read write".into()),
        extra_params: vec![("audience".into(), "https://api/".into())],
        ..OAuth2Config::default()
    }
}

#[tokio::test]
async fn a_token_by_client_credentials_and_a_new_one_before_it_expires() {
    let count = AtomicUsize::new(0);
    let issuer = Origin::start(None, move |seen| {
        let basic =
            base64::engine::general_purpose::STANDARD.encode(format!("agent%3A1:{REAL_KEY}"));
        assert_eq!(seen.header("authorization"), format!("Basic {basic}"));
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/token"));
        let form = "grant_type=client_credentials&audience=https%3A%2F%2Fapi%2F&scope=read%20write";
        assert_eq!(seen.body, form);
        let count = count.fetch_add(1, Ordering::SeqCst);
        let life = if count == 0 { 1 } else { 3600 };
        json(
            200,
            &format!(
                r#"{{"access_token":"token-{count}","token_type":"Bearer","expires_in":{life}}}"#
            ),
        )
    })
    .await;
    let origin = Origin::hello().await;
    let proxy = proxy(RouteConfig { oauth2: Some(oauth2(&issuer)), ..open_route(&origin) }).await;
    assert_eq!(proxy.diagnostics(), []);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    until(async || issuer.seen().len(), |count| *count == 2).await;
    until(
        async || proxy.get("/api/x").await.status,
        |_| keys_seen(&origin).last().is_some_and(|key| key == "token-1"),
    )
    .await;
    assert_eq!(keys_seen(&origin)[0], "token-0");
}

#[tokio::test]
async fn a_token_by_a_refresh_token_which_the_issuer_replaces() {
    let issuer = Origin::start(None, |seen| {
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        assert_eq!(seen.header("authorization"), "");
        assert!(body.starts_with("grant_type=refresh_token&refresh_token="), "{body}");
        assert!(body.ends_with("&client_id=public"), "{body}");
        if body.contains(REAL_KEY) {
            json(200, r#"{"access_token":"token-1","expires_in":"3600","refresh_token":"next"}"#)
        } else if body.contains("=next&") {
            json(200, r#"{"access_token":"token-2","expires_in":3600}"#)
        } else {
            json(400, r#"{"error":"invalid_grant"}"#)
        }
    })
    .await;
    let origin = Origin::hello().await;
    let config = OAuth2Config {
        token_url: format!("http://{}/token", issuer.addr),
        client_id: "public".into(),
        refresh_token: Some(format!("env://{KEY_VARIABLE}")),
        ..OAuth2Config::default()
    };
    let proxy = proxy(RouteConfig { oauth2: Some(config), ..open_route(&origin) }).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(proxy.reload_credentials().await, []);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["token-1", "token-2"]);
}

/// An issuer whose answers say what `expires_in` is.
async fn issuer_of(expires_in: &'static str) -> Origin {
    let answer = format!(r#"{{"access_token":"the-token","expires_in":{expires_in}}}"#);
    Origin::start(None, move |_| json(200, &answer)).await
}

#[tokio::test]
async fn how_long_a_token_is_valid_is_a_number_of_whatever_form() {
    let origin = Origin::hello().await;
    for (expires_in, said) in [
        ("3599.5", None),
        ("\"3600.25\"", None),
        ("3.6e3", None),
        ("null", None),
        ("-1", Some("expired already")),
        ("0", Some("expired already")),
        ("1e300", Some("`expires_in`")),
        ("\"soon\"", Some("`expires_in`")),
        ("\"nan\"", Some("`expires_in`")),
        ("true", Some("`expires_in`")),
    ] {
        let issuer = issuer_of(expires_in).await;
        let proxy =
            proxy(RouteConfig { oauth2: Some(oauth2(&issuer)), ..open_route(&origin) }).await;
        let found = proxy.diagnostics().into_iter().map(|found| found.message).collect::<Vec<_>>();
        match said {
            None => assert_eq!(found, [""; 0], "{expires_in}"),
            Some(said) => assert!(found[0].contains(said), "{expires_in}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_whose_life_is_a_fraction_is_replaced_in_time() {
    let (issuer, origin) = (issuer_of("1.5").await, Origin::hello().await);
    let _proxy = proxy(RouteConfig { oauth2: Some(oauth2(&issuer)), ..open_route(&origin) }).await;
    until(async || issuer.seen().len(), |asked| *asked > 1).await;
}

#[tokio::test]
async fn a_refresh_token_is_read_again_when_it_is_replaced_or_the_renewed_one_is_refused() {
    let valid = keys(&["login-1"]);
    let issuer = {
        let valid = Arc::clone(&valid);
        Origin::start(None, move |seen| {
            let body = String::from_utf8(seen.body.to_vec()).unwrap();
            let mut valid = valid.lock().unwrap();
            let token = valid.iter().find(|token| body.contains(&format!("={token}&"))).cloned();
            let Some(token) = token else { return json(400, r#"{"error":"invalid_grant"}"#) };
            // Each is good for once.
            let renewed = format!("{token}-renewed");
            valid.retain(|other| *other != token);
            valid.push(renewed.clone());
            json(200, &format!(r#"{{"access_token":"by-{token}","refresh_token":"{renewed}"}}"#))
        })
        .await
    };
    let (origin, file) = (Origin::hello().await, KeyFile::new("login-1"));
    let config = OAuth2Config {
        client_secret: None,
        refresh_token: Some(file.locator()),
        ..oauth2(&issuer)
    };
    let proxy = proxy(RouteConfig { oauth2: Some(config), ..open_route(&origin) }).await;
    let used = async || {
        assert_eq!(proxy.reload_credentials().await, []);
        assert_eq!(proxy.get("/api/x").await.status, 200);
        keys_seen(&origin).pop().unwrap()
    };
    assert_eq!(used().await, "by-login-1-renewed");
    // The login is repeated: what is kept is another, and counts.
    valid.lock().unwrap().push("login-2".into());
    file.replace("login-2");
    assert_eq!(used().await, "by-login-2");
    assert_eq!(used().await, "by-login-2-renewed");
    // What is kept does not change, is valid again, and the renewed one is not.
    *valid.lock().unwrap() = vec!["login-2".into()];
    assert_eq!(used().await, "by-login-2");
    // The renewed one does not need the file.
    fs::remove_file(file.path()).unwrap();
    assert_eq!(used().await, "by-login-2-renewed");
    *valid.lock().unwrap() = vec![];
    let failed = proxy.reload_credentials().await;
    assert!(format!("{failed:?}").contains("it needs `file://"), "{failed:?}");
}

/// A route whose key is by the refresh token in [`KEY_VARIABLE`].
fn refreshed(origin: &Origin, issuer: &Origin) -> RouteConfig {
    let config = OAuth2Config {
        client_secret: None,
        refresh_token: Some(format!("env://{KEY_VARIABLE}")),
        ..oauth2(issuer)
    };
    RouteConfig { oauth2: Some(config), ..open_route(origin) }
}

/// Whether a request to an issuer is one with the refresh token `token`.
fn is_by(seen: &Seen, token: &str) -> bool {
    str::from_utf8(&seen.body).unwrap().contains(&format!("refresh_token={token}&"))
}

#[tokio::test]
async fn a_renewed_refresh_token_counts_whatever_else_the_answer_holds() {
    let issuer = Origin::start(None, |seen| {
        let steps = [
            (REAL_KEY, r#"{"access_token":"a","expires_in":"soon","refresh_token":"second"}"#),
            ("second", r#"{"refresh_token":"third"}"#),
            ("third", r#"{"access_token":"the-token","refresh_token":"fourth"}"#),
        ];
        // Each is good for once.
        steps.iter().find(|(token, _)| is_by(seen, token)).map_or_else(
            || json(400, r#"{"error":"invalid_grant"}"#),
            |(_, answer)| json(200, answer),
        )
    })
    .await;
    let origin = Origin::hello().await;
    let proxy = proxy(refreshed(&origin, &issuer)).await;
    assert!(proxy.diagnostics()[0].message.contains("`expires_in`"));
    assert!(format!("{:?}", proxy.reload_credentials().await).contains("no access token"));
    assert_eq!(proxy.reload_credentials().await, []);
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["the-token"]);
}

#[tokio::test]
async fn a_refresh_token_that_comes_too_late_for_its_fetch_is_not_lost() {
    let let_go = Arc::new(Semaphore::new(0));
    let issuer = {
        let let_go = Arc::clone(&let_go);
        Origin::start(None, move |seen| {
            if is_by(seen, "second") {
                return json(200, r#"{"access_token":"the-token"}"#);
            }
            let let_go = Arc::clone(&let_go);
            let late = async move {
                let _ = let_go.acquire().await;
                let answer = r#"{"access_token":"too-late","refresh_token":"second"}"#;
                Ok(Frame::data(Bytes::from_static(answer.as_bytes())))
            };
            Response::new(BoxBody::new(StreamBody::new(futures_util::stream::once(late))))
        })
        .await
    };
    let origin = Origin::hello().await;
    let limits = Limits { credential: Duration::from_secs(1), ..Limits::default() };
    let routes = vec![refreshed(&origin, &issuer)];
    let proxy = TestProxy::start(ProxyConfig { routes, limits, ..ProxyConfig::default() }).await;
    assert!(proxy.diagnostics()[0].message.contains("within 1 s"));
    assert_eq!(proxy.reload_credentials().await.len(), 1);
    assert_eq!(issuer.seen().len(), 1, "what is with the issuer is not sent again");
    let_go.add_permits(1);
    until(async || proxy.reload_credentials().await.len(), |failed| *failed == 0).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["the-token"]);
    assert!(issuer.seen()[1..].iter().all(|seen| is_by(seen, "second")));
}

#[tokio::test]
async fn an_issuers_refusal_is_told_by_its_code_alone() {
    let issuer = Origin::start(None, |seen| {
        let quoted = seen.header("authorization").to_owned();
        json(401, &format!(r#"{{"error":"invalid_client","error_description":"{quoted}"}}"#))
    })
    .await;
    let origin = Origin::hello().await;
    let proxy = proxy(RouteConfig { oauth2: Some(oauth2(&issuer)), ..open_route(&origin) }).await;
    let found = proxy.diagnostics();
    assert!(found[0].message.contains("invalid_client"), "{}", found[0].message);
    assert!(!found[0].message.contains("Basic"), "{}", found[0].message);
    assert_eq!(proxy.get("/api/x").await.status, 503);
}

fn command_route(origin: &Origin, script: &str) -> RouteConfig {
    RouteConfig {
        credential_key: Some("cmd://token".into()),
        credential_command: ["sh", "-c", script].map(str::to_owned).into(),
        ..open_route(origin)
    }
}

#[tokio::test]
async fn what_a_command_prints() {
    let origin = Origin::hello().await;
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!("echo >> {0}; echo token-$(wc -l < {0})", count.display());
    let route = RouteConfig {
        credential_ttl: Some(Duration::from_millis(500)),
        ..command_route(&origin, &script)
    };
    let proxy = proxy(route).await;
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert_eq!(keys_seen(&origin), ["token-1"]);
    until(async || fs::read(&count).unwrap().len(), |runs| *runs >= 3).await;
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_and_one_that_fails_is_told_without_secrets() {
    let origin = Origin::hello().await;
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let hang = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display());
    let failing = RouteConfig {
        prefix: "/failing".into(),
        ..command_route(&origin, "echo 'token sk-live-0123456789 is revoked' >&2; exit 1")
    };
    let routes = vec![command_route(&origin, &hang), failing];
    let limits = Limits { credential: Duration::from_secs(1), ..Limits::default() };
    let proxy = TestProxy::start(ProxyConfig { routes, limits, ..ProxyConfig::default() }).await;
    let found = proxy.diagnostics();
    assert!(found[0].message.contains("within 1 s"), "{}", found[0].message);
    assert!(found[1].message.ends_with("said: token … is revoked"), "{}", found[1].message);
    let state = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
    let _ = until(
        async || fs::read_to_string(&state),
        |stat| match stat {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        },
    )
    .await;
    let reply = proxy.get("/failing/x").await;
    assert_eq!((reply.status, reply.code()), (503, "credential_unavailable".into()));
    let shown = String::from_utf8_lossy(&reply.body);
    assert!(shown.contains("exit status: 1") && !shown.contains("revoked"), "{shown}");
}

#[tokio::test]
async fn several_headers_carry_the_key_and_a_version() {
    let origin = Origin::hello().await;
    let route = RouteConfig {
        credential_key: Some(format!("env://{KEY_VARIABLE}")),
        inject_header: "api-key".into(),
        extra_headers: vec![
            ("X-Key".into(), "Key {credential}".into()),
            ("anthropic-version".into(), "2023-06-01".into()),
        ],
        ..open_route(&origin)
    };
    let proxy = proxy(route).await;
    let request = format!(
        "GET /api/x HTTP/1.1\r\nHost: proxy\r\n{}anthropic-version: theirs\r\n\r\n",
        proxy.proxy_authorization()
    );
    assert_eq!(support::exchange(proxy.addr(), &request).await.status, 200);
    let seen = origin.only();
    assert_eq!(seen.header("api-key"), REAL_KEY);
    assert_eq!(seen.header("x-key"), format!("Key {REAL_KEY}"));
    assert_eq!(seen.headers.get_all("anthropic-version").iter().count(), 1);
    assert_eq!(seen.header("anthropic-version"), "2023-06-01");
    let request = request.replace("anthropic-version: theirs", "x-key: theirs");
    let reply = support::exchange(proxy.addr(), &request).await;
    assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()));
}

#[test]
fn mistakes_are_found_at_construction() {
    let base = RouteConfig {
        prefix: "/x".into(),
        upstream: "https://x.example".into(),
        ..RouteConfig::default()
    };
    let key = |text: &str| RouteConfig { credential_key: Some(text.into()), ..base.clone() };
    let with_vault = |address: &str, route: RouteConfig| RouteConfig {
        vault: Some(VaultConfig {
            address: address.into(),
            token_key: "env://T".into(),
            namespace: None,
            tls_ca: None,
        }),
        ..route
    };
    let with_oauth2 = |change: &dyn Fn(&mut OAuth2Config)| {
        let mut config = OAuth2Config {
            token_url: "https://issuer.example/token".into(),
            client_id: "id".into(),
            client_secret: Some("env://S".into()),
            ..OAuth2Config::default()
        };
        change(&mut config);
        RouteConfig { oauth2: Some(config), ..base.clone() }
    };
    let headers = |name: &str, value: &str| RouteConfig {
        extra_headers: vec![(name.into(), value.into())],
        ..key("env://K")
    };
    assert!(with_oauth2(&|_| ()).check().is_ok());
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut trusting = with_vault("https://v", key("vault://kv/x#y"));
    trusting.vault.as_mut().unwrap().tls_ca = Some(file.path().into());
    for (route, said) in vec![
        (key("nope://x"), "unknown credential source"),
        (key("op://vault"), "op://vault/item/field"),
        (key("op://v/i/"), "op://vault/item/field"),
        (key("bw://"), "bw://item"),
        (key("bw://-x"), "bw://item"),
        (key("cmd://x"), "credential_command"),
        (RouteConfig { credential_command: vec!["x".into()], ..key("env://X") }, "cmd://"),
        (RouteConfig { credential_ttl: Some(Duration::ZERO), ..key("env://X") }, "longer"),
        (RouteConfig { credential_ttl: Some(Duration::MAX), ..key("env://X") }, "30 days"),
        (key("vault://kv/x#y"), "`vault`"),
        (with_vault("https://v", key("env://X")), "vault://"),
        (with_vault("http://v.example", key("vault://kv/x#y")), "use https"),
        (trusting, "it holds no certificate"),
        (with_oauth2(&|o| o.tls_ca = Some("/nonexistent/ca".into())), "cannot be read as PEM"),
        (
            with_oauth2(&|o| {
                o.token_url = "http://localhost/token".into();
                o.tls_ca = Some(file.path().into());
            }),
            "needs an https URL",
        ),
        (with_vault("https://v", key("vault://kv/../x#y")), "vault://mount/path#field"),
        (with_vault("https://v", key("vault://kv/x")), "vault://mount/path#field"),
        (with_oauth2(&|o| o.token_url = "http://issuer.example".into()), "use https"),
        (with_oauth2(&|o| o.client_id.clear()), "client_id"),
        (with_oauth2(&|o| o.client_secret = None), "refresh_token"),
        (with_oauth2(&|o| o.client_secret = Some("sk-real".into())), "looks like a key"),
        (with_oauth2(&|o| o.extra_params = vec![("scope".into(), "x".into())]), "scope"),
        (RouteConfig { credential_key: Some("env://X".into()), ..with_oauth2(&|_| ()) }, "one of"),
        (headers("bad name", "{}"), "not a header name"),
        (headers("authorization", "{}"), "twice"),
        (headers("host", "x"), "the proxy itself"),
        (headers("x-a", "a\nb"), "no header may hold"),
        (headers("x-a", "{} {}"), "exactly once"),
    ] {
        let error = route.check().expect_err(said).to_string();
        assert!(error.contains(said), "{error} does not say {said}");
        assert!(!error.contains("sk-real"), "{error}");
    }
}
