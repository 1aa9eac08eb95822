//! Requests to routes: the credential goes on, the session token comes off, and nothing else
//! changes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use nono_proxy::{InjectMode, ProxyConfig, RouteConfig};
use support::{Authority, Connection, KEY_VARIABLE, Origin, REAL_KEY, TestProxy, exchange, route};
use tokio::sync::mpsc;

async fn proxy(routes: Vec<RouteConfig>) -> TestProxy {
    TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await
}

#[tokio::test]
async fn the_real_key_replaces_the_token() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let reply = proxy.get("/api/v1/models?limit=2").await;
    assert_eq!((reply.status, reply.text()), (200, "hello"));
    let seen = origin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v1/models?limit=2"));
    assert_eq!(seen.header("authorization"), format!("Bearer {REAL_KEY}"));
    assert_eq!(seen.header("host"), origin.addr.to_string());
    assert!(!format!("{seen:?}").contains(&proxy.token));
}

#[tokio::test]
async fn the_token_is_taken_from_wherever_an_sdk_puts_its_key() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let token = &proxy.token;
    for field in [
        format!("Authorization: Bearer {token}"),
        format!("Authorization: {token}"),
        format!("x-api-key: {token}"),
        format!("api-key: {token}"),
        format!("x-goog-api-key: {token}"),
        format!("Proxy-Authorization: Bearer {token}"),
        format!("x-api-key: {token}\r\nAuthorization: Bearer {token}"),
    ] {
        let request = format!("GET /api/x HTTP/1.1\r\nHost: proxy\r\n{field}\r\n\r\n");
        assert_eq!(exchange(proxy.addr(), &request).await.status, 200, "{field}");
    }
    for seen in origin.seen() {
        assert!(!format!("{seen:?}").contains(token), "{seen:?}");
        assert_eq!(seen.header("authorization"), format!("Bearer {REAL_KEY}"));
    }
}

#[tokio::test]
async fn a_stranger_gets_401_whatever_is_asked_for() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let wrong = "0".repeat(64);
    for path in ["/api/x", "/nothing", "/"] {
        for field in [
            String::new(),
            format!("Authorization: Bearer {wrong}\r\n"),
            "Authorization: Bearer\r\n".into(),
            format!("Authorization: Bearer {}\r\n", &proxy.token[..63]),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: proxy\r\n{field}\r\n");
            let reply = exchange(proxy.addr(), &request).await;
            assert_eq!((reply.status, reply.code()), (401, "token_required".into()), "{request}");
            assert!(reply.head.contains("www-authenticate: bearer"), "{}", reply.head);
        }
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn every_injection_mode_puts_the_key_in_its_place() {
    let origin = Origin::hello().await;
    let base = |prefix: &str| route(prefix, origin.addr);
    let some = |text: &str| Some(text.to_owned());
    let proxy = proxy(vec![
        RouteConfig {
            inject_header: "X-Custom".into(),
            credential_format: some("key={credential};"),
            ..base("/format")
        },
        RouteConfig { inject_header: "x-api-key".into(), ..base("/bare") },
        RouteConfig {
            inject_mode: InjectMode::QueryParam,
            query_param_name: some("key"),
            ..base("/query")
        },
        RouteConfig {
            inject_mode: InjectMode::UrlPath,
            path_pattern: some("/bot{}/"),
            ..base("/path")
        },
    ])
    .await;
    let token = &proxy.token;
    assert_eq!(proxy.get("/format/x").await.status, 200);
    assert_eq!(proxy.get("/bare/x").await.status, 200);
    let plain = |path: String| format!("GET {path} HTTP/1.1\r\nHost: proxy\r\n\r\n");
    for path in [format!("/query/x?a=1&key={token}"), format!("/path/bot{token}/bot{token}/x?b=2")]
    {
        assert_eq!(exchange(proxy.addr(), &plain(path)).await.status, 200);
    }
    let seen = origin.seen();
    assert_eq!(seen[0].header("x-custom"), format!("key={REAL_KEY};"));
    assert_eq!(seen[1].header("x-api-key"), REAL_KEY);
    assert_eq!(seen[2].target, format!("/x?a=1&key={REAL_KEY}"));
    assert_eq!(seen[3].target, format!("/bot{REAL_KEY}/bot{REAL_KEY}/x?b=2"));
    for record in proxy.drain_audit() {
        let shown = serde_json::to_string(&record).unwrap();
        assert!(!shown.contains(token) && !shown.contains(REAL_KEY), "{shown}");
    }
}

#[tokio::test]
async fn a_credential_of_the_clients_own_is_refused_where_the_route_has_one() {
    let origin = Origin::hello().await;
    let open = RouteConfig { credential_key: None, ..route("/open", origin.addr) };
    let proxy = proxy(vec![route("/api", origin.addr), open]).await;
    let request = |path| {
        let token = proxy.proxy_authorization();
        format!("GET {path} HTTP/1.1\r\nHost: proxy\r\n{token}x-api-key: their-own\r\n\r\n")
    };
    let reply = exchange(proxy.addr(), &request("/api/x")).await;
    assert_eq!((reply.status, reply.code()), (400, "foreign_credential".into()));
    assert_eq!(exchange(proxy.addr(), &request("/open/x")).await.status, 200);
    assert_eq!(origin.only().header("x-api-key"), "their-own");
}

#[tokio::test]
async fn a_missing_credential_is_diagnosed_and_answered_503_with_its_place() {
    let origin = Origin::hello().await;
    let missing = RouteConfig {
        credential_key: Some("env://NONO_TEST_NOT_SET".into()),
        ..route("/missing", origin.addr)
    };
    let proxy = proxy(vec![missing, route("/api", origin.addr)]).await;
    let found = proxy.diagnostics();
    let [diagnostic] = &*found else { panic!("{found:?}") };
    assert_eq!(
        (diagnostic.code, diagnostic.route_prefix.as_str()),
        ("credential_not_found", "missing")
    );
    let reply = proxy.get("/missing/x").await;
    assert_eq!((reply.status, reply.code()), (503, "credential_not_found".into()));
    assert!(reply.text().contains("env://NONO_TEST_NOT_SET"), "{}", reply.text());
    assert_eq!(proxy.get("/api/x").await.status, 200);
}

#[tokio::test]
async fn an_unknown_prefix_is_answered_404() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    for path in ["/other", "/apix", "/", "/API/x"] {
        let reply = proxy.get(path).await;
        assert_eq!((reply.status, reply.code()), (404, "unknown_route".into()), "{path}");
    }
}

#[tokio::test]
async fn endpoint_rules_judge_what_is_forwarded() {
    let origin = Origin::hello().await;
    let proxy = proxy(vec![RouteConfig {
        endpoint_rules: vec![("GET".into(), "/public/**".into())],
        ..route("/api", origin.addr)
    }])
    .await;
    assert_eq!(proxy.get("/api/public/a").await.status, 200);
    for (path, code) in [
        ("/api/secret", "endpoint_not_allowed"),
        ("/api/public/../secret", "ambiguous_path"),
        ("/api/public/%2e%2e/secret", "ambiguous_path"),
        ("/api/public/..;/secret", "ambiguous_path"),
        ("/api/public/..\\secret", "ambiguous_path"),
        ("/api/secret%2fpublic/a", "ambiguous_path"),
    ] {
        assert_eq!(proxy.get(path).await.code(), code, "{path}");
    }
    assert_eq!(origin.only().target, "/public/a");
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    for n in 0..20 {
        let head = format!("GET /api/{n} HTTP/1.1\r\nHost: proxy\r\n");
        connection.send(format!("{head}Authorization: Bearer {}\r\n\r\n", proxy.token)).await;
        assert_eq!(connection.reply().await.text(), "hello");
    }
    assert_eq!(origin.seen().len(), 20);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn uploads_arrive_whole_sized_and_chunked() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let head =
        format!("POST /api/x HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer {}\r\n", proxy.token);
    let sized = format!("{head}Content-Length: 5\r\n\r\nsized");
    let chunked =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nchu\r\n4\r\nnked\r\n0\r\n\r\n");
    for request in [&sized, &chunked] {
        assert_eq!(exchange(proxy.addr(), request).await.status, 200);
    }
    let bodies: Vec<_> = origin.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["sized", "chunked"]);
    let records = proxy.drain_audit();
    assert_eq!(records.iter().map(|record| record.bytes_in).collect::<Vec<_>>(), [5, 7]);
    assert_eq!(records.iter().map(|record| record.bytes_out).collect::<Vec<_>>(), [5, 5]);
}

#[tokio::test]
async fn each_event_of_a_stream_leaves_when_it_arrives() {
    let (events, queue) = mpsc::channel::<&'static str>(1);
    let queue = std::sync::Mutex::new(Some(queue));
    let origin = Origin::start(None, move |_| {
        let queue = queue.lock().unwrap().take().unwrap();
        let frames = stream::unfold(queue, |mut queue| async {
            let event = queue.recv().await?;
            Some((Ok(Frame::data(Bytes::from(event))), queue))
        });
        let response = Response::builder().header("content-type", "text/event-stream");
        response.body(BoxBody::new(StreamBody::new(frames))).unwrap()
    })
    .await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(proxy.begin("GET /api/x") + "\r\n").await;
    let head = connection.head().await;
    assert!(head.contains("text/event-stream"), "{head}");
    for event in ["data: one\n\n", "data: two\n\n"] {
        // The next event is sent only when this one has come through.
        events.send(event).await.unwrap();
        assert_eq!(connection.chunk().await.unwrap(), event.as_bytes());
    }
    drop(events);
    assert_eq!(connection.chunk().await, None);
    assert_eq!(proxy.only_record().bytes_out, 22);
}

#[tokio::test]
async fn an_https_upstream_is_trusted_by_its_authority_alone() {
    let authority = Authority::new();
    let identity = authority.identity(&["localhost", "127.0.0.1"]);
    let origin =
        Origin::start(Some(identity), |_| Response::new(Full::from("over tls").boxed())).await;
    let upstream = |host: &str| format!("https://{host}:{}/v1", origin.addr.port());
    let tls = |prefix: &str, host: &str, ca: bool| RouteConfig {
        upstream: upstream(host),
        tls_ca: ca.then(|| authority.pem_file()),
        ..route(prefix, origin.addr)
    };
    let routes = vec![
        tls("/name", "localhost", true),
        tls("/ip", "127.0.0.1", true),
        tls("/untrusted", "localhost", false),
    ];
    let proxy = proxy(routes).await;
    for path in ["/name/x", "/ip/x"] {
        assert_eq!(proxy.get(path).await.text(), "over tls", "{path}");
    }
    assert_eq!(origin.seen()[0].target, "/v1/x");
    let reply = proxy.get("/untrusted/x").await;
    assert_eq!((reply.status, reply.code()), (502, "tls_certificate_error".into()));
    assert!(reply.head.contains("proxy-status: nono; error=tls_certificate_error"));
    assert!(reply.text().contains("give the file of its authority's"), "{}", reply.text());
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn why_tls_cannot_be_spoken_is_said_in_words() {
    let authority = Authority::new();
    let own = Origin::start(Some(authority.own_identity()), |_| unreachable!()).await;
    let plain = Origin::hello().await;
    let to = |prefix: &str, addr: SocketAddr| RouteConfig {
        upstream: format!("https://localhost:{}", addr.port()),
        tls_ca: Some(authority.pem_file()),
        ..route(prefix, addr)
    };
    let proxy = proxy(vec![to("/own", own.addr), to("/plain", plain.addr)]).await;
    for (path, code, message, hint) in [
        ("/own/x", "tls_certificate_error", "an authority's (CA:TRUE)", "CA:FALSE"),
        ("/plain/x", "tls_protocol_error", "what it answers is not TLS", "give it an http URL"),
    ] {
        let reply = proxy.get(path).await;
        assert_eq!((reply.status, reply.code()), (502, code.into()));
        let said = reply.json();
        assert!(said["message"].as_str().unwrap().contains(message), "{said}");
        assert!(said["hint"].as_str().unwrap().contains(hint), "{said}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_answered_502() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = TestProxy::with_route(unused).await;
    let reply = proxy.get("/api/x").await;
    assert_eq!((reply.status, reply.code()), (502, "upstream_unreachable".into()));
    assert!(reply.head.contains("proxy-status: nono; error=destination_unavailable"));
}

#[tokio::test]
async fn an_upstream_that_closes_a_kept_connection_costs_no_request() {
    // Each connection serves one request and is closed without a word.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, mut closed) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = Connection::from(stream);
            connection.head().await;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            drop(connection);
            sender.send(()).await.unwrap();
        }
    });
    let proxy = TestProxy::with_route(addr).await;
    for _ in 0..5 {
        assert_eq!(proxy.get("/api/x").await.text(), "ok");
        closed.recv().await.unwrap();
    }
}

#[tokio::test]
async fn the_environment_names_every_route_and_its_key() {
    let origin = Origin::hello().await;
    let named = RouteConfig { env_var: Some("CUSTOM_KEY".into()), ..route("/my-api", origin.addr) };
    let open = RouteConfig { credential_key: None, ..route("/open", origin.addr) };
    let proxy = proxy(vec![named, open]).await;
    let base = format!("http://{}", proxy.addr());
    let token = proxy.token.clone();
    assert_eq!(
        proxy.credential_env_vars(),
        [
            ("MY_API_BASE_URL".into(), format!("{base}/my-api")),
            ("MY_API_API_KEY".into(), token.clone()),
            ("CUSTOM_KEY".into(), token),
            ("OPEN_BASE_URL".into(), format!("{base}/open")),
        ]
    );
    assert!(!format!("{:?}", proxy.env_vars()).contains(REAL_KEY));
    assert_eq!(std::env::var(KEY_VARIABLE).unwrap(), REAL_KEY);
}
