//! `ProxyConfig`: a plain value, judged when made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use nono_audit::{FileOptions, Overflow};
use nono_proxy::{Compression, InterceptConfig, Limits, ProxyConfig};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arguments::{PairsArgument, optional_os_path, optional_texts, texts, time_limit};
use crate::error::{argument_error, config_error};
use crate::external::PyExternalProxyConfig;
use crate::int;
use crate::otlp::{self, OtlpOptions};
use crate::route::PyRouteConfig;
use crate::value::{Reduced, hash_of, reduce, to_dict};

/// What the constructor takes.
const FIELDS: [&str; 42] = [
    "allowed_hosts",
    "routes",
    "external_proxy",
    "bind_addr",
    "bind_port",
    "max_connections",
    "intercept_ca_dir",
    "intercept_parent_ca_pems",
    "allow_all_hosts",
    "denied_hosts",
    "require_auth",
    "head_timeout_secs",
    "connect_timeout_secs",
    "response_timeout_secs",
    "idle_timeout_secs",
    "audit_records",
    "workers",
    "pool_idle_timeout_secs",
    "max_client_connections",
    "credential_timeout_secs",
    "audit_disk_bytes",
    "audit_overflow",
    "audit_file",
    "audit_file_max_bytes",
    "audit_file_keep",
    "metrics_addr",
    "intercept_hosts",
    "intercept_exclude",
    "intercept_name_constraints",
    "intercept_ca_cert",
    "intercept_ca_key",
    "otlp_endpoint",
    "otlp_headers",
    "otlp_credential_key",
    "otlp_tls_ca",
    "otlp_service_name",
    "otlp_resource_attributes",
    "otlp_timeout_secs",
    "otlp_flush_secs",
    "otlp_compression",
    "otlp_queue_dir",
    "otlp_queue_bytes",
];
/// What a file of records grows to, if nothing is said.
const AUDIT_FILE_MAX_BYTES: u64 = 67_108_864;

/// What a proxy allows, where it leads, and where it listens.
#[pyclass(name = "ProxyConfig", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug)]
pub(crate) struct PyProxyConfig {
    inner: ProxyConfig,
    routes: Vec<Py<PyRouteConfig>>,
}

impl PartialEq for PyProxyConfig {
    fn eq(&self, other: &Self) -> bool {
        // The routes are in there too.
        self.inner == other.inner
    }
}

impl PyProxyConfig {
    /// The configuration as the proxy takes it.
    pub(crate) fn to_config(&self) -> ProxyConfig {
        self.inner.clone()
    }
}

#[pymethods]
impl PyProxyConfig {
    #[new]
    #[pyo3(signature = (
        allowed_hosts=None, routes=Vec::new(), external_proxy=None,
        bind_addr="127.0.0.1", bind_port=0, max_connections=256, intercept_ca_dir=None,
        intercept_parent_ca_pems=None, allow_all_hosts=false, denied_hosts=Vec::new(),
        require_auth=true, head_timeout_secs=60.0, connect_timeout_secs=10.0,
        response_timeout_secs=600.0, idle_timeout_secs=600.0,
        audit_records=250_000, workers=None, pool_idle_timeout_secs=30.0,
        max_client_connections=None, credential_timeout_secs=30.0,
        audit_disk_bytes=1_073_741_824, audit_overflow="refuse",
        audit_file=None, audit_file_max_bytes=67_108_864, audit_file_keep=0, metrics_addr=None,
        intercept_hosts=Vec::new(), intercept_exclude=Vec::new(),
        intercept_name_constraints=false, intercept_ca_cert=None, intercept_ca_key=None,
        otlp_endpoint=None,
        otlp_headers=PairsArgument::default(), otlp_credential_key=None, otlp_tls_ca=None,
        otlp_service_name=None, otlp_resource_attributes=PairsArgument::default(),
        otlp_timeout_secs=None, otlp_flush_secs=None, otlp_compression=None,
        otlp_queue_dir=None, otlp_queue_bytes=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments of the Python class")]
    fn new(
        #[pyo3(from_py_with = optional_texts)] allowed_hosts: Option<Vec<String>>,
        routes: Vec<Py<PyRouteConfig>>,
        external_proxy: Option<Py<PyExternalProxyConfig>>,
        bind_addr: &str,
        #[pyo3(from_py_with = int::bind_port)] bind_port: u16,
        #[pyo3(from_py_with = int::max_connections)] max_connections: usize,
        #[pyo3(from_py_with = optional_os_path)] intercept_ca_dir: Option<PathBuf>,
        intercept_parent_ca_pems: Option<Bound<'_, PyBytes>>,
        allow_all_hosts: bool,
        #[pyo3(from_py_with = texts)] denied_hosts: Vec<String>,
        require_auth: bool,
        head_timeout_secs: f64,
        connect_timeout_secs: f64,
        response_timeout_secs: f64,
        idle_timeout_secs: f64,
        #[pyo3(from_py_with = int::audit_records)] audit_records: usize,
        #[pyo3(from_py_with = int::workers)] workers: Option<usize>,
        pool_idle_timeout_secs: f64,
        #[pyo3(from_py_with = int::max_client_connections)] max_client_connections: Option<usize>,
        credential_timeout_secs: f64,
        #[pyo3(from_py_with = int::audit_disk_bytes)] audit_disk_bytes: u64,
        audit_overflow: &str,
        #[pyo3(from_py_with = optional_os_path)] audit_file: Option<PathBuf>,
        #[pyo3(from_py_with = int::audit_file_max_bytes)] audit_file_max_bytes: u64,
        #[pyo3(from_py_with = int::audit_file_keep)] audit_file_keep: usize,
        metrics_addr: Option<&str>,
        #[pyo3(from_py_with = texts)] intercept_hosts: Vec<String>,
        #[pyo3(from_py_with = texts)] intercept_exclude: Vec<String>,
        intercept_name_constraints: bool,
        #[pyo3(from_py_with = optional_os_path)] intercept_ca_cert: Option<PathBuf>,
        #[pyo3(from_py_with = optional_os_path)] intercept_ca_key: Option<PathBuf>,
        otlp_endpoint: Option<String>,
        otlp_headers: PairsArgument,
        otlp_credential_key: Option<String>,
        #[pyo3(from_py_with = optional_os_path)] otlp_tls_ca: Option<PathBuf>,
        otlp_service_name: Option<String>,
        otlp_resource_attributes: PairsArgument,
        otlp_timeout_secs: Option<f64>,
        otlp_flush_secs: Option<f64>,
        otlp_compression: Option<String>,
        #[pyo3(from_py_with = optional_os_path)] otlp_queue_dir: Option<PathBuf>,
        #[pyo3(from_py_with = int::otlp_queue_bytes)] otlp_queue_bytes: Option<u64>,
    ) -> PyResult<Self> {
        let parent_ca_pems = intercept_parent_ca_pems.map(|pems| pems.as_bytes().to_vec());
        let intercept = intercept(
            intercept_ca_dir,
            InterceptConfig {
                parent_ca_pems: parent_ca_pems.unwrap_or_default(),
                hosts: intercept_hosts,
                exclude: intercept_exclude,
                name_constraints: intercept_name_constraints,
                ca_cert: intercept_ca_cert,
                ca_key: intercept_ca_key,
                ..InterceptConfig::default()
            },
        )?;
        let collector = otlp::config(
            otlp_endpoint,
            OtlpOptions {
                headers: otlp_headers.0,
                credential_key: otlp_credential_key,
                tls_ca: otlp_tls_ca,
                service_name: otlp_service_name,
                resource_attributes: otlp_resource_attributes.0,
                timeout_secs: otlp_timeout_secs,
                flush_secs: otlp_flush_secs,
                compression: otlp_compression,
                queue_dir: otlp_queue_dir,
                queue_bytes: otlp_queue_bytes,
            },
        )?;
        let defaults = Limits::default();
        let limits = Limits {
            head: time_limit("head_timeout_secs", head_timeout_secs)?,
            connect: time_limit("connect_timeout_secs", connect_timeout_secs)?,
            response_head: time_limit("response_timeout_secs", response_timeout_secs)?,
            idle: time_limit("idle_timeout_secs", idle_timeout_secs)?,
            pool_idle: time_limit("pool_idle_timeout_secs", pool_idle_timeout_secs)?,
            max_client_connections: max_client_connections
                .unwrap_or(defaults.max_client_connections),
            credential: time_limit("credential_timeout_secs", credential_timeout_secs)?,
            audit_records,
            audit_disk: audit_disk_bytes,
            audit_overflow: overflow(audit_overflow)?,
            workers: workers.unwrap_or(defaults.workers),
        };
        let inner = ProxyConfig {
            allowed_hosts: allowed_hosts.unwrap_or_default(),
            allow_all_hosts,
            denied_hosts,
            routes: routes.iter().map(|route| route.get().to_config()).collect(),
            bind: SocketAddr::new(parse_bind_addr(bind_addr)?, bind_port),
            require_auth,
            external_proxy: external_proxy.map(|external| external.get().to_config()),
            intercept,
            max_connections,
            audit_file: file(audit_file, audit_file_max_bytes, audit_file_keep)?,
            metrics: metrics_addr.map(parse_metrics_addr).transpose()?,
            otlp: collector,
            limits,
        };
        inner.check().map_err(config_error)?;
        Ok(Self { inner, routes })
    }

    /// Hosts that clients may reach by tunnels and forwarded requests; none by default.
    ///
    /// Each is a name, an IP address or `*.example.com`, which stands for all names below
    /// `example.com`, and may have a `:port`; without one, any port may be reached. Loopback and
    /// private addresses are reached only where they, or their very name, stand here; those of
    /// metadata services never are. Routes need no entry.
    #[getter]
    fn allowed_hosts(&self) -> Vec<String> {
        self.inner.allowed_hosts.clone()
    }

    /// Whether every host with a public address may be reached, but for `denied_hosts`.
    #[getter]
    fn allow_all_hosts(&self) -> bool {
        self.inner.allow_all_hosts
    }

    /// Path prefixes that lead to upstreams, with a credential put on the way.
    #[getter]
    fn routes(&self, py: Python<'_>) -> Vec<Py<PyRouteConfig>> {
        self.routes.iter().map(|route| route.clone_ref(py)).collect()
    }

    /// The IP address to listen at, or `localhost`.
    #[getter]
    fn bind_addr(&self) -> String {
        self.inner.bind.ip().to_string()
    }

    /// The port to listen at; 0 takes a free one.
    #[getter]
    fn bind_port(&self) -> u16 {
        self.inner.bind.port()
    }

    /// How many requests and tunnels may run at once; more are answered 503.
    ///
    /// 0 is without limit.
    #[getter]
    fn max_connections(&self) -> usize {
        self.inner.max_connections
    }

    /// Hosts that are refused whatever else allows them.
    ///
    /// An address is refused by any name that leads to it, but for those that `external_proxy` looks
    /// up.
    #[getter]
    fn denied_hosts(&self) -> Vec<String> {
        self.inner.denied_hosts.clone()
    }

    /// The proxy through which the world is reached; directly if there is none.
    #[getter]
    fn external_proxy(&self) -> Option<PyExternalProxyConfig> {
        self.inner.external_proxy.clone().map(Into::into)
    }

    /// Certificates that intercepting clients trust besides the proxy's own, as PEM.
    #[getter]
    fn intercept_parent_ca_pems(&self) -> Option<&[u8]> {
        let pems = self.inner.intercept.as_ref().map(|it| it.parent_ca_pems.as_slice());
        pems.filter(|pems| !pems.is_empty())
    }

    /// The directory for the files that clients trust an intercepting proxy by.
    ///
    /// With it, `CONNECT` to the upstream of a route ends in the proxy, which shows a certificate
    /// of its own; the requests inside are governed as all others are. The files are removed when
    /// the proxy stops, and those of one that was killed when the next one starts there. It must be
    /// the user's own, and nobody but the user and root may be able to replace it or what is in it:
    /// whoever can write to a directory above it could.
    #[getter]
    fn intercept_ca_dir(&self) -> Option<PathBuf> {
        self.inner.intercept.as_ref().map(|intercept| intercept.ca_dir.clone())
    }

    /// Hosts that are intercepted besides those of routes; they must be allowed too.
    #[getter]
    fn intercept_hosts(&self) -> Vec<String> {
        self.inner.intercept.as_ref().map(|it| it.hosts.clone()).unwrap_or_default()
    }

    /// Hosts that are not intercepted, whatever else says so.
    #[getter]
    fn intercept_exclude(&self) -> Vec<String> {
        self.inner.intercept.as_ref().map(|it| it.exclude.clone()).unwrap_or_default()
    }

    /// Whether the authority is limited to the hosts that can be intercepted.
    #[getter]
    fn intercept_name_constraints(&self) -> bool {
        self.inner.intercept.as_ref().is_some_and(|intercept| intercept.name_constraints)
    }

    /// The certificate of the authority that vouches for the proxy, if it makes none itself.
    ///
    /// A PEM file; behind it those of the authorities above it up to the root, if it is none. That
    /// clients who trust this file believe what it says of the hosts is tried when a proxy starts.
    #[getter]
    fn intercept_ca_cert(&self) -> Option<PathBuf> {
        self.inner.intercept.as_ref().and_then(|intercept| intercept.ca_cert.clone())
    }

    /// The file of that authority's private key, as PEM, which nobody else may read.
    #[getter]
    fn intercept_ca_key(&self) -> Option<PathBuf> {
        self.inner.intercept.as_ref().and_then(|intercept| intercept.ca_key.clone())
    }

    /// Whether clients must show the session token.
    ///
    /// `False` is for tests, or where another layer lets none but the right clients connect.
    #[getter]
    fn require_auth(&self) -> bool {
        self.inner.require_auth
    }

    /// How long a request's head may take, and a kept connection be idle.
    #[getter]
    fn head_timeout_secs(&self) -> f64 {
        self.inner.limits.head.as_secs_f64()
    }

    /// How long connecting to an upstream may take, DNS and TLS included.
    ///
    /// It is also how long a request waits for an upstream that has as many under way over HTTP/2
    /// as it allows at once.
    #[getter]
    fn connect_timeout_secs(&self) -> f64 {
        self.inner.limits.connect.as_secs_f64()
    }

    /// How long an upstream may take to begin its response.
    #[getter]
    fn response_timeout_secs(&self) -> f64 {
        self.inner.limits.response_head.as_secs_f64()
    }

    /// How long a body or tunnel may pass no byte; it is cut by twice that.
    #[getter]
    fn idle_timeout_secs(&self) -> f64 {
        self.inner.limits.idle.as_secs_f64()
    }

    /// How long an upstream connection is kept for its next request.
    #[getter]
    fn pool_idle_timeout_secs(&self) -> f64 {
        self.inner.limits.pool_idle.as_secs_f64()
    }

    /// How long the source of a credential may take; the start waits as long at most.
    #[getter]
    fn credential_timeout_secs(&self) -> f64 {
        self.inner.limits.credential.as_secs_f64()
    }

    /// How many client connections may be open; more are answered 503.
    ///
    /// Idle ones count, and those that became tunnels.
    ///
    /// By default 10,000, but at most two in five of the files that the process may open.
    #[getter]
    fn max_client_connections(&self) -> usize {
        self.inner.limits.max_client_connections
    }

    /// How many records are held in memory; from half of that on they go to disk.
    #[getter]
    fn audit_records(&self) -> usize {
        self.inner.limits.audit_records
    }

    /// How many bytes of records are held on disk besides; 0 is none.
    ///
    /// None are either where the process may make no temporary file, as after `apply`.
    #[getter]
    fn audit_disk_bytes(&self) -> u64 {
        self.inner.limits.audit_disk
    }

    /// The address of a listener for Prometheus; who can reach it can read the metrics.
    #[getter]
    fn metrics_addr(&self) -> Option<String> {
        self.inner.metrics.map(|addr| addr.to_string())
    }

    /// The base address of the collector that records are sent to, by OTLP over HTTP.
    ///
    /// Logs go to `/v1/logs` below it, spans to `/v1/traces`. A value of `otlp_headers` with the
    /// placeholder `{}` gets the credential that is kept at `otlp_credential_key`. Who names a
    /// collector trusts it: no rule for hosts applies to it, and no external proxy is used.
    #[getter]
    fn otlp_endpoint(&self) -> Option<String> {
        self.inner.otlp.as_ref().map(|otlp| otlp.endpoint.clone())
    }

    /// Where the collector's credential is kept: a reference like that of a route.
    #[getter]
    fn otlp_credential_key(&self) -> Option<String> {
        self.inner.otlp.as_ref().and_then(|otlp| otlp.credential_key.clone())
    }

    /// The headers that the collector is sent, with `{}` in the credential's place.
    #[getter]
    fn otlp_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, self.inner.otlp.iter().flat_map(|otlp| &otlp.headers))
    }

    /// A PEM file of certificate authorities to trust for it, besides the system's.
    #[getter]
    fn otlp_tls_ca(&self) -> Option<PathBuf> {
        self.inner.otlp.as_ref().and_then(|otlp| otlp.tls_ca.clone())
    }

    /// The name of the service that spans and logs are of; `nono` by default.
    #[getter]
    fn otlp_service_name(&self) -> Option<String> {
        self.inner.otlp.as_ref().map(|otlp| otlp.service_name.clone())
    }

    /// What else is said of the service, by the names of the semantic conventions.
    #[getter]
    fn otlp_resource_attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, self.inner.otlp.iter().flat_map(|otlp| &otlp.resource_attributes))
    }

    /// How long the collector may take to answer; 10 by default.
    #[getter]
    fn otlp_timeout_secs(&self) -> Option<f64> {
        self.inner.otlp.as_ref().map(|otlp| otlp.timeout.as_secs_f64())
    }

    /// How much longer a shutdown waits for what the collector has not yet taken.
    ///
    /// 5 by default. `diagnostics()` says what was left.
    #[getter]
    fn otlp_flush_secs(&self) -> Option<f64> {
        self.inner.otlp.as_ref().map(|otlp| otlp.flush.as_secs_f64())
    }

    /// How requests to it are compressed: `gzip` by default.
    #[getter]
    fn otlp_compression(&self) -> Option<&'static str> {
        self.inner.otlp.as_ref().map(|otlp| match otlp.compression {
            Compression::Gzip => "gzip",
            Compression::None => "none",
        })
    }

    /// A directory in which records wait for the collector, besides the log's own room.
    ///
    /// They survive the process: the next proxy with this directory delivers what is left, each at
    /// least once, oldest first. It is made if it is missing; it must be the user's own, as
    /// `intercept_ca_dir` must, and serves one proxy at a time.
    #[getter]
    fn otlp_queue_dir(&self) -> Option<PathBuf> {
        Some(self.inner.otlp.as_ref()?.queue.as_ref()?.directory.clone())
    }

    /// How many bytes may wait there, at least 1 MiB; 256 MiB by default.
    ///
    /// When it is full, records stay in the log, and `diagnostics()` says so; when that is full
    /// too, requests are refused or go unrecorded as `audit_overflow` says.
    #[getter]
    fn otlp_queue_bytes(&self) -> Option<u64> {
        Some(self.inner.otlp.as_ref()?.queue.as_ref()?.max_bytes)
    }

    /// The file that records are written to.
    #[getter]
    fn audit_file(&self) -> Option<PathBuf> {
        self.inner.audit_file.as_ref().map(|file| file.path.clone())
    }

    /// How large the file of records grows before the next one is begun.
    #[getter]
    fn audit_file_max_bytes(&self) -> u64 {
        self.inner.audit_file.as_ref().map_or(AUDIT_FILE_MAX_BYTES, |file| file.max_bytes)
    }

    /// How many files of records are kept besides; 0 is all.
    #[getter]
    fn audit_file_keep(&self) -> usize {
        self.inner.audit_file.as_ref().map_or(0, |file| file.keep)
    }

    /// What happens to requests when no record more can be held.
    ///
    /// `refuse` answers them 503. `count` lets them through, and a record of the phase `gap` says
    /// how many they were.
    #[getter]
    fn audit_overflow(&self) -> &'static str {
        match self.inner.limits.audit_overflow {
            Overflow::Refuse => "refuse",
            Overflow::Count => "count",
        }
    }

    /// How many threads serve requests; by default one for each core, at most 4.
    #[getter]
    fn workers(&self) -> usize {
        self.inner.limits.workers
    }

    fn __repr__(&self) -> String {
        let (hosts, routes) = (self.inner.allowed_hosts.len(), self.routes.len());
        format!("ProxyConfig(hosts={hosts}, routes={routes}, bind={})", self.inner.bind)
    }

    fn __hash__(&self) -> u64 {
        hash_of(&(&self.inner.allowed_hosts, self.inner.bind))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.routes.iter().try_for_each(|route| visit.call(route))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf, &FIELDS)
    }
}

fn overflow(text: &str) -> PyResult<Overflow> {
    match text {
        "refuse" => Ok(Overflow::Refuse),
        "count" => Ok(Overflow::Count),
        _ => Err(argument_error("audit_overflow must be 'refuse' or 'count'")),
    }
}

/// The file of records, if there is one; nothing of the rest means anything else.
fn file(path: Option<PathBuf>, max_bytes: u64, keep: usize) -> PyResult<Option<FileOptions>> {
    match path {
        Some(path) => Ok(Some(FileOptions { path, max_bytes, keep })),
        None if (max_bytes, keep) == (AUDIT_FILE_MAX_BYTES, 0) => Ok(None),
        None => Err(argument_error(
            "audit_file_max_bytes and audit_file_keep need audit_file beside them",
        )),
    }
}

fn parse_metrics_addr(text: &str) -> PyResult<SocketAddr> {
    text.parse().map_err(|_| {
        let value = text.escape_debug();
        argument_error(format!(
            "metrics_addr '{value}' must be an IP address with a port, like '127.0.0.1:9090'"
        ))
    })
}

/// What is intercepted, if there is a directory for it; nothing of the rest means anything else.
fn intercept(ca_dir: Option<PathBuf>, rest: InterceptConfig) -> PyResult<Option<InterceptConfig>> {
    match ca_dir {
        Some(ca_dir) => Ok(Some(InterceptConfig { ca_dir, ..rest })),
        None if rest == InterceptConfig::default() => Ok(None),
        None => Err(argument_error(
            "intercept_parent_ca_pems, intercept_hosts, intercept_exclude, intercept_ca_cert, \
             intercept_ca_key and intercept_name_constraints need intercept_ca_dir beside them",
        )),
    }
}

/// An address to listen at. Of names only `localhost` is known: any other would have to be
/// looked up, and might change between the check and the listening.
fn parse_bind_addr(text: &str) -> PyResult<IpAddr> {
    if text == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    text.parse().map_err(|_| {
        let value = text.escape_debug();
        argument_error(format!("bind_addr '{value}' must be an IP address or 'localhost'"))
    })
}
