//! Running programs, for an event loop to drive: `nono_py/_aio.py` does.
//!
//! Everything that an event loop has to know of a program becomes readable: its output, its
//! beginning, its end. So there is no thread for it. Only that an end is overdue is told by time.

use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

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

    fn with<R: Send>(&self, py: Python<'_>, f: impl FnOnce(&mut Option<Run>) -> R + Send) -> R {
        with(py, &self.run, f)
    }
}

#[pymethods]
impl PyRun {
    /// The descriptors of which one becomes readable when `advance` has something to do.
    fn fds(&self, py: Python<'_>) -> Vec<i32> {
        self.with(py, |run| run.iter().flat_map(Run::fds).map(number).collect())
    }

    /// Seconds after which `advance` has something to do though nothing becomes readable.
    fn patience(&self, py: Python<'_>) -> Option<f64> {
        let patience = self.with(py, |run| run.as_ref().and_then(Run::patience));
        patience.map(|patience| patience.as_secs_f64())
    }

    /// Do what is to be done, without waiting, and return the result if that was all.
    fn advance(&self, py: Python<'_>) -> PyResult<Option<PyExecResult>> {
        let step = self.with(py, |run| run.as_mut().map(|run| run.advance(AT_ONCE)));
        let outcome = step.ok_or_else(closed)?.transpose();
        outcome.map(|outcome| self.begun.end(py, outcome)).transpose()
    }

    /// Kill the program and all that it has started; `advance` tells when they are gone.
    fn cancel(&self, py: Python<'_>) {
        self.with(py, |run| run.as_mut().map(Run::cancel));
    }

    /// Close all descriptors, kill the program if it still runs, and end its record.
    fn close(&self, py: Python<'_>) {
        self.with(py, |held| *held = None);
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

    fn with<R: Send>(&self, py: Python<'_>, f: impl FnOnce(&mut Option<Child>) -> R + Send) -> R {
        with(py, &self.child, f)
    }
}

#[pymethods]
impl PyChild {
    /// The program's process number; 0 until it is known to have begun.
    #[getter]
    fn pid(&self, py: Python<'_>) -> i32 {
        self.with(py, |child| child.as_ref().map_or(0, Child::number))
    }

    /// Take the descriptors of the caller's ends of stdin, stdout and stderr.
    fn take_streams(&self, py: Python<'_>) -> (Option<i32>, Option<i32>, Option<i32>) {
        let number = |fd: Option<OwnedFd>| fd.map(OwnedFd::into_raw_fd);
        let streams = self.with(py, |child| {
            child.as_mut().map(|it| (it.stdin.take(), it.stdout.take(), it.stderr.take()))
        });
        let (stdin, stdout, stderr) = streams.unwrap_or_default();
        (number(stdin), number(stdout), number(stderr))
    }

    /// A descriptor that becomes readable when `try_begun` has an answer.
    fn begun_fd(&self, py: Python<'_>) -> Option<i32> {
        self.with(py, |child| child.as_ref().and_then(Child::begun_fd).map(number))
    }

    /// Seconds after which `try_begun` or `wait` has an answer though nothing becomes readable.
    fn patience(&self, py: Python<'_>) -> Option<f64> {
        let patience = self.with(py, |child| child.as_ref().and_then(Child::patience));
        patience.map(|patience| patience.as_secs_f64())
    }

    /// Whether the program has begun. Raises if it could not, or if its end is overdue.
    fn try_begun(&self, py: Python<'_>) -> PyResult<bool> {
        let begun = self.with(py, |child| child.as_mut().map(Child::try_begun));
        begun.ok_or_else(closed)?.map_err(|error| self.begun.fail(py, error))
    }

    /// A descriptor that becomes readable when everything has ended.
    fn ended_fd(&self, py: Python<'_>) -> Option<i32> {
        self.with(py, |child| child.as_ref().and_then(Child::ended_fd).map(number))
    }

    /// Return what became of the program, when everything has ended.
    fn wait(&self, py: Python<'_>) -> PyResult<PyExecResult> {
        let outcome = self.with(py, |child| child.as_mut().map(Child::wait));
        self.begun.end(py, outcome.ok_or_else(closed)?)
    }

    /// Send a signal to the program alone.
    fn send_signal(&self, py: Python<'_>, signal: u8) {
        self.with(py, |child| child.as_ref().map(|child| child.signal(signal)));
    }

    /// Kill the program and all that it has started.
    fn kill(&self, py: Python<'_>) {
        self.with(py, |child| child.as_mut().map(Child::kill));
    }

    /// Close all descriptors, kill the program if it still runs, and end its record.
    fn close(&self, py: Python<'_>) {
        self.with(py, |held| *held = None);
        self.begun.let_go(py);
    }
}

/// Runs `f` on what is locked. The interpreter's lock is let go first: whoever holds this one may be
/// about to wait for a program.
fn with<T: Send, R: Send>(
    py: Python<'_>,
    locked: &Mutex<T>,
    f: impl FnOnce(&mut T) -> R + Send,
) -> R {
    py.detach(|| f(&mut locked.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("the program is not held any more")
}

fn number(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}
