//! `ProxyConfig`, `RouteConfig` and `ExternalProxyConfig`: plain values, judged when made.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use nono_proxy::{ProxyConfig, RouteConfig};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::enums::{InjectArgument, inject_mode};
use crate::error::{config_error, not_implemented, path_error};

/// A path prefix of the proxy, the upstream it leads to, and the credential put on the way.
#[pyclass(name = "RouteConfig", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyRouteConfig {
    inner: RouteConfig,
}

#[pymethods]
impl PyRouteConfig {
    #[new]
    #[pyo3(signature = (
        prefix, upstream, credential_key=None,
        inject_mode=InjectArgument(nono_proxy::InjectMode::Header),
        inject_header="Authorization", credential_format=None, path_pattern=None,
        path_replacement=None, query_param_name=None, env_var=None, endpoint_rules=Vec::new(),
        tls_ca=None, tls_client_cert=None, tls_client_key=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments of the Python class")]
    fn new(
        prefix: String,
        upstream: String,
        credential_key: Option<String>,
        inject_mode: InjectArgument,
        inject_header: &str,
        credential_format: Option<String>,
        path_pattern: Option<String>,
        path_replacement: Option<String>,
        query_param_name: Option<String>,
        env_var: Option<String>,
        endpoint_rules: Vec<(String, String)>,
        tls_ca: Option<PathBuf>,
        tls_client_cert: Option<PathBuf>,
        tls_client_key: Option<PathBuf>,
    ) -> PyResult<Self> {
        let inner = RouteConfig {
            prefix,
            upstream,
            credential_key,
            inject_mode: inject_mode.0,
            inject_header: inject_header.to_owned(),
            credential_format,
            path_pattern,
            path_replacement,
            query_param_name,
            env_var,
            endpoint_rules,
            tls_ca,
            tls_client_cert,
            tls_client_key,
        };
        check_files(&inner)?;
        inner.check().map_err(config_error)?;
        Ok(Self { inner })
    }

    #[getter]
    fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    #[getter]
    fn upstream(&self) -> &str {
        &self.inner.upstream
    }

    #[getter]
    fn credential_key(&self) -> Option<&str> {
        self.inner.credential_key.as_deref()
    }

    #[getter]
    fn inject_mode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        inject_mode(py, self.inner.inject_mode)
    }

    #[getter]
    fn inject_header(&self) -> &str {
        &self.inner.inject_header
    }

    #[getter]
    fn credential_format(&self) -> Option<&str> {
        self.inner.credential_format.as_deref()
    }

    #[getter]
    fn path_pattern(&self) -> Option<&str> {
        self.inner.path_pattern.as_deref()
    }

    #[getter]
    fn path_replacement(&self) -> Option<&str> {
        self.inner.path_replacement.as_deref()
    }

    #[getter]
    fn query_param_name(&self) -> Option<&str> {
        self.inner.query_param_name.as_deref()
    }

    #[getter]
    fn env_var(&self) -> Option<&str> {
        self.inner.env_var.as_deref()
    }

    #[getter]
    fn endpoint_rules(&self) -> Vec<(String, String)> {
        self.inner.endpoint_rules.clone()
    }

    #[getter]
    fn tls_ca(&self) -> Option<&OsStr> {
        self.inner.tls_ca.as_ref().map(AsRef::as_ref)
    }

    #[getter]
    fn tls_client_cert(&self) -> Option<&OsStr> {
        self.inner.tls_client_cert.as_ref().map(AsRef::as_ref)
    }

    #[getter]
    fn tls_client_key(&self) -> Option<&OsStr> {
        self.inner.tls_client_key.as_ref().map(AsRef::as_ref)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let prefix = PyString::new(py, &self.inner.prefix).repr()?;
        let upstream = PyString::new(py, &self.inner.upstream).repr()?;
        Ok(format!("RouteConfig(prefix={prefix}, upstream={upstream})"))
    }
}

/// A proxy between this one and the world.
#[pyclass(name = "ExternalProxyConfig", module = "nono_py", frozen, get_all)]
#[derive(Debug, Clone)]
pub(crate) struct PyExternalProxyConfig {
    /// Where it listens: `host:port`.
    address: String,
    /// Hosts that are reached without it.
    bypass_hosts: Vec<String>,
}

#[pymethods]
impl PyExternalProxyConfig {
    #[new]
    #[pyo3(signature = (address, bypass_hosts=Vec::new()))]
    fn new(address: String, bypass_hosts: Vec<String>) -> Self {
        Self { address, bypass_hosts }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("ExternalProxyConfig(address={})", PyString::new(py, &self.address).repr()?))
    }
}

/// What a proxy allows, where it leads, and where it listens.
#[pyclass(name = "ProxyConfig", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyProxyConfig {
    inner: ProxyConfig,
    routes: Vec<Py<PyRouteConfig>>,
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
        intercept_parent_ca_pems=None, allow_all_hosts=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments of the Python class")]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python arguments")]
    fn new(
        allowed_hosts: Option<Vec<String>>,
        routes: Vec<Py<PyRouteConfig>>,
        external_proxy: Option<Py<PyExternalProxyConfig>>,
        bind_addr: &str,
        bind_port: u16,
        max_connections: usize,
        intercept_ca_dir: Option<PathBuf>,
        intercept_parent_ca_pems: Option<Bound<'_, PyBytes>>,
        allow_all_hosts: bool,
    ) -> PyResult<Self> {
        if let Some(external) = external_proxy {
            return Err(not_implemented("external_proxy", &external.get().address));
        }
        if let Some(dir) = intercept_ca_dir {
            return Err(not_implemented("intercept_ca_dir", &dir.to_string_lossy()));
        }
        if intercept_parent_ca_pems.is_some() {
            return Err(not_implemented("intercept_parent_ca_pems", "..."));
        }
        let inner = ProxyConfig {
            allowed_hosts: allowed_hosts.unwrap_or_default(),
            allow_all_hosts,
            routes: routes.iter().map(|route| route.get().inner.clone()).collect(),
            bind: SocketAddr::new(parse_bind_addr(bind_addr)?, bind_port),
            max_connections,
            ..ProxyConfig::default()
        };
        inner.check().map_err(config_error)?;
        Ok(Self { inner, routes })
    }

    #[getter]
    fn allowed_hosts(&self) -> Vec<String> {
        self.inner.allowed_hosts.clone()
    }

    #[getter]
    fn allow_all_hosts(&self) -> bool {
        self.inner.allow_all_hosts
    }

    #[getter]
    fn routes(&self, py: Python<'_>) -> Vec<Py<PyRouteConfig>> {
        self.routes.iter().map(|route| route.clone_ref(py)).collect()
    }

    #[getter]
    fn bind_addr(&self) -> String {
        self.inner.bind.ip().to_string()
    }

    #[getter]
    fn bind_port(&self) -> u16 {
        self.inner.bind.port()
    }

    #[getter]
    fn max_connections(&self) -> usize {
        self.inner.max_connections
    }

    fn __repr__(&self) -> String {
        let (hosts, routes) = (self.inner.allowed_hosts.len(), self.routes.len());
        format!("ProxyConfig(hosts={hosts}, routes={routes}, bind={})", self.inner.bind)
    }
}

/// Looks whether the files of a route exist, for an exception with `errno` and `filename`; what
/// is in them is judged by the proxy.
fn check_files(route: &RouteConfig) -> PyResult<()> {
    let files = [&route.tls_ca, &route.tls_client_cert, &route.tls_client_key];
    for path in files.into_iter().flatten() {
        fs::metadata(path).map_err(|error| path_error(&error, path))?;
    }
    Ok(())
}

/// An address to listen at. Of names only `localhost` is known: any other would have to be
/// looked up, and might change between the check and the listening.
fn parse_bind_addr(text: &str) -> PyResult<IpAddr> {
    if text == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    text.parse().map_err(|_| {
        let value = text.escape_debug();
        PyValueError::new_err(format!("bind_addr '{value}' must be an IP address or 'localhost'"))
    })
}
