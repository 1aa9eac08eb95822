//! What a proxy is told: plain data as the user wrote it, and the parsed form that the proxy
//! runs on. Everything that can be judged before a request comes is judged in the parsing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nono_audit::{FileOptions, Overflow};
use nono_credentials::{OAuth2Config, Provided, VaultConfig};
use tokio::sync::Semaphore;

use crate::allowlist::{Allowlist, HostPattern, HostSet};
use crate::intercept::Plan;
use crate::otlp::{Collector, OtlpConfig};
use crate::preset;
use crate::route::{Route, RouteTable};
use crate::upstream::Outer;

/// What a proxy is to do. Plain data; [`ProxyConfig::check`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Hosts that clients may reach by `CONNECT` and plain forwarding: `host`, `*.domain` or an
    /// IP address, each with or without `:port`. None are allowed when empty.
    pub allowed_hosts: Vec<String>,
    /// Allows every host with a public address. Excludes `allowed_hosts`.
    pub allow_all_hosts: bool,
    /// Hosts that are refused whatever else allows them; the grammar is that of `allowed_hosts`. An
    /// address is refused by any name that leads to it, but for those that `external_proxy` looks up.
    pub denied_hosts: Vec<String>,
    /// Path prefixes that lead to upstreams, with a credential put on the way.
    pub routes: Vec<RouteConfig>,
    /// The address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Whether clients must show the session token. Only for tests, or where another layer lets
    /// none but the right clients reach the proxy: without it, whoever can connect can use the
    /// routes' credentials. A token that is shown is removed all the same.
    pub require_auth: bool,
    /// The proxy through which the world is reached; directly when absent.
    pub external_proxy: Option<ExternalProxyConfig>,
    /// Which TLS the proxy ends itself; none of it when absent.
    pub intercept: Option<InterceptConfig>,
    /// How many exchanges may run at once; 0 is without limit. More are answered 503.
    pub max_connections: usize,
    /// The file that records are written to, besides what consumers take.
    pub audit_file: Option<FileOptions>,
    /// The address of a listener that answers `GET /metrics`, for Prometheus, to whoever can
    /// reach it; none by default. Port 0 takes a free one.
    pub metrics: Option<SocketAddr>,
    /// The collector of OpenTelemetry that records are sent to; none by default.
    pub otlp: Option<OtlpConfig>,
    /// Time limits and sizes.
    pub limits: Limits,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            allow_all_hosts: false,
            denied_hosts: Vec::new(),
            routes: Vec::new(),
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            require_auth: true,
            external_proxy: None,
            intercept: None,
            max_connections: 256,
            audit_file: None,
            metrics: None,
            otlp: None,
            limits: Limits::default(),
        }
    }
}

impl ProxyConfig {
    /// Judges the configuration without starting anything.
    ///
    /// # Errors
    /// The first mistake, by field and value.
    pub fn check(&self) -> Result<(), ConfigError> {
        Settings::parse(self).map(drop)
    }
}

/// A proxy between this one and the world: tunnels, forwarded requests, and those of routes over
/// TLS go through it. Plain http routes lead to this machine or its network, and do not.
///
/// Forwarded requests, which are plain http, are given to it in absolute-form; all else goes
/// through tunnels that it opens. It is given names as they are and looks them up itself, so its
/// own rules say which addresses they may lead to. What is on this machine (`localhost` and loopback
/// addresses) is reached without it: there these names would mean another machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExternalProxyConfig {
    /// Where it listens: `host:port` or an `http` URL; or an `https` URL, to speak TLS to it.
    pub address: String,
    /// Hosts that are reached without it; the grammar is that of `allowed_hosts`.
    pub bypass_hosts: Vec<String>,
    /// Where its credentials are kept, as `user:password`: a reference like that of a route. They
    /// are fetched again when it answers 407, for what goes through it next, and taken out of answers
    /// that echo them.
    pub credential_key: Option<String>,
    /// A PEM file of certificate authorities to trust for it, besides the system's; needs an
    /// `https` URL.
    pub tls_ca: Option<PathBuf>,
}

impl ExternalProxyConfig {
    /// Judges it without connecting to anything; its file is read.
    ///
    /// # Errors
    /// The first mistake, by field and value.
    pub fn check(&self) -> Result<(), ConfigError> {
        Outer::parse(self).map(drop)
    }
}

/// The interception of TLS: `CONNECT` to the upstream of a route, or to a host in `hosts`, ends in
/// the proxy, which shows a certificate of its own; the requests inside are governed as all
/// others are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterceptConfig {
    /// The directory for the files of certificates that clients trust the proxy by; they are
    /// removed when it stops, and those of one that was killed when the next one starts there. It
    /// must be the user's own, and writable by nobody else; so must all above it, but for what is
    /// root's, and for directories in which nobody may move what others have (`/tmp`).
    pub ca_dir: PathBuf,
    /// A PEM file of the authority that vouches for the proxy, instead of one that it makes for
    /// itself; behind it those of the authorities above it up to the root, if it is none. That
    /// clients who trust this file believe what it says of the hosts is tried out. Whoever trusts it
    /// trusts whoever has its key, and in this mode the key is in a file.
    pub ca_cert: Option<PathBuf>,
    /// A PEM file of that authority's private key, which nobody else may read.
    pub ca_key: Option<PathBuf>,
    /// Certificates, as PEM, that clients and proxy trust besides those of the system.
    pub parent_ca_pems: Vec<u8>,
    /// Hosts that are intercepted besides those of routes; the grammar is that of
    /// `allowed_hosts`, which must allow them too.
    pub hosts: Vec<String>,
    /// Hosts that are not intercepted, whatever else says so: for clients that show certificates
    /// or know the host's.
    pub exclude: Vec<String>,
    /// Whether the authority is limited to the hosts that can be intercepted, which not every TLS
    /// library understands.
    pub name_constraints: bool,
}

/// Time limits and sizes, each with a default that suits calls to LLM APIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From a connection's first byte to the end of a request's head; and how long a kept-alive
    /// connection may be idle. 60 s: longer than clients pause between calls.
    pub head: Duration,
    /// From the first DNS query to the end of the TLS handshake; and how long a request waits for
    /// an upstream that has as many under way as it allows at once. 10 s.
    pub connect: Duration,
    /// From the end of a request to the response's head, at least; at most twice that. 600 s: a
    /// model may think that long.
    pub response_head: Duration,
    /// How long a body or a tunnel may rest without a byte, at least; it is cut after at most
    /// twice that. 600 s: longer than servers pause between the events of a stream.
    pub idle: Duration,
    /// How long an upstream connection is kept for reuse. 30 s: below the idle limits of common
    /// servers, so that a request seldom meets a connection that is being closed.
    pub pool_idle: Duration,
    /// How long the source of a credential may take, which is also how long it can delay the
    /// start. 30 s: long enough to answer a keyring's prompt.
    pub credential: Duration,
    /// How many client connections may be open, idle ones and those that became tunnels included;
    /// more are answered 503.
    /// 10,000, but at most two in five of the descriptors that the process may open, since an
    /// exchange needs two.
    pub max_client_connections: usize,
    /// How many records, of running and of finished exchanges, the audit log holds in memory
    /// until they are drained; from half of that on they go to disk. 250,000: some 100 MB, and
    /// at most 500 MB when every path is as long as is recorded.
    pub audit_records: usize,
    /// How many bytes of records the log holds on disk besides, in a temporary file without a
    /// name. 1 GiB: some two million records. 0 is none, and none are where no file can be made.
    pub audit_disk: u64,
    /// What happens to requests when both are full: by default they are refused. Neither happens
    /// while only [`crate::ProxyHandle::drain_audit`] waits, and a file or a collector has them.
    pub audit_overflow: Overflow,
    /// Worker threads, each with a runtime and connection pool of its own. The number of cores,
    /// at most 4: the work of a request is small, and more threads share less.
    pub workers: usize,
}

impl Limits {
    /// The longest that a time limit may be: longer than anything here is waited for; longer
    /// still would overflow the clock.
    pub const LONGEST: Duration = Duration::from_hours(30 * 24);

    /// The most [`Limits::workers`]: more threads than that only take memory from each other.
    pub const MOST_WORKERS: usize = 1024;
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            head: Duration::from_mins(1),
            connect: Duration::from_secs(10),
            response_head: Duration::from_mins(10),
            idle: Duration::from_mins(10),
            pool_idle: Duration::from_secs(30),
            credential: Duration::from_secs(30),
            max_client_connections: max_client_connections(),
            audit_records: 250_000,
            audit_disk: 1 << 30,
            audit_overflow: Overflow::default(),
            workers: cores.min(4),
        }
    }
}

/// The default of [`Limits::max_client_connections`].
fn max_client_connections() -> usize {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(files / 5 * 2).unwrap_or(usize::MAX).clamp(16, 10_000)
}

/// Where a credential goes on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InjectMode {
    /// Into the header `inject_header`, after `credential_format`.
    #[default]
    Header,
    /// Into the path, where `path_pattern` has its placeholder.
    UrlPath,
    /// Into the query parameter `query_param_name`.
    QueryParam,
    /// Into the header `inject_header`, as HTTP Basic credentials.
    BasicAuth,
}

impl InjectMode {
    /// Its name as configurations spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "HEADER",
            Self::UrlPath => "URL_PATH",
            Self::QueryParam => "QUERY_PARAM",
            Self::BasicAuth => "BASIC_AUTH",
        }
    }
}

/// A path prefix of the proxy that leads to an upstream. Plain data; [`RouteConfig::check`]
/// judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// The path prefix, of one or more segments: `/openai`.
    pub prefix: String,
    /// Where it leads: an `https` URL, with or without a base path. Plain `http` only to
    /// loopback and private addresses.
    pub upstream: String,
    /// Where the credential is kept: a name in the OS keyring, or `keyring://service/account`,
    /// `env://NAME`, `file:///path`, `op://vault/item/field`, `bw://item/field`, `cmd://name`
    /// (with `credential_command`) or `vault://mount/path#field` (with `vault`).
    pub credential_key: Option<String>,
    /// The program, and its arguments, whose output is the credential `cmd://name`. No shell
    /// reads them.
    pub credential_command: Vec<String>,
    /// The server of a credential `vault://`.
    pub vault: Option<VaultConfig>,
    /// A token endpoint that gives the credential, instead of `credential_key`.
    pub oauth2: Option<OAuth2Config>,
    /// A credential that the program gives itself, instead of `credential_key`: a value, or
    /// something to ask for one.
    pub credential: Option<Provided>,
    /// Where the credential goes.
    pub inject_mode: InjectMode,
    /// The header that it goes into, for modes `Header` and `BasicAuth`.
    pub inject_header: String,
    /// The header's value with the placeholder `{}`, for mode `Header`. By default `Bearer {}`
    /// for `Authorization` and `{}` for others.
    pub credential_format: Option<String>,
    /// What clients send in the path, with the placeholder `{}` where the session token stands;
    /// needed by mode `UrlPath`.
    pub path_pattern: Option<String>,
    /// What the upstream gets instead of `path_pattern`; by default the same.
    pub path_replacement: Option<String>,
    /// The query parameter; needed by mode `QueryParam`.
    pub query_param_name: Option<String>,
    /// Further headers: names and values. A value with the placeholder `{}` gets the credential,
    /// one without is the same for all requests (a version of the API). They replace the
    /// client's.
    pub extra_headers: Vec<(String, String)>,
    /// How long a credential is valid whose source does not say. It is fetched again before that
    /// is over. `None` is for ever; 300 s for `cmd://`.
    pub credential_ttl: Option<Duration>,
    /// The variable that hands the session token to the client as its API key, besides
    /// `PREFIX_API_KEY`.
    pub env_var: Option<String>,
    /// Variables that hold the route's base URL, besides `PREFIX_BASE_URL`: what the API's
    /// clients call it.
    pub base_url_vars: Vec<String>,
    /// Variables that hand the session token to the client as its API key, besides
    /// `PREFIX_API_KEY` and `env_var`; need `credential_key`.
    pub key_vars: Vec<String>,
    /// `(method, path glob)` pairs of which a request must match one; all are allowed when
    /// empty. `*` stays within a path segment, `**` crosses, neither stands for nothing (`/files/*`
    /// is not `/files/`); method `*` is any.
    pub endpoint_rules: Vec<(String, String)>,
    /// Whether a credential that the client brings itself is removed. Otherwise a route with a
    /// credential refuses the request, and one without passes it on.
    pub strip_client_credentials: bool,
    /// Whether the credential is taken out of bodies that echo it, which may hold an upstream's words
    /// back for a second or two where no line ends. Headers are always looked at.
    pub scrub_bodies: bool,
    /// A PEM file of certificate authorities to trust for the upstream, besides the system's.
    pub tls_ca: Option<PathBuf>,
    /// A PEM file of the certificate chain to show to the upstream; needs `tls_client_key`.
    pub tls_client_cert: Option<PathBuf>,
    /// A PEM file of that certificate's private key.
    pub tls_client_key: Option<PathBuf>,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            upstream: String::new(),
            credential_key: None,
            credential_command: Vec::new(),
            vault: None,
            oauth2: None,
            credential: None,
            inject_mode: InjectMode::Header,
            inject_header: "Authorization".into(),
            credential_format: None,
            path_pattern: None,
            path_replacement: None,
            query_param_name: None,
            extra_headers: Vec::new(),
            credential_ttl: None,
            env_var: None,
            base_url_vars: Vec::new(),
            key_vars: Vec::new(),
            endpoint_rules: Vec::new(),
            strip_client_credentials: false,
            scrub_bodies: true,
            tls_ca: None,
            tls_client_cert: None,
            tls_client_key: None,
        }
    }
}

impl RouteConfig {
    /// The route to a well-known API, by name: its upstream, header, and the variables that its
    /// clients read; still without a `credential_key`, which the variables need. For
    /// `azure-openai` the upstream, the resource's own endpoint, must be set too.
    ///
    /// # Errors
    /// There is no preset `name`.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        preset::find(name)
    }

    /// Judges the route without starting anything; its files are read.
    ///
    /// # Errors
    /// The first mistake, by field and value.
    pub fn check(&self) -> Result<(), ConfigError> {
        Route::parse(self).map(drop)
    }
}

/// A mistake in the configuration: which field, its value, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: String,
    value: String,
    reason: String,
    unsupported: bool,
}

impl ConfigError {
    /// A mistake in `field`.
    pub(crate) fn new(
        field: impl Into<String>,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), value: value.into(), reason: reason.into(), unsupported: false }
    }

    /// A value that is right, but that this version cannot serve.
    pub(crate) fn unsupported(mut self) -> Self {
        self.unsupported = true;
        self
    }

    /// The field's name.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Whether the value is right, but this version cannot serve it.
    pub fn is_unsupported(&self) -> bool {
        self.unsupported
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.field, self.value, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// The configuration that a proxy runs on: parsed, judged, immutable.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) allowlist: Allowlist,
    pub(crate) denied: Arc<HostSet>,
    pub(crate) routes: RouteTable,
    pub(crate) bind: SocketAddr,
    pub(crate) require_auth: bool,
    pub(crate) outer: Option<Arc<Outer>>,
    pub(crate) intercept: Option<Plan>,
    pub(crate) otlp: Option<Arc<Collector>>,
    pub(crate) max_connections: usize,
    pub(crate) limits: Limits,
}

impl Settings {
    /// Parses `config`.
    pub(crate) fn parse(config: &ProxyConfig) -> Result<Self, ConfigError> {
        if config.allow_all_hosts && !config.allowed_hosts.is_empty() {
            return Err(ConfigError::new(
                "allow_all_hosts",
                "true",
                "it allows every host, so `allowed_hosts` must be empty beside it",
            ));
        }
        config.audit_file.as_ref().map_or(Ok(()), check_audit_file)?;
        let listed = patterns("allowed_hosts", &config.allowed_hosts)?;
        if let Some(never) = listed.iter().find(|pattern| pattern.is_never_reached()) {
            let reason = "no rule makes it reachable: it is a metadata service, or link-local, \
                          unspecified, multicast or reserved";
            return Err(ConfigError::new("allowed_hosts", never.text(), reason));
        }
        let listed = HostSet::new(listed);
        let routes = config.routes.iter().map(Route::parse).collect::<Result<Vec<_>, _>>()?;
        let routes = RouteTable::new(routes)?;
        let intercept = config.intercept.as_ref().map(|intercept| Plan::parse(intercept, &routes));
        Ok(Self {
            allowlist: if config.allow_all_hosts {
                Allowlist::All
            } else {
                Allowlist::Listed(listed)
            },
            denied: HostSet::new(patterns("denied_hosts", &config.denied_hosts)?).into(),
            routes,
            bind: config.bind,
            require_auth: config.require_auth,
            outer: config.external_proxy.as_ref().map(Outer::parse).transpose()?.map(Arc::new),
            intercept: intercept.transpose()?,
            otlp: config.otlp.as_ref().map(Collector::parse).transpose()?.map(Arc::new),
            max_connections: config.max_connections,
            limits: checked(&config.limits)?,
        })
    }

    /// How many client connections may be open.
    pub(crate) fn max_sockets(&self) -> usize {
        self.limits.max_client_connections.min(Semaphore::MAX_PERMITS)
    }

    /// Whether clients are meant to reach something on loopback through the proxy.
    pub(crate) fn serves_loopback(&self) -> bool {
        let listed = match &self.allowlist {
            Allowlist::Listed(set) => set.names_loopback(),
            Allowlist::All => false,
        };
        listed || self.routes.iter().any(|route| route.target.is_loopback())
    }
}

pub(crate) fn patterns(field: &str, rules: &[String]) -> Result<Vec<HostPattern>, ConfigError> {
    let parse = |rule: &String| {
        HostPattern::parse(rule).map_err(|reason| ConfigError::new(field, rule, reason))
    };
    rules.iter().map(parse).collect()
}

fn check_audit_file(options: &FileOptions) -> Result<(), ConfigError> {
    let path = &options.path;
    if path.file_name().is_none() || path.is_dir() {
        let reason = "it must name a file, in a directory that is there";
        return Err(ConfigError::new("audit_file", path.display().to_string(), reason));
    }
    if options.max_bytes == 0 {
        let reason = "it must be at least 1; a file of no bytes holds no record";
        return Err(ConfigError::new("audit_file_max_bytes", "0", reason));
    }
    Ok(())
}

fn checked(limits: &Limits) -> Result<Limits, ConfigError> {
    for (field, value) in [
        ("limits.head", limits.head),
        ("limits.connect", limits.connect),
        ("limits.response_head", limits.response_head),
        ("limits.idle", limits.idle),
        ("limits.pool_idle", limits.pool_idle),
        ("limits.credential", limits.credential),
    ] {
        if value.is_zero() || value > Limits::LONGEST {
            let reason = "it must be longer than nothing and at most 30 days";
            return Err(ConfigError::new(field, format!("{value:?}"), reason));
        }
    }
    for (field, value) in [
        ("workers", limits.workers),
        ("audit_records", limits.audit_records),
        ("max_client_connections", limits.max_client_connections),
    ] {
        if value == 0 {
            return Err(ConfigError::new(field, "0", "it must be at least 1"));
        }
    }
    if limits.workers > Limits::MOST_WORKERS {
        let reason = format!("it must be at most {}", Limits::MOST_WORKERS);
        return Err(ConfigError::new("workers", limits.workers.to_string(), reason));
    }
    Ok(limits.clone())
}
