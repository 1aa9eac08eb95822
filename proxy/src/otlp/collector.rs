//! Where the collector is, and how it is spoken to: as the user wrote it, and parsed.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use nono_audit::otlp::Signal;
use nono_credentials::{Credential, Header, Injection, Locator};
use rustls::ClientConfig;
use url::{Host, Url};

use crate::config::{ConfigError, Limits};
use crate::layers::authenticate::KEY_HEADERS;
use crate::route::{parse_further, wrong};
use crate::tls;

/// What is sent: OTLP in its binary form.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Who sends it.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("nono/", env!("CARGO_PKG_VERSION")));

/// A collector of OpenTelemetry that takes logs and spans by OTLP over HTTP. Whoever names it
/// here trusts it: no rule for hosts applies to it.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Its base address, an http or https URL: `http://127.0.0.1:4318`. Logs go to `/v1/logs`
    /// below it, spans to `/v1/traces`. Plain http protects neither records nor credentials, so
    /// that with a credential it must be this machine or an address of a private network.
    pub endpoint: String,
    /// Headers to send. A value with the placeholder `{}` gets the credential: `Bearer {}`.
    pub headers: Vec<(String, String)>,
    /// Where the credential is kept: a reference like that of a route (`env://NAME`).
    pub credential_key: Option<String>,
    /// A PEM file of certificate authorities to trust for it, besides the system's.
    pub tls_ca: Option<PathBuf>,
    /// The name of the service that spans and logs are of: `service.name`.
    pub service_name: String,
    /// What else is to be said of the service, by the names of the semantic conventions.
    pub resource_attributes: Vec<(String, String)>,
    /// How long it may take to answer one request. 10 s.
    pub timeout: Duration,
    /// How long a shutdown waits for what it has not yet taken. 5 s.
    pub flush: Duration,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Vec::new(),
            credential_key: None,
            tls_ca: None,
            service_name: "nono".into(),
            resource_attributes: Vec::new(),
            timeout: Duration::from_secs(10),
            flush: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for OtlpConfig {
    /// Without the values of headers, which may hold a key in spite of all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("OtlpConfig")
            .field("endpoint", &self.endpoint)
            .field("headers", &names)
            .field("credential_key", &self.credential_key)
            .finish_non_exhaustive()
    }
}

/// The parsed form.
#[derive(Debug)]
pub(crate) struct Collector {
    logs: Uri,
    spans: Uri,
    /// Those that are the same with every request.
    headers: HeaderMap,
    credential: Option<Credential>,
    pub(super) tls: ClientConfig,
    pub(super) timeout: Duration,
    pub(super) flush: Duration,
    pub(super) service_name: String,
    pub(super) resource_attributes: Vec<(String, String)>,
}

impl Collector {
    /// Parses `config`.
    pub(crate) fn parse(config: &OtlpConfig) -> Result<Self, ConfigError> {
        let url = parse_endpoint(&config.endpoint)?;
        let (headers, credential) = parse_headers(config)?;
        if credential.is_some() && url.scheme() == "http" && !is_near(&url) {
            let reason = "plain http would send the credential unprotected; use https";
            return Err(ConfigError::new("otlp_endpoint", &config.endpoint, reason));
        }
        for (field, value) in [("otlp_timeout", config.timeout), ("otlp_flush", config.flush)] {
            if value.is_zero() || value > Limits::LONGEST {
                let reason = "it must be longer than nothing and at most 30 days";
                return Err(ConfigError::new(field, format!("{value:?}"), reason));
            }
        }
        check_resource(config)?;
        Ok(Self {
            logs: address(&url, Signal::Logs)?,
            spans: address(&url, Signal::Spans)?,
            headers,
            credential,
            tls: parse_tls(config, &url)?,
            timeout: config.timeout,
            flush: config.flush,
            service_name: config.service_name.clone(),
            resource_attributes: config.resource_attributes.clone(),
        })
    }

    /// Where `signal` goes.
    pub(super) fn uri(&self, signal: Signal) -> &Uri {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Spans => &self.spans,
        }
    }

    /// What goes with every request, but for what holds a secret.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What it is shown.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }
}

fn parse_endpoint(text: &str) -> Result<Url, ConfigError> {
    let wrong = |reason: &str| ConfigError::new("otlp_endpoint", text, reason);
    let url = Url::parse(text).map_err(|_| wrong("it is not a URL, like http://127.0.0.1:4318"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The value is not shown: it holds a password.
        let reason = "it holds user information; keep that in `otlp_credential_key`";
        let host = url.host_str().unwrap_or_default();
        return Err(ConfigError::new("otlp_endpoint", host, reason));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong(
            "it must be an http or https URL; of OTLP's forms that over HTTP is spoken",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not have a query or a fragment"));
    }
    if Signal::ALL.iter().any(|signal| url.path().trim_end_matches('/').ends_with(signal.path())) {
        return Err(wrong("it must be the base address; `/v1/logs` and `/v1/traces` are added"));
    }
    Ok(url)
}

fn address(base: &Url, signal: Signal) -> Result<Uri, ConfigError> {
    let text = format!("{}{}", base.as_str().trim_end_matches('/'), signal.path());
    let wrong = |_| ConfigError::new("otlp_endpoint", base.as_str(), "it cannot be asked for");
    Uri::try_from(text).map_err(wrong)
}

/// Whether `url` names this machine, or an address of a private network.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        None => false,
    }
}

/// The headers that are always the same, and the credential that goes into the others.
fn parse_headers(config: &OtlpConfig) -> Result<(HeaderMap, Option<Credential>), ConfigError> {
    let mut constants = HeaderMap::new();
    let mut secret = Vec::new();
    let mut names = HashSet::new();
    for (name, value) in &config.headers {
        let wrong = |reason: &str| ConfigError::new("otlp_headers", name, reason);
        let header = parse_further("otlp_headers", name, value)?;
        if [CONTENT_TYPE, CONTENT_ENCODING].contains(header.name()) {
            return Err(wrong("the proxy itself sets this header"));
        }
        if !names.insert(header.name().clone()) {
            return Err(wrong("this header is set twice"));
        }
        match header {
            Header::Constant(name, _) if KEY_HEADERS.contains(&name) => {
                return Err(wrong(
                    "its value would be no secret here; keep the key in `otlp_credential_key`, \
                     and write `{}` in its place",
                ));
            }
            Header::Constant(name, value) => drop(constants.insert(name, value)),
            Header::Secret(..) => secret.push(header),
        }
    }
    constants.insert(CONTENT_TYPE, PROTOBUF);
    constants.entry(USER_AGENT).or_insert(AGENT);
    Ok((constants, parse_credential(config, secret)?))
}

/// The credential, which goes into the headers `places`.
fn parse_credential(
    config: &OtlpConfig,
    places: Vec<Header>,
) -> Result<Option<Credential>, ConfigError> {
    let mut places = places.into_iter();
    match (&config.credential_key, places.next()) {
        (None, None) => Ok(None),
        (Some(key), Some(Header::Secret(name, format))) => {
            let locator = Locator::parse(key);
            let locator = locator.map_err(|error| wrong("otlp_credential_key", key, &error))?;
            let injection = Injection::Header { name, format };
            Ok(Some(Credential::new(locator, injection).with_headers(places.collect())))
        }
        (Some(key), _) => {
            let reason = "no value of `otlp_headers` has the placeholder `{}` for it";
            Err(ConfigError::new("otlp_credential_key", key, reason))
        }
        (None, Some(header)) => {
            let reason = "the placeholder in its value needs `otlp_credential_key`";
            Err(ConfigError::new("otlp_headers", header.name().as_str(), reason))
        }
    }
}

fn parse_tls(config: &OtlpConfig, url: &Url) -> Result<ClientConfig, ConfigError> {
    if config.tls_ca.is_some() && url.scheme() == "http" {
        let reason = "its tls_ca needs an https URL";
        return Err(ConfigError::new("otlp_endpoint", &config.endpoint, reason));
    }
    tls::trusting_file(config.tls_ca.as_deref(), "otlp_tls_ca")
}

fn check_resource(config: &OtlpConfig) -> Result<(), ConfigError> {
    if config.service_name.is_empty() {
        return Err(ConfigError::new("otlp_service_name", "", "it must not be empty"));
    }
    let mut names = HashSet::new();
    for (name, _) in &config.resource_attributes {
        if name.is_empty() || !names.insert(name) {
            let reason = "a name must not be empty, nor be there twice";
            return Err(ConfigError::new("otlp_resource_attributes", name, reason));
        }
    }
    Ok(())
}
