//! Waiting for a future from Python: without the interpreter's lock, and open to Ctrl-C.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// How long a signal may wait for its handler.
pub(crate) const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits on this thread for the end of `future`, and gives way to the interpreter's signal handlers
/// meanwhile. Other threads of the interpreter go on. What the future waits for is done by threads
/// that run already; this one takes no descriptor of the system's, of which none may be left.
///
/// # Errors
/// What a signal handler raised (`KeyboardInterrupt`, for one); the future is dropped then, without
/// the interpreter's lock, too: it may wait for threads that wait for that.
pub(crate) fn wait<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let mut future = Box::pin(future);
    let done = until_done(py, || {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let (mut context, begun) = (Context::from_waker(&waker), Instant::now());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            let left = SIGNAL_INTERVAL.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return None;
            }
            thread::park_timeout(left);
        }
    });
    py.detach(|| drop(future));
    done
}

/// As [`wait`], for a `future` that needs a runtime to do its work on this thread.
///
/// # Errors
/// As [`wait`]; and the system refuses a runtime.
pub(crate) fn run<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start a runtime: {error}")))?;
    let mut future = Box::pin(future);
    let step = || runtime.block_on(async { timeout(SIGNAL_INTERVAL, &mut future).await.ok() });
    let done = until_done(py, step);
    py.detach(|| drop((future, runtime)));
    done
}

/// Takes steps without the interpreter's lock until one has a result.
fn until_done<T: Send>(py: Python<'_>, mut step: impl FnMut() -> Option<T> + Send) -> PyResult<T> {
    loop {
        if let Some(output) = py.detach(&mut step) {
            return Ok(output);
        }
        py.check_signals()?;
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
