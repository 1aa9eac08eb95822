//! Running programs, for an event loop to drive: `nono_py/_aio.py` does.
//!
//! Everything that an event loop has to know of a program becomes readable: its output, its
//! beginning, its end. So there is no thread for it. Only that an end is overdue is told by time.

use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nono_sandbox::{Child, Run};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::result::{AT_ONCE, Begun, PyExecResult};

/// A running program whose output is collected. Dropped, it is killed with all it has started.
#[pyclass(name = "_Run", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyRun {
    /// None when it is closed.
    run: Mutex<Option<Run>>,
    begun: Begun,
}

impl PyRun {
    pub(crate) fn new(run: Run, begun: Begun) -> Self {
        Self { run: Mutex::new(Some(run)), begun }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyRun {
    /// The descriptors of which one becomes readable when `advance` has something to do.
    fn fds(&self) -> Vec<i32> {
        let run = self.lock();
        run.iter().flat_map(Run::fds).map(number).collect()
    }

    /// Seconds after which `advance` has something to do though nothing becomes readable.
    fn patience(&self) -> Option<f64> {
        self.lock().as_ref().and_then(Run::patience).map(|patience| patience.as_secs_f64())
    }

    /// Do what is to be done, without waiting, and return the result if that was all.
    fn advance(&self, py: Python<'_>) -> PyResult<Option<PyExecResult>> {
        let step = py.detach(|| self.lock().as_mut().map(|run| run.advance(AT_ONCE)));
        let outcome = step.ok_or_else(closed)?.transpose();
        outcome.map(|outcome| self.begun.end(py, outcome)).transpose()
    }

    /// Kill the program and all that it has started; `advance` tells when they are gone.
    fn cancel(&self) {
        if let Some(run) = &mut *self.lock() {
            run.cancel();
        }
    }

    /// Close all descriptors, kill the program if it still runs, and end its record.
    fn close(&self, py: Python<'_>) {
        py.detach(|| *self.lock() = None);
        self.begun.let_go(py);
    }
}

/// A running program with streams of its own. Dropped, it is killed with all it has started.
#[pyclass(name = "_Child", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyChild {
    /// None when it is closed.
    child: Mutex<Option<Child>>,
    begun: Begun,
}

impl PyChild {
    pub(crate) fn new(child: Child, begun: Begun) -> Self {
        Self { child: Mutex::new(Some(child)), begun }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyChild {
    /// The program's process number; 0 until it is known to have begun.
    #[getter]
    fn pid(&self) -> i32 {
        self.lock().as_ref().map_or(0, Child::number)
    }

    /// Take the descriptors of the caller's ends of stdin, stdout and stderr.
    fn take_streams(&self) -> (Option<i32>, Option<i32>, Option<i32>) {
        let mut child = self.lock();
        let Some(child) = &mut *child else { return (None, None, None) };
        let number = |fd: Option<OwnedFd>| fd.map(OwnedFd::into_raw_fd);
        (number(child.stdin.take()), number(child.stdout.take()), number(child.stderr.take()))
    }

    /// A descriptor that becomes readable when `try_begun` has an answer.
    fn begun_fd(&self) -> Option<i32> {
        self.lock().as_ref().and_then(Child::begun_fd).map(number)
    }

    /// Whether the program has begun. Raises if it could not.
    fn try_begun(&self, py: Python<'_>) -> PyResult<bool> {
        let begun = py.detach(|| self.lock().as_mut().map(Child::try_begun));
        begun.ok_or_else(closed)?.map_err(|error| self.begun.fail(py, error))
    }

    /// A descriptor that becomes readable when everything has ended.
    fn ended_fd(&self) -> Option<i32> {
        self.lock().as_ref().and_then(Child::ended_fd).map(number)
    }

    /// Return what became of the program, when everything has ended.
    fn wait(&self, py: Python<'_>) -> PyResult<PyExecResult> {
        let outcome = py.detach(|| self.lock().as_mut().map(Child::wait));
        self.begun.end(py, outcome.ok_or_else(closed)?)
    }

    /// Send a signal to the program alone.
    fn send_signal(&self, signal: u8) {
        if let Some(child) = &*self.lock() {
            child.signal(signal);
        }
    }

    /// Kill the program and all that it has started.
    fn kill(&self) {
        if let Some(child) = &mut *self.lock() {
            child.kill();
        }
    }

    /// Close all descriptors, kill the program if it still runs, and end its record.
    fn close(&self, py: Python<'_>) {
        py.detach(|| *self.lock() = None);
        self.begun.let_go(py);
    }
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("the program is not held any more")
}

fn number(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}
