//! One request to a server that gives out secrets: over TLS, or to this machine.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::Fault;
use crate::ParseError;

/// More than any answer that holds a key.
const ANSWER_LIMIT: usize = 256 * 1024;

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// The address of a server that secrets may be sent to: https, or http on this machine.
pub(super) fn parse_address(text: &str) -> Result<Url, ParseError> {
    let wrong = |reason: &str| Err(ParseError::Invalid(format!("`{text}`: {reason}")));
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

/// Sends `request` and reads its answer. Redirections are not followed, and no proxy is used.
pub(super) async fn send(request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
    let unavailable = |what: &str, error: &dyn std::error::Error| {
        Fault::Unavailable(format!("{what}: {}", innermost(error)))
    };
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        // One request, one connection.
        .pool_max_idle_per_host(0)
        .build(connector()?);
    let response = client.request(request).await;
    let response = response.map_err(|error| unavailable("it cannot be reached", &error))?;
    let status = response.status();
    let mut incoming = response.into_body();
    let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_LIMIT));
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| unavailable("its answer was cut", &error))?;
        let Some(data) = frame.data_ref() else { continue };
        // Growing would leave copies behind.
        if body.len() + data.len() > ANSWER_LIMIT {
            return Err(Fault::Unavailable("its answer is too long to hold a key".into()));
        }
        body.extend_from_slice(data);
    }
    Ok(Answer { status, body })
}

fn connector() -> Result<HttpsConnector<HttpConnector>, Fault> {
    let config = tls_config()?;
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

/// Trusts what the system trusts, `SSL_CERT_FILE` included.
fn tls_config() -> Result<ClientConfig, Fault> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::Unavailable(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| config).clone())
}

/// The last of what caused an error: the one that says something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
