//! Where a collector is, and how it is spoken to, as the user writes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nono_audit::queue::QueueOptions;

/// How requests are made smaller on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Some tenth of their size is left, since records are much alike. Every collector has to
    /// understand it.
    #[default]
    Gzip,
    /// Not at all: for a collector on this machine, where only the work counts.
    None,
}

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
    /// How requests to it are compressed.
    pub compression: Compression,
    /// Where records are kept until it has taken them, also for the next proxy; in the log of this
    /// one when absent.
    pub queue: Option<QueueOptions>,
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
            compression: Compression::default(),
            queue: None,
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
