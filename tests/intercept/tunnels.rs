//! Which tunnels are intercepted, and how the handshake inside goes.

use std::time::Duration;

use http::header::HOST;
use nono_audit::{Decision, DenialCategory, Mode, Outcome};
use nono_proxy::{Limits, ProxyConfig};
use support::{Connection, Origin, TestProxy, exchange, route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Setting, intercept};

/// As in an environment of a client that would reach the origin without the proxy.
async fn code(proxy: &TestProxy, target: &str, fields: &str) -> String {
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n");
    exchange(proxy.addr(), &head).await.code()
}

#[tokio::test]
async fn a_tunnel_needs_the_token_before_anything_else() {
    let setting = Setting::new().await;
    let target = format!("localhost:{}", setting.port());
    assert_eq!(code(&setting.proxy, &target, "").await, "proxy_token_required");
    let wrong = "Proxy-Authorization: Bearer wrong\r\n";
    assert_eq!(code(&setting.proxy, &target, wrong).await, "proxy_token_required");
}

#[tokio::test]
async fn an_excluded_route_stays_closed_to_tunnels() {
    let setting = Setting::with(intercept(|it| it.exclude = vec!["localhost".into()])).await;
    let target = format!("localhost:{}", setting.port());
    let token = setting.proxy.proxy_authorization();
    assert_eq!(code(&setting.proxy, &target, &token).await, "route_only");
}

#[tokio::test]
async fn the_upstream_of_a_plain_route_stays_closed_to_tunnels() {
    let origin = Origin::hello().await;
    let routes = vec![route("/plain", origin.addr)];
    let setting = Setting::with(|config| ProxyConfig { routes, ..config }).await;
    let token = setting.proxy.proxy_authorization();
    assert_eq!(code(&setting.proxy, &origin.addr.to_string(), &token).await, "route_only");
}

/// Nor is it opened by a rule that it is to be intercepted.
#[tokio::test]
async fn the_upstream_of_a_plain_route_is_not_intercepted() {
    let origin = Origin::hello().await;
    let host = origin.addr.to_string();
    let edit = |mut config: ProxyConfig| {
        config.routes = vec![route("/plain", origin.addr)];
        config.allowed_hosts = vec![host.clone()];
        config.intercept.as_mut().unwrap().hosts = vec![host.clone()];
        config
    };
    let setting = Setting::with(edit).await;
    let token = setting.proxy.proxy_authorization();
    assert_eq!(code(&setting.proxy, &host, &token).await, "route_only");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn another_port_of_a_routes_host_is_no_part_of_it() {
    let setting = Setting::new().await;
    let token = setting.proxy.proxy_authorization();
    assert_eq!(code(&setting.proxy, "localhost:1", &token).await, "host_not_allowed");
}

#[tokio::test]
async fn a_denied_host_is_not_intercepted() {
    let edit = |config| ProxyConfig { denied_hosts: vec!["localhost".into()], ..config };
    let setting = Setting::with(edit).await;
    let target = format!("localhost:{}", setting.port());
    let token = setting.proxy.proxy_authorization();
    assert_eq!(code(&setting.proxy, &target, &token).await, "host_denied");
}

/// A host without a route is reached over TLS that the proxy speaks, if it is allowed.
#[tokio::test]
async fn a_host_of_the_list_is_intercepted_if_it_is_allowed() {
    let edit = |allowed: &'static str| {
        move |mut config: ProxyConfig| {
            config.routes.clear();
            config.allowed_hosts = vec![allowed.into()];
            config.intercept.as_mut().unwrap().hosts = vec!["localhost".into()];
            config
        }
    };
    let setting = Setting::with(edit("localhost")).await;
    let mut client = setting.proxy.inside(setting.port()).await;
    client.send(setting.get("/x") + "Authorization: Bearer own\r\n\r\n").await;
    assert_eq!(client.reply().await.text(), "GET 0");
    let seen = setting.origin.only();
    assert_eq!(seen.header("authorization"), "Bearer own");
    let records = setting.proxy.records(2).await;
    assert!(records.iter().all(|record| record.mode == Mode::ConnectIntercept));
    assert_eq!(records[1].route_id, None);
    assert_eq!(records[1].path.as_deref(), Some("/x"));

    let setting = Setting::with(edit("other.example")).await;
    let target = format!("localhost:{}", setting.port());
    let token = setting.proxy.proxy_authorization();
    assert_eq!(code(&setting.proxy, &target, &token).await, "host_not_allowed");
}

#[tokio::test]
async fn every_other_allowed_host_is_an_untouched_tunnel() {
    let edit = |mut config: ProxyConfig| {
        config.routes.clear();
        config.allowed_hosts = vec!["localhost".into()];
        let intercept = config.intercept.as_mut().unwrap();
        intercept.hosts = vec!["localhost".into()];
        intercept.exclude = vec!["localhost".into()];
        config
    };
    let setting = Setting::with(edit).await;
    // The origin's own certificate, from its own authority, a parent's in the bundle.
    let mut client = setting.proxy.inside(setting.port()).await;
    client.send(setting.get("/x") + "\r\n").await;
    assert_eq!(client.reply().await.text(), "GET 0");
    drop(client);
    let record = setting.proxy.records(1).await.remove(0);
    assert_eq!(record.mode, Mode::Connect);
    let config = setting.proxy.trusting("NODE_EXTRA_CA_CERTS", &[]);
    let target = format!("localhost:{}", setting.port());
    assert!(setting.proxy.secured(&target, "localhost", config).await.is_err());
}

#[tokio::test]
async fn a_client_that_names_no_host_gets_the_tunnels() {
    let setting = Setting::new().await;
    let mut config = setting.proxy.trusting("SSL_CERT_FILE", &["http/1.1"]);
    config.enable_sni = false;
    let target = format!("localhost:{}", setting.port());
    let stream = setting.proxy.secured(&target, "localhost", config).await.unwrap();
    let mut client = Connection::over(stream);
    client.send(setting.get("/") + "\r\n").await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn an_address_has_a_certificate_too() {
    let edit = |mut config: ProxyConfig| {
        config.routes[0].upstream = config.routes[0].upstream.replace("localhost", "127.0.0.1");
        config
    };
    let setting = Setting::with(edit).await;
    let config = setting.proxy.trusting("SSL_CERT_FILE", &["http/1.1"]);
    let target = format!("127.0.0.1:{}", setting.port());
    let stream = setting.proxy.secured(&target, "127.0.0.1", config).await.unwrap();
    let mut client = Connection::over(stream);
    client.send(setting.get("/").replace("localhost", "127.0.0.1") + "\r\n").await;
    assert_eq!(client.reply().await.status, 200);
}

/// A client that does not look at the certificate is told in words.
#[tokio::test]
async fn a_handshake_that_names_another_host_is_misdirected_and_gets_no_certificate_for_it() {
    let setting = Setting::new().await;
    let target = format!("localhost:{}", setting.port());
    let config = setting.proxy.trusting("SSL_CERT_FILE", &[]);
    let refused = setting.proxy.secured(&target, "other.example", config).await.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let records = setting.proxy.records(1).await;
    assert_eq!(records[0].denial_category, Some(DenialCategory::InterceptHandshakeFailed));

    let mut config = setting.proxy.trusting("SSL_CERT_FILE", &["http/1.1"]);
    config.dangerous().set_certificate_verifier(blind::verifier());
    let stream = setting.proxy.secured(&target, "other.example", config).await.unwrap();
    let mut client = Connection::over(stream);
    client.send(setting.get("/") + "\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code()), (421, "misdirected".into()));
    assert!(setting.origin.seen().is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_proxy_leaves_a_record() {
    let setting = Setting::new().await;
    let mut config = setting.proxy.trusting("SSL_CERT_FILE", &[]);
    config.dangerous().set_certificate_verifier(blind::refuser());
    let target = format!("localhost:{}", setting.port());
    assert!(setting.proxy.secured(&target, "localhost", config).await.is_err());
    let record = setting.proxy.records(1).await.remove(0);
    assert_eq!(record.decision, Decision::Deny);
    assert_eq!(record.denial_category, Some(DenialCategory::InterceptHandshakeFailed));
    assert_eq!((record.mode, record.status), (Mode::ConnectIntercept, Some(200)));
    assert!(record.reason.as_ref().unwrap().contains("handshake"), "{record:?}");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let setting = Setting::with(|config| ProxyConfig { limits, ..config }).await;
    let mut stream = setting.proxy.tunnel(&format!("localhost:{}", setting.port())).await;
    stream.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    let record = setting.proxy.records(1).await.remove(0);
    assert_eq!(record.outcome, Outcome::Timeout);
    assert_eq!(record.denial_category, Some(DenialCategory::InterceptHandshakeFailed));
}

/// The first flight may come right behind the `CONNECT`, before its answer.
#[tokio::test]
async fn bytes_sent_with_the_connect_are_not_lost() {
    let setting = Setting::new().await;
    let target = format!("localhost:{}", setting.port());
    let mut hello = Vec::new();
    let config = std::sync::Arc::new(setting.proxy.trusting("SSL_CERT_FILE", &["http/1.1"]));
    let name = "localhost".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    tls.write_tls(&mut hello).unwrap();
    let token = setting.proxy.proxy_authorization();
    let head = format!("CONNECT {target} HTTP/1.1\r\n{HOST}: {target}\r\n{token}\r\n");
    let mut stream = TcpStream::connect(setting.proxy.addr()).await.unwrap();
    stream.write_all(&[head.as_bytes(), &hello].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    // The server's first record: a handshake.
    assert_eq!(stream.read_u8().await.unwrap(), 0x16);
}

#[tokio::test]
async fn a_plain_route_and_no_directory_change_nothing() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::start(ProxyConfig {
        routes: vec![route("/api", origin.addr)],
        ..ProxyConfig::default()
    })
    .await;
    let names: Vec<_> = proxy.env_vars().into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name == "SSL_CERT_FILE"), "{names:?}");
    assert!(proxy.certificate_files().is_empty());
    assert_eq!(
        code(&proxy, &origin.addr.to_string(), &proxy.proxy_authorization()).await,
        "route_only"
    );
}

/// Clients that judge certificates in other ways than they should.
mod blind {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    /// Takes any certificate.
    pub(super) fn verifier() -> Arc<dyn ServerCertVerifier> {
        Arc::new(Blind { takes: true })
    }

    /// Takes none.
    pub(super) fn refuser() -> Arc<dyn ServerCertVerifier> {
        Arc::new(Blind { takes: false })
    }

    #[derive(Debug)]
    struct Blind {
        takes: bool,
    }

    impl ServerCertVerifier for Blind {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            if self.takes {
                Ok(ServerCertVerified::assertion())
            } else {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
