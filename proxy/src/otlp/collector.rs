//! Where the collector is, and how it is spoken to, parsed.

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::Uri;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use nono_audit::otlp::{Resource, Signal};
use nono_audit::queue::{self, QueueOptions, QueueSink};
use nono_audit::{Reader, Session};
use nono_credentials::{Credential, Header, Injection};
use rustls::ClientConfig;
use tokio::sync::Notify;
use url::{Host, Url};

use super::config::{Compression, OtlpConfig};
use super::source::Source;
use crate::config::{ConfigError, Limits};
use crate::error::StartError;
use crate::layers::authenticate::KEY_HEADERS;
use crate::location::parse_url;
use crate::own_directory;
use crate::route::{parse_further, parse_reference};
use crate::tls;

/// What is sent: OTLP in its binary form.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Who sends it.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("nono/", env!("CARGO_PKG_VERSION")));

/// The parsed form.
#[derive(Debug)]
pub(crate) struct Collector {
    logs: Uri,
    spans: Uri,
    /// Those that are the same with every request.
    headers: HeaderMap,
    credential: Option<Credential>,
    pub(super) tls: ClientConfig,
    pub(super) compression: Compression,
    pub(crate) queue: Option<QueueOptions>,
    pub(super) timeout: Duration,
    pub(super) flush: Duration,
    service_name: String,
    resource_attributes: Vec<(String, String)>,
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
        config.queue.as_ref().map_or(Ok(()), check_queue)?;
        Ok(Self {
            logs: address(&url, Signal::Logs)?,
            spans: address(&url, Signal::Spans)?,
            headers,
            credential,
            tls: parse_tls(config, &url)?,
            compression: config.compression,
            queue: config.queue.clone(),
            timeout: config.timeout,
            flush: config.flush,
            service_name: config.service_name.clone(),
            resource_attributes: config.resource_attributes.clone(),
        })
    }

    /// Whose the records of `session` are, as it is told.
    pub(crate) fn resource(&self, session: Session) -> Resource {
        Resource {
            service: self.service_name.clone(),
            session,
            process: Some(std::process::id()),
            attributes: self.resource_attributes.clone(),
        }
    }

    /// What it is to a log that it takes records from without a queue.
    pub(crate) fn reader(&self) -> Reader {
        let address = self.logs.authority().map_or("", |it| it.as_str());
        Reader::keeping("otlp", format!("the collector at {address}"))
    }

    /// Opens the queue for the records of `session`, if there is to be one: where they go, and
    /// where they are sent from.
    pub(crate) fn open_queue(
        &self,
        session: Session,
    ) -> Result<Option<(QueueSink, Source)>, StartError> {
        let Some(options) = self.queue.clone() else { return Ok(None) };
        let path = options.directory.clone();
        let failed = |reason: String| StartError::OtlpQueue { path: path.clone(), reason };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error.to_string()));
            }
            _ => {}
        }
        // Who could write there could speak for this proxy.
        let directory = own_directory::check(&path).map_err(failed)?;
        let news = Arc::new(Notify::new());
        let wake = Arc::clone(&news);
        let options = QueueOptions { directory, ..options };
        let opened = queue::open(options, self.resource(session), move || wake.notify_one());
        let (sink, reader) = opened.map_err(|error| failed(error.to_string()))?;
        Ok(Some((sink, Source::queue(reader, news))))
    }

    /// Where `signal` goes.
    pub(super) fn uri(&self, signal: Signal) -> &Uri {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Spans => &self.spans,
        }
    }

    /// A request's body as it is sent.
    pub(super) fn packed(&self, message: Vec<u8>) -> Bytes {
        match self.compression {
            Compression::None => message.into(),
            Compression::Gzip => {
                let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                // To memory both are certain.
                let done = packer.write_all(&message).and_then(|()| packer.finish());
                done.unwrap_or_default().into()
            }
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
    let field = "otlp_endpoint";
    let wrong = |reason: &str| ConfigError::new(field, text, reason);
    let otherwise = "it is not a URL, like http://127.0.0.1:4318";
    let url = parse_url(field, text, "`otlp_credential_key`", otherwise)?;
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
    if config.compression == Compression::Gzip {
        constants.insert(CONTENT_ENCODING, GZIP);
    }
    constants.entry(USER_AGENT).or_insert(AGENT);
    Ok((constants, parse_credential(config, secret)?))
}

/// The credential, which goes into the headers `places`.
fn parse_credential(
    config: &OtlpConfig,
    places: Vec<Header>,
) -> Result<Option<Credential>, ConfigError> {
    let located = |key| Ok((key, parse_reference("otlp_credential_key", key)?));
    let located = config.credential_key.as_deref().map(located).transpose()?;
    let mut places = places.into_iter();
    match (located, places.next()) {
        (None, None) => Ok(None),
        (Some((_, locator)), Some(Header::Secret(name, format))) => {
            let injection = Injection::Header { name, format };
            Ok(Some(Credential::new(locator, injection).with_headers(places.collect())))
        }
        (Some((key, _)), _) => {
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

fn check_queue(options: &QueueOptions) -> Result<(), ConfigError> {
    let least = QueueOptions::LEAST_BYTES;
    if options.max_bytes < least {
        let (given, reason) =
            (options.max_bytes.to_string(), format!("it must be at least {least}"));
        return Err(ConfigError::new("otlp_queue_bytes", given, reason));
    }
    if options.directory.as_os_str().is_empty() {
        return Err(ConfigError::new("otlp_queue_dir", "", "it must name a directory"));
    }
    Ok(())
}
