//! Waiting for a future from Python: without the interpreter's lock, and open to Ctrl-C.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// How long a signal may wait for its handler.
pub(crate) const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs `future` to its end on this thread, and gives way to the interpreter's signal handlers
/// while it runs. Other threads of the interpreter go on meanwhile.
///
/// # Errors
/// What a signal handler raised (`KeyboardInterrupt`, for one); the future is dropped then.
pub(crate) fn wait<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start a runtime: {error}")))?;
    let mut future = pin!(future);
    loop {
        let step =
            py.detach(|| runtime.block_on(async { timeout(SIGNAL_INTERVAL, &mut future).await }));
        match step {
            Ok(output) => return Ok(output),
            Err(_elapsed) => py.check_signals()?,
        }
    }
}
