//! One request to a server that gives out secrets: over TLS, or to this machine.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use url::{Host, Url};

use super::{Fault, Inquiry, innermost};
use crate::{ParseError, SecretBuf, read_certificates, system_roots};

/// More than any answer that holds a key.
const ANSWER_LIMIT: usize = 256 * 1024;

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: SecretBuf,
}

/// A server that secrets may be sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) url: Url,
    /// The authorities that it is trusted by, besides the system's.
    authorities: Vec<CertificateDer<'static>>,
}

impl Server {
    /// The server at `address`, which is trusted by the authorities in `tls_ca`, too.
    ///
    /// # Errors
    /// The address is none that secrets may be sent to, or the file holds no certificates in PEM.
    pub(super) fn parse(address: &str, tls_ca: Option<&Path>) -> Result<Self, ParseError> {
        let url = parse_address(address)?;
        let Some(file) = tls_ca else { return Ok(Self { url, authorities: Vec::new() }) };
        let wrong = |reason: &dyn fmt::Display| {
            ParseError::Invalid(format!("`tls_ca` `{}`: {reason}", file.display()))
        };
        if url.scheme() != "https" {
            return Err(wrong(&"it needs an https URL"));
        }
        let authorities = read_certificates(file).map_err(|reason| wrong(&reason))?;
        let server = Self { url, authorities };
        server.roots().map_err(|error| {
            wrong(&format_args!("a certificate in it cannot be trusted: {error}"))
        })?;
        Ok(server)
    }

    fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = system_roots().clone();
        self.authorities.iter().try_for_each(|authority| roots.add(authority.clone()))?;
        Ok(roots)
    }

    /// Sends `request` and reads its answer. Redirections are not followed, and no proxy is used.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        inquiry: &Inquiry,
    ) -> Result<Answer, Fault> {
        let unavailable = |what: &str, error: &(dyn std::error::Error + 'static)| {
            Fault::Unavailable(format!("{what}: {}", innermost(error)))
        };
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
            // One request, one connection.
            .pool_max_idle_per_host(0)
            .build(self.connector(inquiry).await?);
        let response = client.request(request).await;
        let response = response.map_err(|error| unavailable("it cannot be reached", &error))?;
        let status = response.status();
        let mut incoming = response.into_body();
        let mut body = SecretBuf::default();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| unavailable("its answer was cut", &error))?;
            let Some(data) = frame.data_ref() else { continue };
            if body.len() + data.len() > ANSWER_LIMIT {
                return Err(Fault::Unavailable("its answer is too long to hold a key".into()));
            }
            body.extend_from_slice(data);
        }
        Ok(Answer { status, body })
    }

    async fn connector(&self, inquiry: &Inquiry) -> Result<HttpsConnector<HttpConnector>, Fault> {
        let failed = |error| Fault::Unavailable(format!("TLS cannot be set up: {error}"));
        let roots = if self.url.scheme() == "https" {
            // The first to read them waits for whoever changes the environment.
            let server = self.clone();
            inquiry.off_thread(move || server.roots().map_err(failed)).await?
        } else {
            RootCertStore::empty()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        Ok(builder.https_or_http().enable_http1().build())
    }
}

/// The address of a server that secrets may be sent to: https, or http on this machine.
fn parse_address(text: &str) -> Result<Url, ParseError> {
    // What stands before this may be a password.
    let shown = text.rsplit_once('@').map_or(text, |(_, behind)| behind);
    let wrong = |reason: &str| Err(ParseError::Invalid(format!("`{shown}`: {reason}")));
    let Ok(url) = Url::parse(text) else { return wrong("it is not a URL") };
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return wrong("it has no host"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ParseError::Invalid("it must not hold a user or password".into()));
    }
    if url.fragment().is_some() {
        return wrong("it must not have a fragment");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        "http" => wrong("plain http would send secrets unprotected; use https"),
        _ => wrong("it must be an https URL"),
    }
}
