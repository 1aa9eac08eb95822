//! A proxy between this one and the world.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::sync::LazyLock;
use std::time::Duration;

use nono_audit::{DenialCategory, Mode, Outcome};
use nono_proxy::{ExternalProxyConfig, InterceptConfig, Limits, ProxyConfig, RouteConfig};
use support::{Authority, Connection, KEY_VARIABLE, Origin, REAL_KEY, TestProxy, Wire, route};
use tempfile::NamedTempFile;

/// What the outer proxy is shown.
const LOGIN: &str = "user:secret";

/// A proxy that reaches everything but `near.invalid` through `outer`.
fn config(outer: &Wire) -> ProxyConfig {
    // In a file, since the variable that tests have holds no password.
    static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LOGIN).unwrap();
        file
    });
    ProxyConfig {
        allowed_hosts: ["far.example", "near.invalid", "localhost", "127.0.0.1", "[::1]"]
            .map(Into::into)
            .into(),
        external_proxy: Some(ExternalProxyConfig {
            address: outer.addr.to_string(),
            bypass_hosts: vec!["near.invalid".into()],
            credential_key: Some(format!("file://{}", FILE.path().display())),
            ..ExternalProxyConfig::default()
        }),
        ..ProxyConfig::default()
    }
}

/// A client that has asked for a tunnel to `target`, which its answer is still due of.
async fn ask(proxy: &TestProxy, target: &str) -> Connection {
    let token = proxy.proxy_authorization();
    let mut client = Connection::open(proxy.addr()).await;
    client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{token}\r\n")).await;
    client
}

/// The name means nothing to this machine: the outer proxy looks it up.
#[tokio::test]
async fn a_tunnel_goes_through_it_and_the_bytes_behind_its_answer_are_kept() {
    let outer = Wire::bind().await;
    let proxy = TestProxy::start(config(&outer)).await;
    let mut client = ask(&proxy, "far.example:443").await;
    let mut upstream = outer.accept().await;
    let asked = upstream.message().await;
    assert!(asked.line().starts_with("CONNECT far.example:443 HTTP/1.1"), "{}", asked.line());
    assert_eq!(asked.values("host"), ["far.example:443"]);
    assert_eq!(asked.values("proxy-authorization"), [login()]);
    upstream.send("HTTP/1.1 200 OK\r\nVia: outer\r\n\r\nEARLY").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
    assert_eq!(client.exactly(5).await, b"EARLY");
    let opened = proxy.drain_audit();
    assert!(opened.iter().all(|record| record.mode == Mode::External), "{opened:?}");
    upstream.send("LATE").await;
    assert_eq!(client.exactly(4).await, b"LATE");
    client.send("up").await;
    assert_eq!(upstream.exactly(2).await, b"up");
}

/// Over TLS its heads are read otherwise.
#[tokio::test]
async fn interim_answers_before_its_own_are_passed_over() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
                  HTTP/1.1 200 OK\r\n\r\nEARLY";
    let authority = Authority::new();
    for over_tls in [false, true] {
        let outer = Wire::bind().await;
        let mut config = config(&outer);
        let external = config.external_proxy.as_mut().unwrap();
        if over_tls {
            external.address = format!("https://localhost:{}", outer.addr.port());
            external.tls_ca = Some(authority.pem_file());
        }
        let proxy = TestProxy::start(config).await;
        let mut client = ask(&proxy, "far.example:443").await;
        let mut upstream = if over_tls {
            outer.accept_secured(authority.identity(&["localhost"])).await
        } else {
            outer.accept().await
        };
        upstream.message().await;
        upstream.send(answer).await;
        assert!(client.head().await.starts_with("http/1.1 200"));
        assert_eq!(client.exactly(5).await, b"EARLY");
    }
}

#[tokio::test]
async fn its_refusal_is_reported_as_such() {
    for (answer, told) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"),
        ("HTTP/1.1 503 Busy\r\n\r\n", "503"),
        ("nonsense\r\n\r\n", "does not speak HTTP"),
        ("", "closed the connection"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", "503"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "closed the connection"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
        (&"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), "interim answers do not end"),
    ] {
        let outer = Wire::bind().await;
        let proxy = TestProxy::start(config(&outer)).await;
        let mut client = ask(&proxy, "far.example:443").await;
        let mut upstream = outer.accept().await;
        upstream.message().await;
        upstream.send(answer).await;
        drop(upstream);
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.code()), (502, "external_proxy_rejected".into()));
        assert!(reply.text().contains(told), "{}", reply.text());
        let record = proxy.only_record();
        let said = (record.mode, record.denial_category);
        assert_eq!(said, (Mode::External, Some(DenialCategory::ExternalProxyRejected)));
    }
}

#[tokio::test]
async fn nothing_is_asked_of_it_without_the_credentials_that_it_is_to_be_shown() {
    let outer = Wire::bind().await;
    let mut config = config(&outer);
    // A key, and no user with a password.
    let credential_key = Some(format!("env://{KEY_VARIABLE}"));
    config.external_proxy.as_mut().unwrap().credential_key = credential_key;
    let proxy = TestProxy::start(config).await;
    assert_eq!(proxy.diagnostics()[0].route_prefix, "external_proxy");
    let reply = ask(&proxy, "far.example:443").await.reply().await;
    assert_eq!((reply.status, reply.code()), (502, "external_proxy_rejected".into()));
    assert!(reply.text().contains("credentials are not there"), "{}", reply.text());
    assert!(!reply.text().contains(REAL_KEY));
    assert!(outer.accept().await.rest().await.is_empty());
}

#[tokio::test]
async fn one_that_says_nothing_is_not_waited_for() {
    let outer = Wire::bind().await;
    let limits = Limits { connect: Duration::from_millis(100), ..Limits::default() };
    let proxy = TestProxy::start(ProxyConfig { limits, ..config(&outer) }).await;
    let mut client = ask(&proxy, "far.example:443").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (504, "connect_timeout".into()));
    assert!(reply.text().contains("the external proxy led to no connection"), "{}", reply.text());
    assert_eq!(proxy.only_record().outcome, Outcome::Timeout);
}

#[tokio::test]
async fn what_is_not_allowed_never_reaches_it() {
    let outer = Wire::bind().await;
    let proxy = TestProxy::start(config(&outer)).await;
    for (target, code) in [
        ("other.example:443", "host_not_allowed"),
        ("metadata.google.internal:80", "address_refused"),
        ("169.254.169.254:80", "address_refused"),
    ] {
        let reply = ask(&proxy, target).await.reply().await;
        assert_eq!((reply.status, reply.code().as_str()), (403, code), "{target}");
    }
    assert!(outer.is_quiet().await);
}

/// There these names would mean the outer proxy's own machine.
#[tokio::test]
async fn what_is_on_this_machine_is_reached_directly() {
    let (outer, origin, echo) = (Wire::bind().await, Origin::hello().await, Origin::echo().await);
    let routes = vec![route("/api", origin.addr)];
    let proxy = TestProxy::start(ProxyConfig { routes, ..config(&outer) }).await;
    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
        let mut client = ask(&proxy, &format!("{host}:{}", echo.port())).await;
        assert!(client.head().await.starts_with("http/1.1 200"), "{host}");
    }
    assert_eq!(proxy.get("/api/x").await.status, 200);
    assert!(outer.is_quiet().await);
}

#[tokio::test]
async fn a_host_that_bypasses_it_is_looked_up_here() {
    let outer = Wire::bind().await;
    let proxy = TestProxy::start(config(&outer)).await;
    let reply = ask(&proxy, "near.invalid:443").await.reply().await;
    assert_eq!((reply.status, reply.code()), (502, "dns_error".into()));
    assert!(outer.is_quiet().await);
}

/// The value of `Proxy-Authorization` that it is shown.
fn login() -> String {
    format!("Basic {}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, LOGIN))
}

/// A client that asks for a forwarded request to `far.example`, whose answer is still due.
async fn forward(proxy: &TestProxy, path: &str, fields: &str) -> Connection {
    let token = proxy.proxy_authorization();
    let mut client = Connection::open(proxy.addr()).await;
    let head = format!("GET http://far.example{path} HTTP/1.1\r\nHost: far.example\r\n{token}");
    client.send(format!("{head}{fields}\r\n")).await;
    client
}

/// Many such proxies open tunnels to port 443 alone.
#[tokio::test]
async fn a_forwarded_request_is_given_to_it_in_absolute_form() {
    let outer = Wire::bind().await;
    let limits = Limits { workers: 1, ..Limits::default() };
    let proxy = TestProxy::start(ProxyConfig { limits, ..config(&outer) }).await;
    let mut client = forward(&proxy, "/x?y=1", "TE: trailers\r\nX-Own: 1\r\n").await;
    let mut upstream = outer.accept().await;
    for _ in 0..2 {
        let asked = upstream.message().await;
        assert_eq!(asked.line(), "GET http://far.example/x?y=1 HTTP/1.1");
        assert_eq!(asked.values("host"), ["far.example"]);
        assert_eq!(asked.values("proxy-authorization"), [login()]);
        assert_eq!(asked.values("x-own"), ["1"]);
        let token = &proxy.token;
        assert!(!asked.fields().concat().contains(token.as_str()), "the session token went on");
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.reply().await.text(), "ok");
        // The next one goes the same way, on the same connection.
        client = forward(&proxy, "/x?y=1", "X-Own: 1\r\n").await;
    }
}

#[tokio::test]
async fn its_challenge_to_a_forwarded_request_is_not_the_clients() {
    let outer = Wire::bind().await;
    let proxy = TestProxy::start(config(&outer)).await;
    let mut client = forward(&proxy, "/x", "").await;
    let mut upstream = outer.accept().await;
    upstream.message().await;
    let challenge = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    upstream.send(challenge).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (502, "external_proxy_rejected".into()));
    assert!(reply.text().contains("407"), "{}", reply.text());
    let record = proxy.only_record();
    assert_eq!(record.denial_category, Some(DenialCategory::ExternalProxyRejected));
}

/// It may pass them on, to a server that shows what it was sent.
#[tokio::test]
async fn its_credentials_are_taken_out_of_answers_that_echo_them() {
    let outer = Wire::bind().await;
    let proxy = TestProxy::start(config(&outer)).await;
    let mut client = forward(&proxy, "/headers", "").await;
    let mut upstream = outer.accept().await;
    let shown = upstream.message().await.values("proxy-authorization").concat();
    assert_eq!(shown, login());
    let body = format!("{shown}, which is {LOGIN}");
    let length = body.len();
    upstream.send(format!("HTTP/1.1 103 Early Hints\r\nX-Shown: {shown}\r\n\r\n")).await;
    upstream.send(format!("HTTP/1.1 200 {LOGIN}\r\nX-Shown: {shown}\r\n")).await;
    upstream.send(format!("Content-Length: {length}\r\n\r\n{body}")).await;
    let interim = client.head().await;
    assert!(interim.contains("x-shown: basic ****"), "{interim}");
    let reply = client.reply().await;
    let masked = |text: &str| "*".repeat(text.len());
    let encoded = shown.strip_prefix("Basic ").unwrap();
    assert!(reply.head.starts_with("http/1.1 200 ok\r\n"), "{}", reply.head);
    assert!(reply.head.contains(&format!("x-shown: basic {}\r\n", masked(encoded))));
    assert_eq!(reply.text(), format!("Basic {}, which is {}", masked(encoded), masked(LOGIN)));
}

/// What is said in it is none of the proxy's business, and few of them know of it.
#[tokio::test]
async fn a_websocket_over_plain_http_goes_through_a_tunnel() {
    let outer = Wire::bind().await;
    let proxy = TestProxy::start(config(&outer)).await;
    let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut client = forward(&proxy, "/x", asks).await;
    let mut upstream = outer.accept().await;
    assert!(upstream.message().await.line().starts_with("CONNECT far.example:80 "));
    upstream.send("HTTP/1.1 200 OK\r\n\r\n").await;
    let inner = upstream.message().await;
    assert!(inner.line().starts_with("GET /x "), "{}", inner.line());
    // What the outer proxy is shown goes no further.
    assert!(inner.values("proxy-authorization").is_empty());
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n";
    upstream.send(format!("{switch}Upgrade: websocket\r\n\r\nhello")).await;
    assert_eq!(client.message().await.status(), 101);
    assert_eq!(client.exactly(5).await, b"hello");
}

/// Tunnels and forwarded requests, and a key inside a tunnel inside TLS.
#[tokio::test]
async fn it_may_be_reached_over_tls() {
    let (outer, authority) = (Wire::bind().await, Authority::new());
    let identity = || authority.identity(&["localhost"]);
    let mut config = config(&outer);
    let external = config.external_proxy.as_mut().unwrap();
    external.address = format!("https://localhost:{}", outer.addr.port());
    external.tls_ca = Some(authority.pem_file());
    let proxy = TestProxy::start(config).await;

    let mut client = ask(&proxy, "far.example:443").await;
    let mut upstream = outer.accept_secured(identity()).await;
    let asked = upstream.message().await;
    assert!(asked.line().starts_with("CONNECT far.example:443 HTTP/1.1"), "{}", asked.line());
    assert_eq!(asked.values("proxy-authorization"), [login()]);
    upstream.send("HTTP/1.1 200 OK\r\n\r\nEARLY").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
    assert_eq!(client.exactly(5).await, b"EARLY");
    // More than is held anywhere.
    let bulk = vec![7; 3_000_000];
    let ((), came) = tokio::join!(client.send(&bulk[..]), upstream.exactly(bulk.len()));
    assert!(came == bulk);
    client.finish().await;
    assert!(upstream.rest().await.is_empty());
    upstream.send("LATE").await;
    assert_eq!(client.exactly(4).await, b"LATE");

    let mut client = forward(&proxy, "/x", "").await;
    let mut upstream = outer.accept_secured(identity()).await;
    assert_eq!(upstream.message().await.line(), "GET http://far.example/x HTTP/1.1");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.reply().await.text(), "ok");
}

#[tokio::test]
async fn one_that_shows_another_certificate_is_told_nothing() {
    let (outer, authority, other) = (Wire::bind().await, Authority::new(), Authority::new());
    let mut config = config(&outer);
    let external = config.external_proxy.as_mut().unwrap();
    external.address = format!("https://localhost:{}", outer.addr.port());
    external.tls_ca = Some(authority.pem_file());
    let proxy = TestProxy::start(config).await;
    let mut client = ask(&proxy, "far.example:443").await;
    let shaking = tokio::spawn(async move {
        let (stream, _) = outer.into_listener().accept().await.unwrap();
        let config = std::sync::Arc::new(other.identity(&["localhost"]).server_config());
        tokio_rustls::TlsAcceptor::from(config).accept(stream).await.is_err()
    });
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (502, "external_proxy_rejected".into()));
    assert!(reply.text().contains("certificate"), "{}", reply.text());
    assert!(shaking.await.unwrap());
}

#[tokio::test]
async fn one_that_is_not_there_is_named_as_such() {
    let outer = Wire::bind().await;
    let config = config(&outer);
    drop(outer);
    let proxy = TestProxy::start(config).await;
    let reply = ask(&proxy, "far.example:443").await.reply().await;
    assert_eq!((reply.status, reply.code()), (502, "external_proxy_rejected".into()));
    assert!(reply.text().contains("cannot be reached"), "{}", reply.text());
}

/// Both the requests of a route and those inside an intercepted tunnel.
#[tokio::test]
async fn routes_over_tls_go_through_it_and_so_does_what_is_intercepted() {
    let authority = Authority::new();
    let identity = authority.identity(&["far.example"]);
    let origin = Origin::start(Some(identity), |_| {
        http::Response::new(http_body_util::BodyExt::boxed(http_body_util::Full::from("hello")))
    })
    .await;
    let outer = Wire::bind().await;
    let dir = tempfile::tempdir().unwrap();
    let proxy = TestProxy::start(ProxyConfig {
        routes: vec![RouteConfig {
            upstream: format!("https://far.example:{}", origin.addr.port()),
            tls_ca: Some(authority.pem_file()),
            ..route("/api", origin.addr)
        }],
        intercept: Some(InterceptConfig { ca_dir: dir.path().into(), ..Default::default() }),
        limits: Limits { workers: 1, ..Limits::default() },
        ..config(&outer)
    })
    .await;
    let addr = origin.addr;
    let relaying = tokio::spawn(async move {
        let mut upstream = outer.accept().await;
        let asked = upstream.message().await.line();
        upstream.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut origin = tokio::net::TcpStream::connect(addr).await.unwrap();
        let mut upstream = upstream.into_stream();
        let _ = tokio::io::copy_bidirectional(&mut upstream, &mut origin).await;
        asked
    });
    assert_eq!(proxy.get("/api/x").await.text(), "hello");
    let host = format!("far.example:{}", addr.port());
    let trusting = proxy.trusting("SSL_CERT_FILE", &["http/1.1"]);
    let mut client = Connection::over(proxy.secured(&host, "far.example", trusting).await.unwrap());
    client.send(format!("GET /y HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(client.reply().await.text(), "hello");
    drop(client);
    drop(proxy);
    assert!(relaying.await.unwrap().starts_with(&format!("CONNECT {host} ")));
    assert_eq!(origin.seen()[1].header("authorization"), format!("Bearer {REAL_KEY}"));
    // One connection, which both used.
    assert_eq!(origin.connections(), 1);
}

#[test]
fn mistakes_are_found_before_anything_starts() {
    let check = |address: &str| {
        let external = ExternalProxyConfig { address: address.into(), ..Default::default() };
        ProxyConfig { external_proxy: Some(external), ..ProxyConfig::default() }.check()
    };
    for good in
        ["proxy.example:3128", "http://proxy.example:80", "https://[::1]:443/", "1.2.3.4:80"]
    {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in
        ["", "proxy.example", "http://proxy.example", "proxy.example:0", "socks5://a:1", "a:1/x"]
    {
        assert_eq!(check(bad).unwrap_err().field(), "external_proxy.address", "{bad}");
    }
    let told = check("http://user:secret@proxy.example:1").unwrap_err().to_string();
    assert!(!told.contains("secret"), "{told}");
    for (address, reason) in
        [("proxy.example:1", "https URL"), ("https://proxy.example:1", "cannot be read as PEM")]
    {
        let external = ExternalProxyConfig {
            address: address.into(),
            tls_ca: Some("/nonexistent/ca.pem".into()),
            ..Default::default()
        };
        let config = ProxyConfig { external_proxy: Some(external), ..ProxyConfig::default() };
        let mistake = config.check().unwrap_err();
        assert_eq!(mistake.field(), "external_proxy.tls_ca");
        assert!(mistake.to_string().contains(reason), "{mistake}");
    }
}

#[test]
fn a_key_in_place_of_its_name_is_not_shown() {
    let check = |key: &str| {
        let external = ExternalProxyConfig {
            address: "proxy.example:3128".into(),
            credential_key: Some(key.into()),
            ..Default::default()
        };
        ProxyConfig { external_proxy: Some(external), ..ProxyConfig::default() }.check()
    };
    let mistake = check("sk-live-sesame").unwrap_err();
    assert_eq!(mistake.field(), "external_proxy.credential_key");
    assert!(mistake.to_string().contains("looks like a key"), "{mistake}");
    assert!(!mistake.to_string().contains("sesame"), "{mistake}");
    assert!(check("apple-password://service/account").unwrap_err().is_unsupported());
}
