//! `SessionMetadata`: what is kept of a session.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nono_audit::{NetworkEvent, SessionMetadata};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde::Serialize;

use crate::arguments::{os_paths, texts};
use crate::error::argument_error;
use crate::int;
use crate::snapshot::PyContentHash;
use crate::value::{Remade, hash_of, quoted, remake};

/// What ran, when, on what, and how it went. The JSON is that of the `nono` tools.
#[pyclass(name = "SessionMetadata", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PySessionMetadata(Mutex<SessionMetadata>);

impl From<SessionMetadata> for PySessionMetadata {
    fn from(inner: SessionMetadata) -> Self {
        Self(Mutex::new(inner))
    }
}

impl PySessionMetadata {
    /// Runs `f` on it. That has nothing of Python's, which is not to run meanwhile: it may let go of
    /// the interpreter's lock, and whoever takes that and waits for this one would wait for ever.
    fn with<R: Send>(&self, f: impl FnOnce(&mut SessionMetadata) -> R + Send) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A part of it as Python's own JSON makes it. The rest need not be JSON.
    fn part<'py, T: Serialize>(
        &self,
        py: Python<'py>,
        part: impl FnOnce(&SessionMetadata) -> &T + Send,
    ) -> PyResult<Bound<'py, PyAny>> {
        let text = self.with(|inner| serde_json::to_string(part(inner))).map_err(no_json)?;
        py.import("json")?.call_method1("loads", (text,))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn no_json(error: serde_json::Error) -> PyErr {
    argument_error(format!("the session cannot be JSON: {error}"))
}

#[pymethods]
impl PySessionMetadata {
    #[new]
    fn new(
        session_id: String,
        #[pyo3(from_py_with = texts)] command: Vec<String>,
        #[pyo3(from_py_with = os_paths)] tracked_paths: Vec<PathBuf>,
    ) -> Self {
        Self(Mutex::new(SessionMetadata::new(session_id, command, tracked_paths)))
    }

    /// Read what `to_json` wrote, or another tool.
    #[staticmethod]
    pub(crate) fn from_json(json: &str) -> PyResult<Self> {
        let fault = |error| argument_error(format!("Invalid JSON: {error}"));
        Ok(Self(Mutex::new(SessionMetadata::from_json(json).map_err(fault)?)))
    }

    /// Return the text of `session.json`.
    pub(crate) fn to_json(&self) -> PyResult<String> {
        self.with(|inner| inner.to_json()).map_err(no_json)
    }

    /// What it is called.
    #[getter]
    fn session_id(&self) -> String {
        self.with(|inner| inner.session_id.clone())
    }

    /// When it began: UTC, as RFC 3339 writes it.
    #[getter]
    fn started(&self) -> String {
        self.with(|inner| inner.started.clone())
    }

    /// When it ended, in the same form; `None` while it runs.
    #[getter]
    fn ended(&self) -> Option<String> {
        self.with(|inner| inner.ended.clone())
    }

    #[setter]
    fn set_ended(&self, value: Option<String>) {
        self.with(|inner| inner.ended = value);
    }

    /// The program that ran, and its arguments.
    #[getter]
    fn command(&self) -> Vec<String> {
        self.with(|inner| inner.command.clone())
    }

    /// What its snapshots are of.
    #[getter]
    fn tracked_paths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let paths = self.with(|inner| inner.tracked_paths.clone());
        PyList::new(py, paths.iter().map(|path| path.as_os_str()))
    }

    /// How many snapshots were made.
    #[getter]
    fn snapshot_count(&self) -> u32 {
        self.with(|inner| inner.snapshot_count)
    }

    #[setter]
    fn set_snapshot_count(&self, #[pyo3(from_py_with = int::snapshot_count)] value: u32) {
        self.with(|inner| inner.snapshot_count = value);
    }

    /// The exit code; `None` if it has none, or not yet.
    #[getter]
    fn exit_code(&self) -> Option<i32> {
        self.with(|inner| inner.exit_code)
    }

    #[setter]
    fn set_exit_code(&self, #[pyo3(from_py_with = int::exit_code)] value: Option<i32>) {
        self.with(|inner| inner.exit_code = value);
    }

    /// The roots of its snapshots.
    #[getter]
    fn merkle_roots(&self) -> PyResult<Vec<PyContentHash>> {
        let roots = self.with(|inner| inner.merkle_roots.clone());
        roots.iter().map(|root| PyContentHash::parse(root)).collect()
    }

    /// Note the root of one more snapshot.
    fn add_merkle_root(&self, root: &Bound<'_, PyContentHash>) {
        let root = root.get().hex();
        self.with(|inner| inner.merkle_roots.push(root));
    }

    /// Which file was executed: its `resolved_path` and `sha256`; `None` if unknown.
    #[getter]
    fn executable_identity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.part(py, |session| &session.executable_identity)
    }

    /// How many events its log has.
    #[getter]
    fn audit_event_count(&self) -> u64 {
        self.with(|inner| inner.audit_event_count)
    }

    /// What the log of the session comes to; `None` if it has none.
    #[getter]
    fn audit_integrity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.part(py, |session| &session.audit_integrity)
    }

    /// Who signed the log; `None` if nobody did.
    #[getter]
    fn audit_attestation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.part(py, |session| &session.audit_attestation)
    }

    /// What was asked of the network: dictionaries of the 15 keys of `drain_audit_events`.
    #[getter]
    fn network_events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let events = self.with(|inner| inner.network_events.clone());
        events.iter().map(|event| network_event(py, event)).collect()
    }

    /// Note what was asked of the network: events as `drain_audit_events` returns them.
    ///
    /// Keys besides the 15 are passed over, and so are words that the format has not, such as
    /// `not_required` for an `auth_outcome`.
    fn set_network_events(&self, events: &Bound<'_, PyAny>) -> PyResult<()> {
        let dumps = events.py().import("json")?.getattr("dumps")?;
        let read = |event: PyResult<Bound<'_, PyAny>>| -> PyResult<NetworkEvent> {
            let text: String = dumps.call1((event?,))?.extract()?;
            let fault = |error| argument_error(format!("not an event of the network: {error}"));
            NetworkEvent::from_json(&text).map_err(fault)
        };
        let events = events.try_iter()?.map(read).collect::<PyResult<Vec<_>>>()?;
        self.with(|inner| inner.network_events = events);
        Ok(())
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            // One lock at a time: the other may be this one, or be compared with it meanwhile.
            let own = self.with(|inner| inner.clone());
            other.get().with(|other| own == *other)
        })
    }

    /// Of what never changes, as a key of a dictionary must not.
    fn __hash__(&self) -> u64 {
        self.with(|it| hash_of(&(&it.session_id, &it.started, &it.command, &it.tracked_paths)))
    }

    #[staticmethod]
    fn _of(
        json: &str,
        #[pyo3(from_py_with = os_paths)] tracked_paths: Vec<PathBuf>,
    ) -> PyResult<Self> {
        let session = Self::from_json(json)?;
        session.with(|inner| inner.tracked_paths = tracked_paths);
        Ok(session)
    }

    /// The paths are apart, since they may be what JSON has no place for.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, Parts<'py>>> {
        let mut session = slf.get().with(|inner| inner.clone());
        session.tracked_paths = Vec::new();
        let json = session.to_json().map_err(no_json)?;
        remake(slf, (json, slf.get().tracked_paths(slf.py())?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (id, snapshots) = self.with(|inner| (inner.session_id.clone(), inner.snapshot_count));
        Ok(format!("SessionMetadata(id={}, snapshots={snapshots})", quoted(py, &id)?))
    }
}

/// What makes a session anew: its JSON without the paths, and these.
type Parts<'py> = (String, Bound<'py, PyList>);

/// All 15 keys of an event; the JSON leaves some out that do not apply.
fn network_event<'py>(py: Python<'py>, event: &NetworkEvent) -> PyResult<Bound<'py, PyDict>> {
    let text = serde_json::to_string(event).unwrap_or_default();
    let given = py.import("json")?.call_method1("loads", (text,))?.cast_into::<PyDict>()?;
    let all = PyDict::new(py);
    for key in NetworkEvent::KEYS {
        all.set_item(key, given.get_item(key)?)?;
    }
    Ok(all)
}
