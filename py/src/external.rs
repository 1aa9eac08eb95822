//! `ExternalProxyConfig`: a proxy through which this one reaches the world.

use std::path::PathBuf;

use nono_proxy::ExternalProxyConfig;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arguments::{optional_os_path, texts};
use crate::error::config_error;
use crate::value::{Reduced, reduce};

/// A proxy between this one and the world.
///
/// It looks names up itself: which addresses they may lead to, those of metadata services among
/// them, is for its own rules to say. What is on this machine (`localhost` and loopback addresses)
/// is reached without it.
#[pyclass(name = "ExternalProxyConfig", module = "nono_py", frozen, weakref, get_all, eq, hash)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PyExternalProxyConfig {
    /// Where it listens: `host:port`, or a URL: `https` to speak TLS to it.
    address: String,
    /// Hosts that are looked up here and reached without it.
    bypass_hosts: Vec<String>,
    /// Where its credentials are kept, as `user:password`.
    credential_key: Option<String>,
    /// Certificate authorities to trust for it besides the system's, as a PEM file.
    tls_ca: Option<PathBuf>,
}

impl From<ExternalProxyConfig> for PyExternalProxyConfig {
    fn from(config: ExternalProxyConfig) -> Self {
        let ExternalProxyConfig { address, bypass_hosts, credential_key, tls_ca } = config;
        Self { address, bypass_hosts, credential_key, tls_ca }
    }
}

impl PyExternalProxyConfig {
    pub(crate) fn to_config(&self) -> ExternalProxyConfig {
        ExternalProxyConfig {
            address: self.address.clone(),
            bypass_hosts: self.bypass_hosts.clone(),
            credential_key: self.credential_key.clone(),
            tls_ca: self.tls_ca.clone(),
        }
    }
}

#[pymethods]
impl PyExternalProxyConfig {
    #[new]
    #[pyo3(signature = (address, bypass_hosts=Vec::new(), credential_key=None, tls_ca=None))]
    fn new(
        address: String,
        #[pyo3(from_py_with = texts)] bypass_hosts: Vec<String>,
        credential_key: Option<String>,
        #[pyo3(from_py_with = optional_os_path)] tls_ca: Option<PathBuf>,
    ) -> PyResult<Self> {
        let made = Self { address, bypass_hosts, credential_key, tls_ca };
        made.to_config().check().map_err(config_error)?;
        Ok(made)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("ExternalProxyConfig(address={})", PyString::new(py, &self.address).repr()?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf, &["address", "bypass_hosts", "credential_key", "tls_ca"])
    }
}
