//! `CapabilitySet` and the paths that it grants.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nono_sandbox::{CapabilitySet, FsCapability, Grant, State};
use pyo3::prelude::*;

use crate::arguments::os_path;
use crate::enums::{AccessArgument, access_mode};
use crate::error::sandbox_error;
use crate::int;
use crate::proxy::PyProxyHandle;
use crate::source::PyCapabilitySource;
use crate::value::{hash_of, quoted};
use crate::verify::PyVerification;

/// What Python knows of its own installation.
const INTERPRETER: &str = "nono_py._interpreter";
/// What makes a set of what `pickle` has kept.
const RESTORE: &str = "nono_py._restore";

/// What a process may touch: directories, files, sockets, and the network.
///
/// Every set starts empty and each call grants more. A set may be shared between threads; a sandbox
/// takes the grants as they are when it starts.
#[pyclass(name = "CapabilitySet", module = "nono_py", frozen, weakref)]
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

    /// As `with`, for what can fail.
    fn change(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut CapabilitySet) -> Result<(), nono_sandbox::Error> + Send,
    ) -> PyResult<()> {
        self.with(py, f).map_err(sandbox_error)
    }

    fn grant(&self, py: Python<'_>, grant: Grant<'_>) -> PyResult<()> {
        self.change(py, |set| set.grant(grant))
    }
}

impl From<CapabilitySet> for PyCapabilitySet {
    fn from(inner: CapabilitySet) -> Self {
        Self { inner: Mutex::new(inner) }
    }
}

/// What a program needs to be led through a proxy.
#[derive(Debug)]
pub(crate) struct Way {
    address: SocketAddr,
    certificates: Vec<PathBuf>,
}

impl Way {
    /// The way to a proxy that was not shut down.
    pub(crate) fn to(proxy: &PyProxyHandle) -> PyResult<Self> {
        Ok(Self { address: proxy.open_address()?, certificates: proxy.certificate_files() })
    }

    /// Lets a set reach the proxy, and nothing else, and read the certificates that are trusted.
    pub(crate) fn open(&self, set: &mut CapabilitySet) -> Result<(), nono_sandbox::Error> {
        set.proxy_only(self.address);
        self.certificates.iter().try_for_each(|file| {
            let grant = Grant::new(file, true, nono_sandbox::Access::Read);
            set.grant(Grant { is_executable: false, ..grant })
        })
    }
}

#[pymethods]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python arguments")]
impl PyCapabilitySet {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Grant a directory and everything below it.
    ///
    /// With `execute=False`, what can be read there cannot be executed as a program. It can still
    /// be interpreted, or copied into memory and run there.
    #[pyo3(signature = (path, mode, *, execute=true))]
    fn allow_path(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
        mode: AccessArgument,
        execute: bool,
    ) -> PyResult<()> {
        self.grant(py, Grant { is_executable: execute, ..Grant::new(&path, false, mode.0) })
    }

    /// Grant one file. With `execute=False`, it cannot be executed as a program.
    #[pyo3(signature = (path, mode, *, execute=true))]
    fn allow_file(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
        mode: AccessArgument,
        execute: bool,
    ) -> PyResult<()> {
        self.grant(py, Grant { is_executable: execute, ..Grant::new(&path, true, mode.0) })
    }

    /// Keep every grant from a path and all below it, there or not, as links lead to it now.
    ///
    /// A grant to read that reaches it is split when a sandbox begins, into what else is there.
    /// What comes later cannot be opened, but where no denied directory was beneath, its names can
    /// be listed. The path is denied wherever it is mounted, as far as `/proc/self/mountinfo` can
    /// be read, and a hard link to it is not.
    fn deny_path(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
    ) -> PyResult<()> {
        self.change(py, |set| set.deny_path(&path))
    }

    /// Grant what this Python needs to run, import and show tracebacks, to be read only.
    ///
    /// The system's programs and libraries, Python's own, and the directories of `sys.path`.
    fn allow_interpreter(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.get().allow_system(py)?;
        let paths: Vec<PathBuf> = py.import(INTERPRETER)?.call_method0("paths")?.extract()?;
        slf.get().change(py, |set| {
            paths.iter().try_for_each(|path| set.grant_existing(path, nono_sandbox::Access::Read))
        })
    }

    /// Grant what the system's programs need to start, to be read only.
    ///
    /// Programs, libraries, certificates, `/dev/null` and the like, and a process's own part of
    /// `/proc`; no home, no `/run`, no `/sys`, no `/tmp`.
    fn allow_system(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, CapabilitySet::allow_system)
    }

    /// Grant the directories for temporary files and for shared memory, to read and to write.
    ///
    /// Return the path of the first. `multiprocessing` needs both.
    fn allow_temp(&self, py: Python<'_>) -> PyResult<OsString> {
        self.with(py, CapabilitySet::allow_temp).map(PathBuf::into_os_string).map_err(sandbox_error)
    }

    /// Deny all network access.
    fn block_network(&self, py: Python<'_>) {
        self.with(py, CapabilitySet::block_network);
    }

    /// Deny all network access but TCP to `proxy`; grant reading its certificates.
    ///
    /// One that was shut down is a `ProxyError`: somebody else may listen there.
    fn proxy_only(&self, py: Python<'_>, proxy: &Bound<'_, PyProxyHandle>) -> PyResult<()> {
        let way = Way::to(proxy.get())?;
        self.change(py, |set| way.open(set))
    }

    /// Grant a TCP port of this machine's loopback addresses, to connect to and to serve at.
    fn allow_localhost_port(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = int::port)] port: u16,
    ) -> PyResult<()> {
        self.change(py, |set| set.allow_localhost_port(port))
    }

    /// Grant TCP connections to a port of any host.
    fn allow_tcp_connect_port(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = int::port)] port: u16,
    ) -> PyResult<()> {
        self.change(py, |set| set.allow_tcp_connect_port(port))
    }

    /// Grant serving TCP at a port.
    fn allow_bind_port(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = int::port)] port: u16,
    ) -> PyResult<()> {
        self.change(py, |set| set.allow_bind_port(port))
    }

    /// Grant connections to a unix socket, or to all below a directory.
    fn allow_unix_socket(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = os_path)] path: PathBuf,
    ) -> PyResult<()> {
        self.change(py, |set| set.allow_unix_socket(&path))
    }

    /// Begin sandboxes also where this machine cannot enforce everything.
    ///
    /// What is missing is in the report.
    fn accept_less(&self, py: Python<'_>) {
        self.with(py, CapabilitySet::accept_less);
    }

    /// Add a rule of the Seatbelt profile language, for macOS. Checked everywhere.
    ///
    /// It is `(allow OPERATION... FILTER...)`, or the same with `deny`, of filters that are known,
    /// and must not open the whole file system; what it opens besides is not judged.
    fn platform_rule(&self, py: Python<'_>, rule: String) -> PyResult<()> {
        self.change(py, |set| set.platform_rule(&rule))
    }

    /// Make one grant of all that are of the same object.
    fn deduplicate(&self, py: Python<'_>) {
        self.with(py, CapabilitySet::deduplicate);
    }

    /// Return whether a granted directory covers the path, followed as the kernel would.
    fn path_covered(&self, py: Python<'_>, #[pyo3(from_py_with = os_path)] path: PathBuf) -> bool {
        self.with(py, |set| set.path_covered(&path))
    }

    /// Return the granted paths, in the order of granting.
    fn fs_capabilities(&self, py: Python<'_>) -> Vec<PyFsCapability> {
        let wrap = |capability: &FsCapability| PyFsCapability { inner: capability.clone() };
        self.with(py, |set| set.fs_capabilities().iter().map(wrap).collect())
    }

    /// The denied paths, without symbolic links.
    #[getter]
    fn denied_paths(&self, py: Python<'_>) -> Vec<OsString> {
        let paths = |set: &mut CapabilitySet| {
            set.denied_paths().iter().map(|path| path.resolved().into()).collect()
        };
        self.with(py, paths)
    }

    /// The granted unix sockets and directories of them, without symbolic links.
    #[getter]
    fn unix_sockets(&self, py: Python<'_>) -> Vec<OsString> {
        let paths = |set: &mut CapabilitySet| {
            set.unix_sockets().iter().map(|socket| socket.resolved().into()).collect()
        };
        self.with(py, paths)
    }

    /// The TCP ports of any host that may be connected to.
    #[getter]
    fn tcp_connect_ports(&self, py: Python<'_>) -> Vec<u16> {
        self.with(py, |set| set.tcp_connect_ports().to_vec())
    }

    /// The TCP ports that may be served at.
    #[getter]
    fn bind_ports(&self, py: Python<'_>) -> Vec<u16> {
        self.with(py, |set| set.bind_ports().to_vec())
    }

    /// The TCP ports of loopback addresses that may be connected to and served at.
    #[getter]
    fn localhost_ports(&self, py: Python<'_>) -> Vec<u16> {
        self.with(py, |set| set.localhost_ports().to_vec())
    }

    /// Whether the network is closed, but for a proxy or granted ports.
    #[getter]
    fn is_network_blocked(&self, py: Python<'_>) -> bool {
        self.with(py, |set| set.is_network_blocked())
    }

    /// The limit of the network, but for ports: `allowed`, `blocked`, or which proxy is left.
    #[getter]
    fn _network(&self, py: Python<'_>) -> String {
        self.with(py, |set| set.network().to_string())
    }

    /// Take back the ports of other machines, and to serve at, that `other` does not grant.
    fn _keep_ports_of(&self, py: Python<'_>, other: &Bound<'_, Self>) {
        let other = other.get().snapshot(py);
        self.with(py, |set| set.keep_ports_of(&other));
    }

    /// Have a child in a sandbox of this set try what the set does not grant.
    ///
    /// Return what the kernel answered. What the child tries does no harm if it is let through.
    fn verify(&self, py: Python<'_>) -> PyResult<PyVerification> {
        let caps = self.snapshot(py);
        py.detach(|| caps.verify()).map(Into::into).map_err(sandbox_error)
    }

    /// Return the grants in plain words, one a line.
    fn summary(&self, py: Python<'_>) -> String {
        self.with(py, |set| set.summary())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.with(py, |set| set.to_string())
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, Self>) -> bool {
        // One after the other: two threads that compare the same two sets must not wait for
        // each other.
        let other = other.get().snapshot(py);
        self.with(py, move |set| *set == other)
    }

    /// The same for all sets: a set changes, and its hash must not.
    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __hash__(&self) -> u64 {
        0
    }

    fn __copy__(&self, py: Python<'_>) -> Self {
        self.snapshot(py).into()
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> Self {
        self.snapshot(py).into()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let json = State::of(&self.snapshot(py)).to_json().map_err(sandbox_error)?;
        Ok((py.import(RESTORE)?.getattr("capability_set")?, (json,)))
    }
}

/// One granted path.
#[pyclass(name = "FsCapability", module = "nono_py", frozen, weakref)]
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

    /// Whether what can be read can be executed too.
    #[getter]
    fn is_executable(&self) -> bool {
        self.inner.is_executable()
    }

    /// Whether the grant is for one file.
    #[getter]
    fn is_file(&self) -> bool {
        self.inner.is_file()
    }

    /// Who granted it.
    #[getter]
    fn source(&self) -> PyCapabilitySource {
        self.inner.source().clone().into()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = quoted(py, &self.inner.resolved().to_string_lossy())?;
        let (access, is_file) = (self.inner.access(), self.inner.is_file());
        Ok(format!("FsCapability(path={path}, access={access}, is_file={is_file})"))
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }

    fn __eq__(&self, other: &Bound<'_, Self>) -> bool {
        self.inner == other.get().inner
    }

    fn __hash__(&self) -> u64 {
        hash_of(&self.inner.resolved())
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}
