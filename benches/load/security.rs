//! The TLS that clients speak: to the origin itself, or to a proxy that shows a certificate of its
//! own for it.

use std::sync::Arc;

use bench_support::{Arguments, Failure};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Security {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    resumes: bool,
}

impl Security {
    /// What the arguments say of TLS: the authorities to trust and the server's name; without a
    /// name there is none. Each handshake is a full one unless they are to be resumed.
    pub(crate) fn new(arguments: &Arguments) -> Result<Option<Self>, Failure> {
        let Some(name) = arguments.optional::<String>("tls-name")? else { return Ok(None) };
        let file: String = arguments.required("tls-ca")?;
        let resumes = arguments.optional("resume")?.unwrap_or(false);
        let is_http2 = arguments.optional("http2")?.unwrap_or(false);
        let mut roots = RootCertStore::empty();
        let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)?.collect();
        roots.add_parsable_certificates(found?);
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        config.resumption = resumption(resumes);
        Ok(Some(Self { config: Arc::new(config), name: ServerName::try_from(name)?, resumes }))
    }

    /// The same for another client.
    pub(crate) fn of_another(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = resumption(self.resumes);
        Self { config: Arc::new(config), name: self.name.clone(), ..*self }
    }

    /// Whether sessions are resumed.
    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }

    /// Speaks TLS on `stream`.
    pub(crate) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(connector.connect(self.name.clone(), stream).await?)
    }
}

/// The sessions of one client. More clients would take each other's, since few are kept by host.
fn resumption(resumes: bool) -> Resumption {
    if resumes { Resumption::in_memory_sessions(8) } else { Resumption::disabled() }
}
