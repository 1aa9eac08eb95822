//! `AuditEvent` and `AuditEvents`: records as objects, one after the other, as they come.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nono_audit::{
    AuthMechanism, AuthOutcome, Batch, Consumer, DenialCategory, InjectionMode, Protocol, Record,
    Waited,
};
use pyo3::exceptions::{PyOSError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::audit;
use crate::blocking::SIGNAL_INTERVAL;

/// What happened in one exchange. Its fields are made only when they are read.
#[pyclass(name = "AuditEvent", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyAuditEvent {
    batch: Arc<Vec<Record>>,
    at: usize,
}

impl PyAuditEvent {
    fn record(&self) -> &Record {
        // It is made only for a record that is there.
        &self.batch[self.at]
    }
}

/// All records of `batches`, as objects.
pub(crate) fn objects(py: Python<'_>, batches: Vec<Batch>) -> PyResult<Bound<'_, PyList>> {
    let len = batches.iter().map(|batch| batch.len()).sum();
    let events = batches.into_iter().map(Batch::into_shared).flat_map(|batch| {
        (0..batch.len()).map(move |at| PyAuditEvent { batch: Arc::clone(&batch), at })
    });
    PyList::new(py, Exactly { items: events, len })
}

/// An iterator of which it is known how many items it has, as a list wants to know.
struct Exactly<I> {
    items: I,
    len: usize,
}

impl<I: Iterator> Iterator for Exactly<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let item = self.items.next()?;
        self.len -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<I: Iterator> ExactSizeIterator for Exactly<I> {}

#[pymethods]
impl PyAuditEvent {
    #[getter]
    fn timestamp_unix_ms(&self) -> u64 {
        self.record().timestamp_unix_ms
    }

    #[getter]
    fn mode(&self) -> &str {
        self.record().mode.as_str()
    }

    #[getter]
    fn decision(&self) -> &str {
        self.record().decision.as_str()
    }

    #[getter]
    fn target(&self) -> &str {
        &self.record().target
    }

    #[getter]
    fn port(&self) -> Option<u16> {
        self.record().port
    }

    #[getter]
    fn method(&self) -> Option<&str> {
        self.record().method.as_deref()
    }

    #[getter]
    fn path(&self) -> Option<&str> {
        self.record().path.as_deref()
    }

    #[getter]
    fn status(&self) -> Option<u16> {
        self.record().status
    }

    #[getter]
    fn reason(&self) -> Option<&str> {
        self.record().reason.as_deref()
    }

    #[getter]
    fn route_id(&self) -> Option<&str> {
        self.record().route_id.as_deref()
    }

    #[getter]
    fn auth_mechanism(&self) -> Option<&str> {
        self.record().auth_mechanism.map(AuthMechanism::as_str)
    }

    #[getter]
    fn auth_outcome(&self) -> Option<&str> {
        self.record().auth_outcome.map(AuthOutcome::as_str)
    }

    #[getter]
    fn managed_credential_active(&self) -> Option<bool> {
        self.record().managed_credential_active
    }

    #[getter]
    fn injection_mode(&self) -> Option<&str> {
        self.record().injection_mode.map(InjectionMode::as_str)
    }

    #[getter]
    fn denial_category(&self) -> Option<&str> {
        self.record().denial_category.map(DenialCategory::as_str)
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.record().sequence
    }

    #[getter]
    fn id(&self) -> String {
        self.record().id.to_string()
    }

    #[getter]
    fn session(&self) -> String {
        self.record().session.to_string()
    }

    #[getter]
    fn phase(&self) -> &str {
        self.record().phase.as_str()
    }

    #[getter]
    fn outcome(&self) -> &str {
        self.record().outcome.as_str()
    }

    #[getter]
    fn duration_ms(&self) -> f64 {
        self.record().duration_ms
    }

    #[getter]
    fn time_to_first_byte_ms(&self) -> Option<f64> {
        self.record().time_to_first_byte_ms
    }

    #[getter]
    fn bytes_in(&self) -> u64 {
        self.record().bytes_in
    }

    #[getter]
    fn bytes_out(&self) -> u64 {
        self.record().bytes_out
    }

    #[getter]
    fn upstream_addr(&self) -> Option<String> {
        self.record().upstream_addr.map(|addr| addr.to_string())
    }

    #[getter]
    fn protocol(&self) -> Option<&str> {
        self.record().protocol.map(Protocol::as_str)
    }

    #[getter]
    fn client(&self) -> Option<&str> {
        self.record().client.as_deref()
    }

    #[getter]
    fn rule(&self) -> Option<&str> {
        self.record().rule.as_deref()
    }

    #[getter]
    fn request_id(&self) -> Option<&str> {
        self.record().request_id.as_deref()
    }

    #[getter]
    fn traceparent(&self) -> Option<String> {
        self.record().traceparent.as_deref().map(ToString::to_string)
    }

    #[getter]
    fn dropped(&self) -> Option<u64> {
        self.record().dropped
    }

    /// All fields as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        audit::event(py, self.record())
    }

    /// All fields as JSON.
    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(self.record())
            .map_err(|error| PyOSError::new_err(format!("cannot serialise: {error}")))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.record() == other.record()
    }

    fn __hash__(&self) -> u64 {
        self.record().sequence
    }

    fn __repr__(&self) -> String {
        let record = self.record();
        let (sequence, target) = (record.sequence, &record.target);
        let (decision, outcome) = (record.decision.as_str(), record.outcome.as_str());
        let phase = record.phase.as_str();
        format!("<AuditEvent {sequence} {phase}: {decision} {target:?}, {outcome}>")
    }
}

/// A consumer of a proxy's records: `for event in …` and `async for event in …`. Each sees every
/// record once, from the oldest that is held; it ends when the proxy has.
#[pyclass(name = "AuditEvents", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyAuditEvents {
    inner: Mutex<Option<Inner>>,
}

#[derive(Debug)]
struct Inner {
    consumer: Consumer,
    batch: Arc<Vec<Record>>,
    at: usize,
    signal: Option<UnixStream>,
}

impl Inner {
    /// The next event that is there.
    fn take(&mut self) -> Option<PyAuditEvent> {
        if self.at >= self.batch.len() {
            self.batch = self.consumer.take()?.into_shared();
            self.at = 0;
        }
        let event = PyAuditEvent { batch: Arc::clone(&self.batch), at: self.at };
        self.at += 1;
        Some(event)
    }
}

impl PyAuditEvents {
    pub(crate) fn new(consumer: Consumer) -> Self {
        let inner = Inner { consumer, batch: Arc::default(), at: 0, signal: None };
        Self { inner: Mutex::new(Some(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inner>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event if it comes soon; `Err` when there will be none.
    fn wait(&self) -> Result<Option<PyAuditEvent>, PyErr> {
        let mut inner = self.lock();
        let Some(inner) = &mut *inner else { return Err(PyStopIteration::new_err(())) };
        if let Some(event) = inner.take() {
            return Ok(Some(event));
        }
        match inner.consumer.wait(SIGNAL_INTERVAL) {
            Waited::Ended => Err(PyStopIteration::new_err(())),
            Waited::Ready | Waited::TimedOut => Ok(inner.take()),
        }
    }
}

#[pymethods]
impl PyAuditEvents {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<PyAuditEvent> {
        // Most events are there already, and need no wait.
        if let Ok(mut inner) = self.inner.try_lock()
            && let Some(inner) = &mut *inner
            && let Some(event) = inner.take()
        {
            return Ok(event);
        }
        loop {
            if let Some(event) = py.detach(|| self.wait())? {
                return Ok(event);
            }
            py.check_signals()?;
        }
    }

    fn __aiter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        slf.py().import("nono_py._aio")?.call_method1("events", (slf,))
    }

    /// The next event if it is there. If not, the socket becomes readable when one is, or when
    /// there will be none.
    fn _poll(&self) -> PyResult<Option<PyAuditEvent>> {
        let mut inner = self.lock();
        let Some(inner) = &mut *inner else { return Err(PyStopIteration::new_err(())) };
        loop {
            if let Some(event) = inner.take() {
                return Ok(Some(event));
            }
            if let Some(signal) = &mut inner.signal {
                while signal.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            }
            if inner.consumer.arm() {
                return Ok(None);
            }
            if inner.consumer.has_ended() {
                return Err(PyStopIteration::new_err(()));
            }
        }
    }

    /// The socket.
    fn _fileno(&self) -> PyResult<i32> {
        let mut inner = self.lock();
        let Some(inner) = &mut *inner else { return Err(PyStopIteration::new_err(())) };
        if inner.signal.is_none() {
            inner.signal = Some(inner.consumer.signal()?);
        }
        Ok(inner.signal.as_ref().map_or(-1, UnixStream::as_raw_fd))
    }

    /// How many records it has not yet been asked for.
    #[getter]
    fn lag(&self, py: Python<'_>) -> u64 {
        py.detach(|| {
            self.lock()
                .as_ref()
                .map_or(0, |inner| inner.consumer.lag() + (inner.batch.len() - inner.at) as u64)
        })
    }

    /// Let go of what it has not yet been asked for; it ends.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.lock().take()));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}
