//! `AuditEvent` and `AuditEvents`: records as objects, one after the other, as they come.

use std::io::Read as _;
use std::net::Shutdown;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nono_audit::{
    AuthMechanism, AuthOutcome, Batch, Consumer, DenialCategory, InjectionMode, Protocol, Record,
    Waited,
};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::audit;
use crate::blocking::SIGNAL_INTERVAL;
use crate::local::{Foreign, Local};
use crate::value::{Remade, from_json, remake, to_json};

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
    /// When it began, in milliseconds since the epoch.
    #[getter]
    fn timestamp_unix_ms(&self) -> u64 {
        self.record().timestamp_unix_ms
    }

    /// How the client reached the proxy.
    ///
    /// `connect` is a tunnel, `external` one through an external proxy, `connect_intercept` one
    /// that ends in the proxy and what comes in it, and `reverse` a request to a route, or a
    /// forwarded one (which has no `route_id`).
    #[getter]
    fn mode(&self) -> &str {
        self.record().mode.as_str()
    }

    /// Whether it was let through.
    #[getter]
    fn decision(&self) -> &str {
        self.record().decision.as_str()
    }

    /// The host that was asked for, and for a route its upstream's; empty if none was named.
    #[getter]
    fn target(&self) -> &str {
        &self.record().target
    }

    /// The port that was asked for.
    #[getter]
    fn port(&self) -> Option<u16> {
        self.record().port
    }

    /// The method of the request.
    #[getter]
    fn method(&self) -> Option<&str> {
        self.record().method.as_deref()
    }

    /// Path and query as the client sent them, without credentials.
    #[getter]
    fn path(&self) -> Option<&str> {
        self.record().path.as_deref()
    }

    /// The status that the client received; `None` if it left before.
    #[getter]
    fn status(&self) -> Option<u16> {
        self.record().status
    }

    /// Why it was refused or failed, in words.
    #[getter]
    fn reason(&self) -> Option<&str> {
        self.record().reason.as_deref()
    }

    /// The prefix of its route, without slashes around it.
    #[getter]
    fn route_id(&self) -> Option<&str> {
        self.record().route_id.as_deref()
    }

    /// Where the client showed the session token.
    #[getter]
    fn auth_mechanism(&self) -> Option<&str> {
        self.record().auth_mechanism.map(AuthMechanism::as_str)
    }

    /// Whether the session token was right.
    #[getter]
    fn auth_outcome(&self) -> Option<&str> {
        self.record().auth_outcome.map(AuthOutcome::as_str)
    }

    /// Whether the route's credential was put on the request.
    #[getter]
    fn managed_credential_active(&self) -> Option<bool> {
        self.record().managed_credential_active
    }

    /// Where the route puts its credential.
    #[getter]
    fn injection_mode(&self) -> Option<&str> {
        self.record().injection_mode.map(InjectionMode::as_str)
    }

    /// The kind of refusal or failure.
    #[getter]
    fn denial_category(&self) -> Option<&str> {
        self.record().denial_category.map(DenialCategory::as_str)
    }

    /// Its place among the records of the proxy: 0, 1, 2 and so on, without gaps.
    #[getter]
    fn sequence(&self) -> u64 {
        self.record().sequence
    }

    /// The exchange: a tunnel's records share it, and a refusal's answer has it too.
    #[getter]
    fn id(&self) -> String {
        self.record().id.to_string()
    }

    /// The run of the proxy, which all its records share.
    #[getter]
    fn session(&self) -> String {
        self.record().session.to_string()
    }

    /// What it tells of: a tunnel's opening, an end, or records that are not held (`gap`).
    #[getter]
    fn phase(&self) -> &str {
        self.record().phase.as_str()
    }

    /// How it ended.
    #[getter]
    fn outcome(&self) -> &str {
        self.record().outcome.as_str()
    }

    /// From the head of the request to the end, in milliseconds.
    #[getter]
    fn duration_ms(&self) -> f64 {
        self.record().duration_ms
    }

    /// From the head of the request to that of the response, in milliseconds.
    #[getter]
    fn time_to_first_byte_ms(&self) -> Option<f64> {
        self.record().time_to_first_byte_ms
    }

    /// Bytes of body, or in a tunnel, that came from the client.
    #[getter]
    fn bytes_in(&self) -> u64 {
        self.record().bytes_in
    }

    /// Bytes of body, or in a tunnel, that went to the client.
    #[getter]
    fn bytes_out(&self) -> u64 {
        self.record().bytes_out
    }

    /// The address and port that were connected to.
    #[getter]
    fn upstream_addr(&self) -> Option<String> {
        self.record().upstream_addr.map(|addr| addr.to_string())
    }

    /// The version of HTTP that the client spoke.
    #[getter]
    fn protocol(&self) -> Option<&str> {
        self.record().protocol.map(Protocol::as_str)
    }

    /// The client's address and port.
    #[getter]
    fn client(&self) -> Option<&str> {
        self.record().client.as_deref()
    }

    /// The rule, for hosts or endpoints, that decided, as it was written.
    #[getter]
    fn rule(&self) -> Option<&str> {
        self.record().rule.as_deref()
    }

    /// What the client named its request in `X-Request-Id`.
    #[getter]
    fn request_id(&self) -> Option<&str> {
        self.record().request_id.as_deref()
    }

    /// What the client named as the parent of its request; only where spans are exported.
    #[getter]
    fn traceparent(&self) -> Option<String> {
        self.record().traceparent.as_deref().map(ToString::to_string)
    }

    /// How many records one of the phase `gap` stands for.
    #[getter]
    fn dropped(&self) -> Option<u64> {
        self.record().dropped
    }

    /// Return all fields as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        audit::event(py, self.record())
    }

    /// Return all fields as JSON.
    fn to_json(&self) -> PyResult<String> {
        to_json(self.record())
    }

    #[staticmethod]
    fn _of(json: &str) -> PyResult<Self> {
        Ok(Self { batch: Arc::new(vec![from_json(json)?]), at: 0 })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, (String,)>> {
        remake(slf, (slf.get().to_json()?,))
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

/// A consumer of a proxy's records: `for event in ...` and `async for event in ...`.
///
/// Each sees every record once, from the oldest that is held; it ends when the proxy has, or when
/// it is closed. One task at a time can wait for its next event. It belongs to the process that
/// made it: in a forked child each use is a `ProxyError`, but `close()`, which does nothing there.
#[pyclass(name = "AuditEvents", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyAuditEvents {
    /// None when it is closed.
    inner: Local<Mutex<Option<Inner>>>,
}

#[derive(Debug)]
struct Inner {
    consumer: Consumer,
    batch: Arc<Vec<Record>>,
    at: usize,
    signal: Option<UnixStream>,
    /// Whether a task waits for the signal, which is given once: who else read it would leave that
    /// one waiting.
    is_awaited: bool,
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

    /// Refuses whoever would take what a task waits for.
    fn refuse_second(&self) -> PyResult<()> {
        if self.is_awaited {
            let message = "another task waits for the next of these events: each needs a consumer \
                           of its own, from `proxy.audit_events()`";
            return Err(PyRuntimeError::new_err(message));
        }
        Ok(())
    }
}

impl PyAuditEvents {
    pub(crate) fn new(consumer: Consumer) -> Self {
        let batch = Arc::default();
        let inner = Inner { consumer, batch, at: 0, signal: None, is_awaited: false };
        Self { inner: Local::new(Mutex::new(Some(inner))) }
    }

    fn lock(&self) -> Result<MutexGuard<'_, Option<Inner>>, Foreign> {
        Ok(self.inner.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next event if it comes soon; `Err` when there will be none.
    fn wait(&self) -> Result<Option<PyAuditEvent>, PyErr> {
        let mut inner = self.lock()?;
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
        if let Ok(mut inner) = self.inner.get()?.try_lock()
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

    /// The next event if it is there. If not, what `_watch` returns becomes readable when one is, or
    /// when there will be none.
    fn _poll(&self) -> PyResult<Option<PyAuditEvent>> {
        let mut inner = self.lock()?;
        let Some(inner) = &mut *inner else { return Err(PyStopIteration::new_err(())) };
        inner.refuse_second()?;
        loop {
            if let Some(event) = inner.take() {
                return Ok(Some(event));
            }
            // Before it is armed, or it could be given while there is none.
            match &mut inner.signal {
                Some(signal) => while signal.read(&mut [0; 64]).is_ok_and(|read| read > 0) {},
                none => *none = Some(inner.consumer.signal()?),
            }
            if inner.consumer.arm() {
                return Ok(None);
            }
            if inner.consumer.has_ended() {
                return Err(PyStopIteration::new_err(()));
            }
        }
    }

    /// A descriptor that is the caller's to close, when it has called `_unwatch`; None if there is
    /// nothing to wait for.
    fn _watch(&self) -> PyResult<Option<i32>> {
        let mut inner = self.lock()?;
        let Some(inner) = &mut *inner else { return Ok(None) };
        inner.refuse_second()?;
        let copy = inner.signal.as_ref().map(UnixStream::try_clone).transpose()?;
        inner.is_awaited = copy.is_some();
        Ok(copy.map(|copy| OwnedFd::from(copy).into_raw_fd()))
    }

    /// Nobody waits any more.
    fn _unwatch(&self) -> PyResult<()> {
        if let Some(inner) = &mut *self.lock()? {
            inner.is_awaited = false;
        }
        Ok(())
    }

    /// How many records it has not yet been asked for.
    #[getter]
    fn lag(&self, py: Python<'_>) -> PyResult<u64> {
        let lag = py.detach(|| -> Result<u64, Foreign> {
            let inner = self.lock()?;
            let lag = |inner: &Inner| inner.consumer.lag() + (inner.batch.len() - inner.at) as u64;
            Ok(inner.as_ref().map_or(0, lag))
        });
        Ok(lag?)
    }

    /// Let go of what it has not yet been asked for; it ends, also where a task waits for it.
    ///
    /// In a forked child it does nothing: the consumer is the parent's.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            let closed = self.lock().ok().and_then(|mut inner| inner.take());
            if let Some(Inner { signal: Some(signal), .. }) = &closed {
                // Who waits has a copy, and so may a forked child.
                let _ = signal.shutdown(Shutdown::Both);
            }
        });
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}
