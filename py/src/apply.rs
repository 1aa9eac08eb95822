//! `apply` and its family, what they enforce, and whether this machine can.

use std::borrow::Cow;

use nono_sandbox::CapabilitySet;
use pyo3::prelude::*;

use crate::capability::PyCapabilitySet;
use crate::ending::Enforced;
use crate::error::{sandbox_error, unsound};
use crate::value::{Remade, from_json, remake, to_json};

/// What the kernel enforces on a sandboxed process, and what it is too old to enforce.
#[pyclass(name = "Enforcement", module = "nono_py", frozen, weakref, eq)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyEnforcement {
    inner: Enforced,
}

impl<T: Into<Enforced>> From<T> for PyEnforcement {
    fn from(found: T) -> Self {
        Self { inner: found.into() }
    }
}

#[pymethods]
impl PyEnforcement {
    /// The version of Landlock that is used.
    #[getter]
    fn landlock_abi(&self) -> u32 {
        self.inner.landlock_abi
    }

    /// The network limit in force: what all calls of `apply` in this process leave together.
    #[getter]
    fn network(&self) -> &str {
        &self.inner.network
    }

    /// How many Landlock domains the process consists of.
    ///
    /// One, or one for each thread that was there. Children of different domains cannot signal each
    /// other.
    #[getter]
    fn domains(&self) -> usize {
        self.inner.domains
    }

    /// Whether no program that is executed gives privileges.
    #[getter]
    fn no_new_privileges(&self) -> bool {
        self.inner.is_no_new_privileges
    }

    /// Whether the system call filter is in force.
    #[getter]
    fn filtered(&self) -> bool {
        self.inner.is_filtered
    }

    /// What a newer kernel would judge and this one lets pass, in words.
    #[getter]
    fn missing(&self) -> Vec<&str> {
        self.inner.missing.iter().map(Cow::as_ref).collect()
    }

    /// Whether the kernel judges all that there is to judge: `missing` is empty.
    #[getter]
    fn complete(&self) -> bool {
        self.inner.missing.is_empty()
    }

    #[staticmethod]
    fn _of(json: &str) -> PyResult<Self> {
        Ok(Self { inner: from_json(json)? })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, (String,)>> {
        remake(slf, (to_json(&slf.get().inner)?,))
    }

    fn __repr__(&self) -> String {
        format!("Enforcement({})", self.inner.text)
    }

    fn __str__(&self) -> &str {
        &self.inner.text
    }
}

/// The version of Landlock that the kernel has, and what it can judge.
#[pyclass(name = "DetectedAbi", module = "nono_py", frozen, weakref, eq, hash)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PyDetectedAbi {
    number: u32,
}

#[pymethods]
impl PyDetectedAbi {
    /// The version, for example `V7`.
    #[getter]
    fn version(&self) -> String {
        format!("V{}", self.number)
    }

    /// Whether it judges renames and links between directories (from 2 on).
    #[getter]
    fn has_refer(&self) -> bool {
        self.number >= 2
    }

    /// Whether it judges truncation (from 3 on).
    #[getter]
    fn has_truncate(&self) -> bool {
        self.number >= 3
    }

    /// Whether it judges execution.
    #[getter]
    fn has_execute(&self) -> bool {
        self.number >= 1
    }

    /// Whether it judges TCP ports (from 4 on).
    #[getter]
    fn has_network(&self) -> bool {
        self.number >= 4
    }

    /// Whether it judges the control of devices (from 5 on).
    #[getter]
    fn has_ioctl_dev(&self) -> bool {
        self.number >= 5
    }

    /// Whether it judges signals and abstract unix sockets (from 6 on).
    #[getter]
    fn has_scoping(&self) -> bool {
        self.number >= 6
    }

    /// All that it judges, in words.
    #[getter]
    fn feature_names(&self) -> Vec<&'static str> {
        let all = [
            (1, "Basic filesystem access control"),
            (2, "File rename across directories (Refer)"),
            (3, "File truncation (Truncate)"),
            (4, "TCP network filtering"),
            (5, "Device ioctl filtering"),
            (6, "Signal and abstract UNIX socket scoping"),
            (8, "All threads at once (TSYNC)"),
            (9, "UNIX sockets by path (ResolveUnix)"),
        ];
        all.into_iter().filter(|(abi, _)| *abi <= self.number).map(|(_, name)| name).collect()
    }

    #[staticmethod]
    fn _of(number: u32) -> Self {
        Self { number }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, (u32,)>> {
        remake(slf, (slf.get().number,))
    }

    fn __repr__(&self) -> String {
        format!("DetectedAbi(version='V{}')", self.number)
    }
}

/// Whether, and by what, this machine can enforce a sandbox.
#[pyclass(name = "SupportInfo", module = "nono_py", frozen, weakref, get_all, eq, hash)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    #[staticmethod]
    fn _of(is_supported: bool, platform: String, details: String) -> Self {
        Self { is_supported, platform, details }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, (bool, String, String)>> {
        let Self { is_supported, platform, details } = slf.get().clone();
        remake(slf, (is_supported, platform, details))
    }

    fn __repr__(&self) -> String {
        format!("SupportInfo(supported={}, platform='{}')", self.is_supported, self.platform)
    }
}

/// Confine this process, all its threads and all their later children.
///
/// There is no way back. If a thread cannot be confined, none is, and the call raises. Where the
/// network is limited, a process of its own judges addresses from now on; `os.wait()` does not find
/// it. A proxy in this process is confined too: it reaches upstreams at granted ports only. A socket
/// that was bound before and does not listen yet listens only at a granted port.
#[pyfunction]
pub(crate) fn apply(py: Python<'_>, caps: &Bound<'_, PyCapabilitySet>) -> PyResult<PyEnforcement> {
    enforce(py, caps.get().snapshot(py))
}

/// As `apply`, for the kernel that `detect_abi` has found.
#[pyfunction]
pub(crate) fn apply_auto_with_abi(
    py: Python<'_>,
    caps: &Bound<'_, PyCapabilitySet>,
    abi: &Bound<'_, PyDetectedAbi>,
) -> PyResult<PyEnforcement> {
    check_abi(py, abi.get())?;
    apply(py, caps)
}

/// As `apply`: Landlock, and the system call filter for what Landlock does not judge.
#[pyfunction]
pub(crate) fn apply_landlock(
    py: Python<'_>,
    caps: &Bound<'_, PyCapabilitySet>,
) -> PyResult<PyEnforcement> {
    apply(py, caps)
}

/// As `apply_landlock`, for the kernel that `detect_abi` has found.
#[pyfunction]
pub(crate) fn apply_landlock_with_abi(
    py: Python<'_>,
    caps: &Bound<'_, PyCapabilitySet>,
    abi: &Bound<'_, PyDetectedAbi>,
) -> PyResult<PyEnforcement> {
    apply_auto_with_abi(py, caps, abi)
}

/// As `apply`. With `external_tcp=True` the network stays open, for somebody else to limit.
#[pyfunction]
#[pyo3(signature = (caps, external_tcp=false))]
pub(crate) fn apply_seccomp(
    py: Python<'_>,
    caps: &Bound<'_, PyCapabilitySet>,
    external_tcp: bool,
) -> PyResult<PyEnforcement> {
    let mut caps = caps.get().snapshot(py);
    if external_tcp {
        caps.open_network();
    }
    enforce(py, caps)
}

/// As `apply_seccomp`, for the kernel that `detect_abi` has found.
#[pyfunction]
#[pyo3(signature = (caps, abi, external_tcp=false))]
pub(crate) fn apply_seccomp_with_abi(
    py: Python<'_>,
    caps: &Bound<'_, PyCapabilitySet>,
    abi: &Bound<'_, PyDetectedAbi>,
    external_tcp: bool,
) -> PyResult<PyEnforcement> {
    check_abi(py, abi.get())?;
    apply_seccomp(py, caps, external_tcp)
}

/// Do nothing: for programs that are confined from outside.
#[pyfunction]
pub(crate) fn apply_external() {}

/// Let what is granted to write be removed on macOS, whatever a policy's `deny.unlink` says.
#[pyfunction]
pub(crate) fn apply_unlink_overrides(caps: &Bound<'_, PyCapabilitySet>) {
    caps.get().with(caps.py(), CapabilitySet::allow_removal);
}

/// Return the version of Landlock that the kernel has.
#[pyfunction]
pub(crate) fn detect_abi(py: Python<'_>) -> PyResult<PyDetectedAbi> {
    let number = py.detach(nono_sandbox::landlock_abi).map_err(sandbox_error)?;
    Ok(PyDetectedAbi { number })
}

/// Return whether sandboxing is available on this machine.
#[pyfunction]
pub(crate) fn is_supported(py: Python<'_>) -> bool {
    py.detach(|| nono_sandbox::support().is_supported)
}

/// Return what sandboxing this machine offers.
#[pyfunction]
pub(crate) fn support_info(py: Python<'_>) -> PySupportInfo {
    let support = py.detach(nono_sandbox::support);
    PySupportInfo {
        is_supported: support.is_supported,
        platform: support.platform.to_owned(),
        details: support.details,
    }
}

/// Applies without the interpreter's lock: threads that are to stop may be waiting for it.
#[expect(clippy::needless_pass_by_value, reason = "nobody needs it any more")]
fn enforce(py: Python<'_>, caps: CapabilitySet) -> PyResult<PyEnforcement> {
    py.detach(|| nono_sandbox::apply(&caps)).map(Into::into).map_err(sandbox_error)
}

/// Refuses what was found on another machine, and kept.
fn check_abi(py: Python<'_>, abi: &PyDetectedAbi) -> PyResult<()> {
    let here = detect_abi(py)?;
    if *abi == here {
        return Ok(());
    }
    let message = format!("this kernel has Landlock V{}, not V{}", here.number, abi.number);
    Err(unsound(message))
}
