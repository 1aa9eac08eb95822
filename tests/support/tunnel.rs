//! A client that speaks TLS inside a tunnel, trusting whom the proxy's environment says.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Connection, TestProxy};

/// What requests over HTTP/2 are sent on.
pub type Http2 = http2::SendRequest<BoxBody<Bytes, io::Error>>;

impl TestProxy {
    /// The file that `variable` of the environment names.
    pub fn file(&self, variable: &str) -> PathBuf {
        let found = self.env_vars().into_iter().find(|(name, _)| name == variable);
        found.unwrap_or_else(|| panic!("{variable} is not set")).1.into()
    }

    /// A tunnel to `target`, which the proxy has opened.
    pub async fn tunnel(&self, target: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr()).await.unwrap();
        let token = self.proxy_authorization();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{token}\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
            answer.push(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        stream
    }

    /// How a client speaks TLS that trusts the file `variable` names, offering `protocols`.
    pub fn trusting(&self, variable: &str, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.file(variable)).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A connection inside a tunnel to `target`, over TLS to the host `name`.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn secured(
        &self,
        target: &str,
        name: &str,
        config: ClientConfig,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tunnel(target).await).await
    }

    /// A connection for HTTP/1.1 inside a tunnel to a port of `localhost`.
    pub async fn inside(&self, port: u16) -> Connection {
        let config = self.trusting("SSL_CERT_FILE", &["http/1.1"]);
        let stream = self.secured(&format!("localhost:{port}"), "localhost", config).await;
        Connection::over(stream.unwrap())
    }

    /// A connection for HTTP/2 inside a tunnel to a port of `localhost`.
    pub async fn inside_http2(&self, port: u16) -> Http2 {
        let config = self.trusting("NODE_EXTRA_CA_CERTS", &["h2", "http/1.1"]);
        let stream = self.secured(&format!("localhost:{port}"), "localhost", config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.expect("no HTTP/2");
        tokio::spawn(connection);
        sender
    }
}
