//! Requests inside a tunnel: the same rules, the same credential, the same record.

use std::time::Duration;

use nono_audit::{AuthMechanism, AuthOutcome, Decision, DenialCategory, Mode, Outcome};
use nono_proxy::{ProxyConfig, RouteConfig};
use support::{Collector, KEY_VARIABLE, REAL_KEY, TestProxy, attributes};

use super::Setting;

#[tokio::test]
async fn a_request_inside_carries_the_routes_key_and_is_recorded() {
    let setting = Setting::new().await;
    let Setting { origin, proxy, .. } = &setting;
    let mut client = proxy.inside(setting.port()).await;
    client.send(setting.get("/v1/models?limit=3") + "\r\n").await;
    assert_eq!(client.reply().await.text(), "GET 0");
    assert_eq!(origin.only().header("authorization"), format!("Bearer {REAL_KEY}"));
    assert!(origin.only().target.ends_with("/v1/models?limit=3"));
    let records = proxy.records(2).await;
    let [tunnel, request] = &records[..] else { panic!("{records:#?}") };
    assert_eq!(tunnel.method.as_deref(), Some("CONNECT"));
    assert_eq!((tunnel.status, tunnel.outcome), (Some(200), Outcome::Complete));
    assert_eq!(request.path.as_deref(), Some("/v1/models?limit=3"));
    assert_eq!((request.status, request.outcome), (Some(200), Outcome::Complete));
    assert_eq!(request.route_id.as_deref(), Some("api"));
    assert_eq!(request.managed_credential_active, Some(true));
    for record in &records {
        assert_eq!(record.mode, Mode::ConnectIntercept);
        assert_eq!((&*record.target, record.port), ("localhost", Some(setting.port())));
        assert_eq!(record.auth_mechanism, Some(AuthMechanism::ProxyAuthorization));
        assert_eq!(record.auth_outcome, Some(AuthOutcome::Succeeded));
        assert_eq!(record.decision, Decision::Allow);
    }
}

#[tokio::test]
async fn a_connection_inside_serves_many_requests_also_when_they_come_at_once() {
    let setting = Setting::new().await;
    let mut client = setting.proxy.inside(setting.port()).await;
    for _ in 0..3 {
        client.send(setting.get("/a") + "\r\n").await;
        assert_eq!(client.reply().await.status, 200);
    }
    let upload = setting.get("/b").replace("GET", "POST") + "Content-Length: 4\r\n\r\nbody";
    client.send(upload + &setting.get("/c") + "\r\n").await;
    assert_eq!(client.reply().await.text(), "POST 4");
    assert_eq!(client.reply().await.text(), "GET 0");
    let paths: Vec<_> = setting.origin.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(paths.len(), 5, "{paths:?}");
    // The upstream's connection is kept too.
    assert_eq!(setting.origin.connections(), 1);
}

#[tokio::test]
async fn the_session_token_is_taken_off_wherever_it_is() {
    let setting = Setting::new().await;
    let token = &setting.proxy.token;
    let mut client = setting.proxy.inside(setting.port()).await;
    let fields = format!("Authorization: Bearer {token}\r\nX-Api-Key: {token}\r\n");
    client.send(setting.get(&format!("/x?key={token}&a=1")) + &fields + "\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    let seen = setting.origin.only();
    assert!(!format!("{seen:?}").contains(token.as_str()), "{seen:?}");
    let request = setting.proxy.records(2).await.remove(1);
    assert_eq!(request.auth_mechanism, Some(AuthMechanism::PhantomHeader));
    assert!(!format!("{request:?}").contains(token.as_str()));
}

#[tokio::test]
async fn the_context_of_a_trace_goes_on_from_inside_too() {
    let collector = Collector::willing().await;
    let otlp = collector.config();
    let setting = Setting::with(|config| ProxyConfig { otlp: Some(otlp), ..config }).await;
    let mut client = setting.proxy.inside(setting.port()).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client.send(setting.get("/x") + "traceparent: " + parent + "\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    drop(client);
    collector.until(|it| it.spans().len() == 2).await;
    let spans = collector.spans();
    let [tunnel, request] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((&*tunnel.name, &*request.name), ("CONNECT", "GET /api/*"));
    assert_eq!(request.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(attributes(&request.attributes)["url.scheme"], "https");
    let passed = setting.origin.only().header("traceparent").to_owned();
    let own = u64::from_be_bytes(request.span_id.clone().try_into().unwrap());
    assert_eq!(passed, format!("{}-{own:016x}-01", &parent[..35]));
    setting.proxy.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_key_of_the_clients_own_is_refused() {
    let setting = Setting::new().await;
    let mut client = setting.proxy.inside(setting.port()).await;
    client.send(setting.get("/x") + "Authorization: Bearer own\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()));
}

fn route(setting: &ProxyConfig, prefix: &str, base: &str, rules: &[(&str, &str)]) -> RouteConfig {
    let template = setting.routes[0].clone();
    RouteConfig {
        prefix: prefix.into(),
        upstream: format!("{}{base}", template.upstream),
        endpoint_rules: rules.iter().map(|(m, p)| ((*m).into(), (*p).into())).collect(),
        ..template
    }
}

#[tokio::test]
async fn a_rule_miss_is_refused_and_never_sent_on_without_the_key() {
    let edit = |config: ProxyConfig| ProxyConfig {
        routes: vec![route(&config, "/api", "/v1", &[("GET", "/models/*")])],
        ..config
    };
    let setting = Setting::with(edit).await;
    let mut client = setting.proxy.inside(setting.port()).await;
    for (path, status, code) in [
        ("/v1/models/a", 200, ""),
        ("/v1/models/a/b", 403, "endpoint_not_allowed"),
        ("/v1/files", 403, "endpoint_not_allowed"),
        ("/v2/models/a", 403, "no_route_inside"),
        ("/v1x/models/a", 403, "no_route_inside"),
        ("/%761/models/a", 403, "no_route_inside"),
        ("/v1/models/../../admin", 400, "ambiguous_path"),
        ("/v1/models/%2e%2e/b", 400, "ambiguous_path"),
    ] {
        client.send(setting.get(path) + "\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{path}");
        assert!(status == 200 || reply.code() == code, "{path}: {}", reply.text());
    }
    assert_eq!(setting.origin.seen().len(), 1);
    let records = setting.proxy.records(9).await;
    assert_eq!(records[2].denial_category, Some(DenialCategory::EndpointPolicy));
    assert_eq!(records[2].mode, Mode::ConnectIntercept);
}

#[tokio::test]
async fn of_the_hosts_routes_the_one_with_the_longest_base_path_is_meant() {
    let edit = |config: ProxyConfig| ProxyConfig {
        routes: vec![
            route(&config, "/all", "", &[]),
            route(&config, "/v1", "/v1", &[]),
            route(&config, "/beta", "/v1/beta", &[("GET", "/x")]),
            route(&config, "/read", "/twin", &[("GET", "/**")]),
            route(&config, "/write", "/twin", &[("POST", "/**"), ("GET", "/both")]),
        ],
        ..config
    };
    let setting = Setting::with(edit).await;
    let mut client = setting.proxy.inside(setting.port()).await;
    // The tunnel itself is to no route of them.
    let mut expected = vec![None];
    for (line, status, id) in [
        ("GET /other", 200, Some("all")),
        ("GET /v1", 200, Some("v1")),
        ("GET /v1/y", 200, Some("v1")),
        ("GET /v1/beta/x", 200, Some("beta")),
        ("GET /v1/beta/y", 403, Some("beta")),
        ("GET /twin/x", 200, Some("read")),
        ("POST /twin/x", 200, Some("write")),
        ("GET /twin/both", 403, None),
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        client.send(setting.get(path).replace("GET", method) + "\r\n").await;
        assert_eq!(client.reply().await.status, status, "{line}");
        expected.push(id.map(Into::into));
    }
    let records = setting.proxy.records(expected.len()).await;
    let found: Vec<_> = records.into_iter().map(|record| record.route_id).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_request_for_another_host_is_misdirected() {
    let setting = Setting::new().await;
    let (port, proxy) = (setting.port(), &setting.proxy);
    for head in [
        "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("GET https://other.example/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"),
    ] {
        let mut client = proxy.inside(port).await;
        client.send(&head).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.code()), (421, "misdirected".into()), "{head}");
    }
    let mut client = proxy.inside(port).await;
    client
        .send(format!("GET https://LOCALHOST:{port}/ HTTP/1.1\r\nHost: localhost.:{port}\r\n\r\n"))
        .await;
    assert_eq!(client.reply().await.status, 200);
    client
        .send(format!("GET http://localhost:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"))
        .await;
    assert_eq!(client.reply().await.status, 400);
    client.send(format!("TRACE / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")).await;
    assert_eq!(client.reply().await.status, 405);
    // Refused or not, it is recorded as for where the tunnel leads.
    let records = proxy.records(12).await;
    let targets = records.iter().map(|record| (&*record.target, record.port));
    assert!(targets.eq(std::iter::repeat_n(("localhost", Some(port)), 12)), "{records:#?}");
}

#[tokio::test]
async fn a_tunnel_inside_a_tunnel_is_refused() {
    let setting = Setting::new().await;
    let target = format!("localhost:{}", setting.port());
    let mut client = setting.proxy.inside(setting.port()).await;
    client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!(client.reply().await.status, 405);
    client.send(setting.get("/") + "\r\n").await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_recorded_as_from_inside() {
    let setting = Setting::new().await;
    for head in ["nonsense", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\nHost: b"] {
        let mut client = setting.proxy.inside(setting.port()).await;
        client.send(format!("{head}\r\n\r\n")).await;
        assert_eq!(client.reply().await.status, 400, "{head}");
        let refused = setting.proxy.records(2).await.remove(1);
        assert_eq!(refused.mode, Mode::ConnectIntercept, "{head}");
        let target = (&*refused.target, refused.port);
        assert_eq!(target, ("localhost", Some(setting.port())), "{head}");
        assert_eq!(refused.auth_outcome, Some(AuthOutcome::Succeeded), "{head}");
    }
}

#[tokio::test]
async fn a_tunnel_takes_no_place_but_each_request_does() {
    let setting = Setting::with(|config| ProxyConfig { max_connections: 1, ..config }).await;
    let mut clients =
        [setting.proxy.inside(setting.port()).await, setting.proxy.inside(setting.port()).await];
    for client in &mut clients {
        client.send(setting.get("/") + "\r\n").await;
        assert_eq!(client.reply().await.status, 200);
    }
}

#[tokio::test]
async fn a_shutdown_ends_what_rests_inside() {
    let setting = Setting::new().await;
    let mut client = setting.proxy.inside(setting.port()).await;
    client.send(setting.get("/") + "\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    setting.proxy.shutdown(Duration::from_secs(20)).await;
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_websocket_inside_is_relayed() {
    use std::sync::Arc;
    let authority = support::Authority::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(
        authority.identity(&["localhost"]).server_config(),
    ));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut upstream = support::Connection::over(acceptor.accept(stream).await.unwrap());
        let seen = upstream.message().await;
        upstream
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi")
            .await;
        assert_eq!(upstream.exactly(4).await, b"ping");
        upstream.send("pong").await;
        seen
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = TestProxy::start(ProxyConfig {
        routes: vec![RouteConfig {
            prefix: "/ws".into(),
            upstream: format!("https://localhost:{port}"),
            credential_key: Some(format!("env://{KEY_VARIABLE}")),
            tls_ca: Some(authority.pem_file()),
            ..RouteConfig::default()
        }],
        intercept: Some(nono_proxy::InterceptConfig {
            ca_dir: dir.path().into(),
            ..nono_proxy::InterceptConfig::default()
        }),
        ..ProxyConfig::default()
    })
    .await;
    let mut client = proxy.inside(port).await;
    client
        .send(format!(
            "GET /chat HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
    assert_eq!(client.message().await.status(), 101);
    assert_eq!(client.exactly(2).await, b"hi");
    client.send("ping").await;
    assert_eq!(client.exactly(4).await, b"pong");
    let seen = serving.await.unwrap();
    assert_eq!(seen.values("authorization"), [format!("Bearer {REAL_KEY}")]);
}
