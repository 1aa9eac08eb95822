//! How to speak TLS to upstreams: one crypto provider, and the authorities that credentials' sources
//! are trusted by too.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use nono_credentials::{open_pem, read_certificates, system_roots};
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ConfigError, ExternalProxyConfig, RouteConfig};
use crate::route::show;
use crate::target::Scheme;

/// The one crypto provider of this crate.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// How to speak TLS to one upstream.
#[derive(Debug)]
pub(crate) struct Tls {
    /// HTTP/2 where the upstream offers it, else HTTP/1.1.
    any: Arc<ClientConfig>,
    /// HTTP/1.1 alone, for what HTTP/2 cannot carry.
    http1: Arc<ClientConfig>,
}

impl Tls {
    fn new(client: &ClientConfig) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut client = client.clone();
            client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(client)
        };
        Self { any: offering(&[b"h2", b"http/1.1"]), http1: offering(&[b"http/1.1"]) }
    }

    /// The configuration for a request, which may need HTTP/1.1.
    pub(crate) fn offering(&self, needs_http1: bool) -> &Arc<ClientConfig> {
        if needs_http1 { &self.http1 } else { &self.any }
    }
}

/// The TLS side of a route; `None` for a plain http upstream.
pub(crate) fn client_config(
    config: &RouteConfig,
    scheme: Scheme,
) -> Result<Option<Tls>, ConfigError> {
    if scheme == Scheme::Http {
        return match [&config.tls_ca, &config.tls_client_cert, &config.tls_client_key] {
            [None, None, None] => Ok(None),
            _ => Err(ConfigError::new(
                "upstream",
                &config.upstream,
                "its tls_* options need an https URL",
            )),
        };
    }
    let builder = match &config.tls_ca {
        Some(file) => trusting(&certificates("tls_ca", file)?, "tls_ca", &show(file))?,
        None => trusting(&[], "tls_ca", "")?,
    };
    let client = match (&config.tls_client_cert, &config.tls_client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates("tls_client_cert", cert)?, private_key(key)?)
            .map_err(|error| ConfigError::new("tls_client_cert", show(cert), error.to_string()))?,
        (Some(file), None) => {
            return Err(ConfigError::new(
                "tls_client_cert",
                show(file),
                "it needs `tls_client_key` beside it",
            ));
        }
        (None, Some(file)) => {
            return Err(ConfigError::new(
                "tls_client_key",
                show(file),
                "it needs `tls_client_cert` beside it",
            ));
        }
    };
    Ok(Some(Tls::new(&client)))
}

/// How to speak TLS to a server that is no upstream: it is trusted by the system's roots, and by
/// those of `file`, which `field` names.
pub(crate) fn trusting_file(file: Option<&Path>, field: &str) -> Result<ClientConfig, ConfigError> {
    let builder = match file {
        Some(file) => trusting(&certificates(field, file)?, field, &show(file))?,
        None => trusting(&[], field, "")?,
    };
    Ok(builder.with_no_client_auth())
}

/// How to speak TLS to the proxy of `config`, if its URL has this `scheme`.
pub(crate) fn to_proxy(
    config: &ExternalProxyConfig,
    scheme: Scheme,
) -> Result<Option<Arc<ClientConfig>>, ConfigError> {
    const FIELD: &str = "external_proxy.tls_ca";
    match (scheme, &config.tls_ca) {
        (Scheme::Http, None) => Ok(None),
        (Scheme::Http, Some(file)) => {
            let reason = "it needs an https URL as the proxy's address";
            Err(ConfigError::new(FIELD, show(file), reason))
        }
        (Scheme::Https, file) => {
            let mut client = trusting_file(file.as_deref(), FIELD)?;
            // Nothing else is spoken to it.
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Some(Arc::new(client)))
        }
    }
}

/// How to speak TLS to hosts that are no route's: they are trusted by the system's roots and by
/// `others`, which come from `field`.
pub(crate) fn with_roots(
    others: &[CertificateDer<'static>],
    field: &str,
) -> Result<Tls, ConfigError> {
    Ok(Tls::new(&trusting(others, field, "...")?.with_no_client_auth()))
}

/// The beginning of a configuration that trusts the system's roots, and `others` from `value` of
/// `field`.
fn trusting(
    others: &[CertificateDer<'static>],
    field: &str,
    value: &str,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
    let wrong = |reason: String| ConfigError::new(field, value, reason);
    let mut roots = system_roots().clone();
    for certificate in others {
        roots
            .add(certificate.clone())
            .map_err(|error| wrong(format!("a certificate in it cannot be trusted: {error}")))?;
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots))
}

/// The certificates in `file`, at least one.
pub(crate) fn certificates(
    field: &str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    read_certificates(file).map_err(|reason| ConfigError::new(field, show(file), reason))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let key = open_pem(file).map_err(pem::Error::Io).and_then(PrivateKeyDer::from_pem_reader);
    key.map_err(|error| {
        ConfigError::new(
            "tls_client_key",
            show(file),
            format!("it holds no private key in PEM: {error}"),
        )
    })
}
