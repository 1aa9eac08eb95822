//! `start_proxy` and `ProxyHandle`: a running proxy, its environment, its records, its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use nono_audit::{Batch, Consumer, Record};
use nono_proxy::{Diagnostic, ProxyHandle};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::arguments::{EnvArgument, check_variable_name};
use crate::audit;
use crate::blocking;
use crate::config::PyProxyConfig;
use crate::consumer::PyAuditEvents;
use crate::drained::Gathered;
use crate::error::{argument_error, ended_error, start_error};
use crate::events;
use crate::local::{Foreign, Local};
use crate::value::to_dict;

/// What makes a list of records.
type Build = for<'a> fn(Python<'a>, &[Batch]) -> PyResult<Bound<'a, PyList>>;

/// Seconds that the end of a `with` block waits: the default of `shutdown`.
const DEFAULT_SHUTDOWN: f64 = 5.0;

/// The variable that has the session token.
const TOKEN_VARIABLE: &str = "NONO_PROXY_TOKEN";

/// A running proxy.
///
/// It stops at `shutdown()`, at the end of its `with` block, or when dropped.
///
/// It belongs to the process that started it. A forked child can lead programs to it by its address
/// and variables; what takes records or asks how it is doing is a `ProxyError` there, and
/// `shutdown()` does nothing.
#[pyclass(name = "ProxyHandle", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyProxyHandle {
    inner: Local<ProxyHandle>,
    /// It has the callables that the proxy asks.
    config: Py<PyProxyConfig>,
}

impl Drop for PyProxyHandle {
    /// Without the interpreter's lock: what a thread does before its end may need it, and a collector
    /// may keep one for seconds.
    fn drop(&mut self) {
        // In a forked child there is nothing to stop.
        let Ok(inner) = self.inner.get() else { return };
        let _ = Python::try_attach(|py| py.detach(|| inner.cut()));
    }
}

impl PyProxyHandle {
    /// Where the proxy listens.
    fn address(&self) -> SocketAddr {
        self.inner.constant().addr()
    }

    /// Where programs reach the proxy.
    ///
    /// # Errors
    /// It was shut down, and somebody else may listen there.
    pub(crate) fn open_address(&self) -> PyResult<SocketAddr> {
        if self.inner.constant().is_ending() {
            return Err(ended_error());
        }
        Ok(self.address())
    }

    /// The files that these variables name.
    pub(crate) fn certificate_files(&self) -> Vec<PathBuf> {
        self.inner.constant().certificate_files()
    }

    /// A further consumer of its records.
    pub(crate) fn consumer(&self) -> Result<Consumer, Foreign> {
        Ok(self.inner.get()?.audit_consumer())
    }

    /// What runs now, as far as it is known.
    pub(crate) fn running(&self) -> Result<Vec<Record>, Foreign> {
        Ok(self.inner.get()?.active())
    }

    /// Takes the records of which `build` makes a list; those of which it does not stay.
    fn drain<'py>(&self, py: Python<'py>, build: Build) -> PyResult<Bound<'py, PyList>> {
        let inner = self.inner.get()?;
        let list = py.detach(|| -> PyResult<Py<PyList>> {
            let list = inner.drain_audit_by(|batches| {
                Python::attach(|py| build(py, batches).map(Bound::unbind))
            })?;
            // A gap may have been waiting for the place that this makes; or it waits for the next
            // time.
            let with_more = inner.drain_audit_by(|batches| match batches {
                [] => Err(None),
                more => Python::attach(|py| {
                    let more = build(py, more)?.into_sequence();
                    let both = list.bind(py).as_sequence().concat(&more)?;
                    Ok(both.cast_into::<PyList>().map_err(PyErr::from)?.unbind())
                })
                .map_err(Some::<PyErr>),
            });
            Ok(with_more.unwrap_or(list))
        })?;
        Ok(list.into_bound(py))
    }

    /// Refuses a block that could not end the proxy with it.
    fn enter(&self) -> PyResult<()> {
        self.inner.get()?;
        self.open_address().map(drop)
    }

    /// What its clients show; empty if they need nothing.
    pub(crate) fn token(&self) -> String {
        let variables = self.inner.constant().env_vars().into_iter();
        let mut token = variables.filter(|(name, _)| name == TOKEN_VARIABLE);
        token.next().map(|(_, value)| value).unwrap_or_default()
    }

    /// Variables that lead a program's traffic through the proxy, and SDKs to its routes.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let inner = self.inner.constant();
        [inner.env_vars(), inner.credential_env_vars()].concat()
    }
}

#[pymethods]
impl PyProxyHandle {
    /// The port that the proxy listens on.
    #[getter]
    fn port(&self) -> u16 {
        self.address().port()
    }

    /// Where the proxy listens: `host:port`.
    #[getter(address)]
    fn address_text(&self) -> String {
        self.address().to_string()
    }

    /// Where metrics can be asked for, in Prometheus's format: `http://host:port/metrics`.
    #[getter]
    fn metrics_url(&self) -> Option<String> {
        self.inner.constant().metrics_addr().map(|addr| format!("http://{addr}/metrics"))
    }

    /// Return variables that lead a program's traffic through the proxy.
    fn env_vars<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.inner.constant().env_vars())
    }

    /// Return variables that lead SDKs to the routes.
    ///
    /// A base URL for each, and what stands for its key.
    fn credential_env_vars<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.inner.constant().credential_env_vars())
    }

    /// Return the whole environment for a sandboxed program, sorted by name.
    ///
    /// The proxy's variables win over those of `extra_env`.
    #[pyo3(signature = (extra_env=None))]
    fn sandbox_env(&self, extra_env: Option<EnvArgument>) -> PyResult<Vec<(String, String)>> {
        let mut merged = BTreeMap::new();
        for (name, value) in extra_env.unwrap_or_default().0 {
            let name = text("name", name)?;
            check_variable_name(&name)?;
            let value = text(&format!("value of '{name}'"), value)?;
            if value.contains('\0') {
                let message = format!("extra_env: the value of '{name}' holds a NUL");
                return Err(argument_error(message));
            }
            merged.insert(name, value);
        }
        merged.extend(self.variables());
        Ok(merged.into_iter().collect())
    }

    /// Take the records gathered since the last call, oldest first.
    ///
    /// If the log was full meanwhile, and `audit_file` or a collector has its records, the first is
    /// of the phase `gap`: it counts what is no longer held, and says where it is.
    fn drain_audit_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.drain(py, |py, batches| audit::events(py, batches.iter().flat_map(Deref::deref)))
    }

    /// Fetch all credentials again, and return what failed, as `diagnostics()` does.
    ///
    /// Requests under way keep what they have; a value that is still valid is kept on failure.
    fn reload_credentials<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let failed = blocking::wait(py, self.inner.get()?.reload_credentials())?;
        audit::diagnostics(py, &failed)
    }

    /// Take the records gathered since the last call, as objects.
    fn drain_audit_objects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.drain(py, events::objects)
    }

    /// Take the records gathered since the last call, as JSON Lines.
    fn drain_audit_jsonl<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let inner = self.inner.get()?;
        let mut lines = Gathered::default();
        let add = |piece: &[u8], whole| Python::attach(|py| lines.add(py, piece, whole));
        py.detach(|| inner.drain_audit_lines(add))?;
        lines.into_bytes(py)
    }

    /// Return a further consumer.
    ///
    /// It sees all records that are held and all that come, each once.
    fn audit_events(&self, py: Python<'_>) -> PyResult<PyAuditEvents> {
        Ok(PyAuditEvents::new(py.detach(|| self.consumer())?))
    }

    /// Return the exchanges that run now, as far as they are known.
    fn active<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let running = py.detach(|| self.running())?;
        audit::events(py, &running)
    }

    /// Return what fails requests now: credentials that could not be had when last tried.
    ///
    /// And an `audit_file` that cannot be written: its records are held until it can be, and when
    /// the log is full, requests are refused or go unrecorded as `audit_overflow` says. And how
    /// many refusals of clients without the token the log has counted and not kept.
    fn diagnostics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        audit::diagnostics(py, &self.inner.get()?.diagnostics())
    }

    /// Return `diagnostics()` as JSON.
    fn diagnostics_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.inner.get()?.diagnostics())
            .map_err(|error| PyRuntimeError::new_err(format!("cannot serialise: {error}")))
    }

    /// Stop accepting, let what is under way end within `timeout` seconds, cut the rest.
    ///
    /// A further call waits too, and can shorten the time, not lengthen it. Where records go to a
    /// collector, it then waits until that has all, for `otlp_flush_secs` more at most, which no
    /// call shortens. In a forked child it does nothing: the proxy is the parent's.
    #[pyo3(signature = (timeout=5.0))]
    fn shutdown(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        if timeout.is_nan() || timeout < 0.0 {
            let message = format!("timeout must be a non-negative number, got {timeout}");
            return Err(argument_error(message));
        }
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX);
        let Ok(inner) = self.inner.get() else { return Ok(()) };
        blocking::wait(py, inner.shutdown(timeout))
    }

    fn __enter__(slf: Py<Self>) -> PyResult<Py<Self>> {
        slf.get().enter()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.shutdown(py, DEFAULT_SHUTDOWN)
    }

    fn __aenter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        slf.get().enter()?;
        slf.py().import("nono_py._aio")?.call_method1("enter", (slf,))
    }

    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(
        slf: Bound<'py, Self>,
        _exception: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("nono_py._aio")?.call_method1("leave", (slf,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.config)
    }

    fn __repr__(&self) -> String {
        format!("ProxyHandle(port={})", self.address().port())
    }
}

/// Start a proxy and return a handle to it.
#[pyfunction]
pub(crate) fn start_proxy(
    py: Python<'_>,
    config: &Bound<'_, PyProxyConfig>,
) -> PyResult<PyProxyHandle> {
    let starting = ProxyHandle::start(config.get().to_config());
    let inner = blocking::wait(py, starting)?.map_err(start_error)?;
    inner.warn_by(warn);
    Ok(PyProxyHandle { inner: Local::new(inner), config: config.clone().unbind() })
}

/// Hands what is to be warned of to Python's `logging`, from a thread of its own: the one that calls
/// this must not wait for the interpreter's lock, nor for a handler.
fn warn(found: Diagnostic) {
    let log = move || {
        Python::try_attach(|py| -> PyResult<()> {
            let logger = py.import("logging")?.call_method1("getLogger", ("nono_py",))?;
            let Diagnostic { message, hint, .. } = found;
            let text = ("%s; %s", message, hint.unwrap_or_default());
            logger.call_method1("warning", text).map(drop)
        })
    };
    // `diagnostics()` says it too, if there is no thread, no interpreter or no working handler.
    let _ = std::thread::Builder::new().name("nono-warning".into()).spawn(log);
}

/// The result is a list of `str`, so that what is no text cannot be in it.
fn text(what: &str, value: OsString) -> PyResult<String> {
    value
        .into_string()
        .map_err(|_| argument_error(format!("environment variable {what} is not valid UTF-8")))
}
