//! `AuditEvents`: records one after the other, as they come.

use std::io::Read as _;
use std::net::Shutdown;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nono_audit::{Consumer, Record, Waited};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::blocking::SIGNAL_INTERVAL;
use crate::events::PyAuditEvent;
use crate::local::{Foreign, Local};

/// A consumer of a proxy's records: `for event in ...` and `async for event in ...`.
///
/// Each sees every record once, from the oldest that is held; it ends when the proxy has, or when
/// it is closed. One task at a time can wait for its next event, or else threads can. It belongs
/// to the process that made it: in a forked child each use is a `ProxyError`, but `close()`, which
/// does nothing there.
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
    /// How many threads wait. Each looks again when it has been woken, so that there may be several.
    threads: usize,
}

impl Inner {
    /// The next event that is there.
    fn take(&mut self) -> Option<PyAuditEvent> {
        if self.at >= self.batch.len() {
            self.batch = self.consumer.take()?.into_shared();
            self.at = 0;
        }
        self.take_held()
    }

    /// The next event, if it has been read already.
    fn take_held(&mut self) -> Option<PyAuditEvent> {
        if self.at >= self.batch.len() {
            return None;
        }
        let event = PyAuditEvent::new(&self.batch, self.at);
        self.at += 1;
        Some(event)
    }

    /// Refuses a thread that would take what a task waits for.
    fn refuse_beside_task(&self) -> PyResult<()> {
        if self.is_awaited { Err(not_alone("task")) } else { Ok(()) }
    }

    /// Refuses a task that would take what another task or a thread waits for.
    fn refuse_second(&self) -> PyResult<()> {
        self.refuse_beside_task()?;
        if self.threads > 0 { Err(not_alone("thread")) } else { Ok(()) }
    }

    /// The next event if it is there. If not, the signal will be given when one is.
    fn poll(&mut self) -> PyResult<Option<PyAuditEvent>> {
        self.refuse_second()?;
        loop {
            if let Some(event) = self.take() {
                return Ok(Some(event));
            }
            // Before it is armed, or it could be given while there is none.
            match &mut self.signal {
                Some(signal) => while signal.read(&mut [0; 64]).is_ok_and(|read| read > 0) {},
                none => *none = Some(self.consumer.signal()?),
            }
            if self.consumer.arm() {
                return Ok(None);
            }
            if self.consumer.has_ended() {
                return Err(PyStopIteration::new_err(()));
            }
        }
    }
}

fn not_alone(who: &str) -> PyErr {
    let message = format!(
        "another {who} waits for the next of these events: each needs a consumer of its own, from \
         `proxy.audit_events()`"
    );
    PyRuntimeError::new_err(message)
}

impl PyAuditEvents {
    pub(crate) fn new(consumer: Consumer) -> Self {
        let batch = Arc::default();
        let inner = Inner { consumer, batch, at: 0, signal: None, is_awaited: false, threads: 0 };
        Self { inner: Local::new(Mutex::new(Some(inner))) }
    }

    /// To be called without the interpreter's lock: whoever holds this one may read from disk.
    fn lock(&self) -> Result<MutexGuard<'_, Option<Inner>>, Foreign> {
        Ok(self.inner.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `f` on it; `None` if it is closed.
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Inner) -> PyResult<R> + Send,
    ) -> PyResult<Option<R>> {
        py.detach(|| self.lock()?.as_mut().map(f).transpose())
    }

    /// The next event if it comes soon; `Err` when there will be none.
    fn wait(&self) -> PyResult<Option<PyAuditEvent>> {
        let closed = || PyStopIteration::new_err(());
        let waiter = {
            let mut inner = self.lock()?;
            let inner = inner.as_mut().ok_or_else(closed)?;
            inner.refuse_beside_task()?;
            if let Some(event) = inner.take() {
                return Ok(Some(event));
            }
            inner.threads += 1;
            inner.consumer.waiter()
        };
        // Others may have it meanwhile.
        let reason = waiter.wait(SIGNAL_INTERVAL);
        let mut inner = self.lock()?;
        let inner = inner.as_mut().ok_or_else(closed)?;
        inner.threads -= 1;
        match reason {
            // Another thread may have taken the last of them, and given out the first.
            Waited::Ended => inner.take().map(Some).ok_or_else(closed),
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
        // Most events are there already, and need no wait. What is on disk is read further down.
        if let Ok(mut inner) = self.inner.get()?.try_lock()
            && let Some(inner) = &mut *inner
            && !inner.is_awaited
            && let Some(event) = inner.take_held()
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

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        slf.py().import("nono_py._aio")?.call_method1("next_event", (slf,))
    }

    /// The next event if it is there. If not, what `_watch` returns becomes readable when one is, or
    /// when there will be none.
    fn _poll(&self, py: Python<'_>) -> PyResult<Option<PyAuditEvent>> {
        self.with(py, Inner::poll)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// A descriptor that is the caller's to close, when it has called `_unwatch`; None if there is
    /// nothing to wait for.
    fn _watch(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let copy = self.with(py, |inner| {
            inner.refuse_second()?;
            let copy = inner.signal.as_ref().map(UnixStream::try_clone).transpose()?;
            inner.is_awaited = copy.is_some();
            Ok(copy)
        })?;
        Ok(copy.flatten().map(|copy| OwnedFd::from(copy).into_raw_fd()))
    }

    /// Nobody waits any more.
    fn _unwatch(&self, py: Python<'_>) -> PyResult<()> {
        let waits_no_more = |inner: &mut Inner| {
            inner.is_awaited = false;
            Ok(())
        };
        self.with(py, waits_no_more).map(drop)
    }

    /// How many records it has not yet been asked for.
    #[getter]
    fn lag(&self, py: Python<'_>) -> PyResult<u64> {
        let lag =
            |inner: &mut Inner| Ok(inner.consumer.lag() + (inner.batch.len() - inner.at) as u64);
        Ok(self.with(py, lag)?.unwrap_or_default())
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
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}
