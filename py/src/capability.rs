//! `CapabilitySet`, `apply`, and whether this machine can enforce them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nono_sandbox::{CapabilitySet, FsCapability};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::enums::{AccessArgument, access_mode};
use crate::error::sandbox_error;
use crate::proxy::PyProxyHandle;

/// What a process may touch: directories, files, and the network.
///
/// Every set starts empty and each call grants more. A set may be shared between threads; a
/// sandbox takes the grants as they are when it starts.
#[pyclass(name = "CapabilitySet", module = "nono_py", frozen)]
#[derive(Debug, Default)]
pub(crate) struct PyCapabilitySet {
    inner: Mutex<CapabilitySet>,
}

impl PyCapabilitySet {
    /// Runs `f` on the set. The interpreter's lock is let go first: whoever waits for it while
    /// holding this one, and the reverse, would wait for ever.
    pub(crate) fn with<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut CapabilitySet) -> R + Send,
    ) -> R {
        py.detach(|| f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The grants as they are now.
    pub(crate) fn snapshot(&self, py: Python<'_>) -> CapabilitySet {
        self.with(py, |set| set.clone())
    }
}

#[pymethods]
impl PyCapabilitySet {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Grant a directory and everything below it.
    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python argument")]
    fn allow_path(&self, py: Python<'_>, path: PathBuf, mode: AccessArgument) -> PyResult<()> {
        self.with(py, |set| set.allow_path(&path, mode.0)).map_err(sandbox_error)
    }

    /// Grant one file.
    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python argument")]
    fn allow_file(&self, py: Python<'_>, path: PathBuf, mode: AccessArgument) -> PyResult<()> {
        self.with(py, |set| set.allow_file(&path, mode.0)).map_err(sandbox_error)
    }

    /// Deny all network access.
    fn block_network(&self, py: Python<'_>) {
        self.with(py, |set| {
            set.block_network();
        });
    }

    /// Deny all network access but TCP to `proxy`.
    fn proxy_only(&self, py: Python<'_>, proxy: &Bound<'_, PyProxyHandle>) {
        let address = proxy.get().address();
        self.with(py, |set| {
            set.proxy_only(address);
        });
    }

    /// The granted paths, in the order of granting.
    fn fs_capabilities(&self, py: Python<'_>) -> Vec<PyFsCapability> {
        let wrap = |capability: &FsCapability| PyFsCapability { inner: capability.clone() };
        self.with(py, |set| set.fs_capabilities().iter().map(wrap).collect())
    }

    /// Whether direct network access is denied, wholly or but for a proxy.
    #[getter]
    fn is_network_blocked(&self, py: Python<'_>) -> bool {
        self.with(py, |set| set.is_network_blocked())
    }

    /// The grants in plain words, one a line.
    fn summary(&self, py: Python<'_>) -> String {
        self.with(py, |set| set.summary())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.with(py, |set| set.to_string())
    }
}

/// One granted path.
#[pyclass(name = "FsCapability", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyFsCapability {
    inner: FsCapability,
}

#[pymethods]
impl PyFsCapability {
    /// The path as it was given.
    #[getter]
    fn original(&self) -> &OsStr {
        self.inner.original().as_os_str()
    }

    /// The path that the grant is for: absolute, and without symbolic links.
    #[getter]
    fn resolved(&self) -> &OsStr {
        self.inner.resolved().as_os_str()
    }

    /// What may be done there.
    #[getter]
    fn access<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        access_mode(py, self.inner.access())
    }

    /// Whether the grant is for one file.
    #[getter]
    fn is_file(&self) -> bool {
        self.inner.is_file()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = PyString::new(py, &self.inner.resolved().to_string_lossy()).repr()?;
        let (access, is_file) = (self.inner.access(), self.inner.is_file());
        Ok(format!("FsCapability(path={path}, access={access}, is_file={is_file})"))
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }
}

/// Whether, and by what, this machine can enforce a sandbox.
#[pyclass(name = "SupportInfo", module = "nono_py", frozen, get_all)]
#[derive(Debug, Clone)]
pub(crate) struct PySupportInfo {
    /// Whether sandboxing is available.
    is_supported: bool,
    /// The platform, for example `linux`.
    platform: String,
    /// What is available, or why nothing is.
    details: String,
}

#[pymethods]
impl PySupportInfo {
    fn __repr__(&self) -> String {
        format!("SupportInfo(supported={}, platform='{}')", self.is_supported, self.platform)
    }
}

/// Confine this process, its threads and all their children. There is no way back.
#[pyfunction]
pub(crate) fn apply(py: Python<'_>, caps: &Bound<'_, PyCapabilitySet>) -> PyResult<()> {
    let caps = caps.get().snapshot(py);
    nono_sandbox::apply(&caps).map(|_enforcement| ()).map_err(sandbox_error)
}

/// Whether sandboxing is available on this machine.
#[pyfunction]
pub(crate) fn is_supported(py: Python<'_>) -> bool {
    py.detach(|| nono_sandbox::support().is_supported)
}

/// What sandboxing this machine offers.
#[pyfunction]
pub(crate) fn support_info(py: Python<'_>) -> PySupportInfo {
    let support = py.detach(nono_sandbox::support);
    PySupportInfo {
        is_supported: support.is_supported,
        platform: support.platform.to_owned(),
        details: support.details,
    }
}
