//! `sandboxed_exec`: run a program in a sandbox, wait for it, and return what it said.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{io, thread};

use nono_sandbox::{CapabilitySet, Command, Limits, Output};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments::{CommandArgument, EnvArgument};
use crate::blocking::SIGNAL_INTERVAL;
use crate::capability::PyCapabilitySet;
use crate::error::{not_implemented, sandbox_error};

/// What became of a program that ran in a sandbox.
#[pyclass(name = "ExecResult", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyExecResult {
    stdout: Py<PyBytes>,
    stderr: Py<PyBytes>,
    exit_code: i32,
    timed_out: bool,
    truncated: bool,
    duration: Duration,
}

impl PyExecResult {
    fn new(py: Python<'_>, output: &Output) -> Self {
        Self {
            stdout: PyBytes::new(py, &output.stdout).unbind(),
            stderr: PyBytes::new(py, &output.stderr).unbind(),
            exit_code: output.exit_code,
            timed_out: output.timed_out,
            truncated: output.truncated,
            duration: output.duration,
        }
    }
}

#[pymethods]
impl PyExecResult {
    /// What the program wrote to its standard output.
    #[getter]
    fn stdout(&self, py: Python<'_>) -> Py<PyBytes> {
        self.stdout.clone_ref(py)
    }

    /// What the program wrote to its standard error.
    #[getter]
    fn stderr(&self, py: Python<'_>) -> Py<PyBytes> {
        self.stderr.clone_ref(py)
    }

    /// The exit code; `-N` if signal N ended the program.
    #[getter]
    fn exit_code(&self) -> i32 {
        self.exit_code
    }

    /// Whether the program was killed because its time was over.
    #[getter]
    fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Whether there was more output than is kept.
    #[getter]
    fn truncated(&self) -> bool {
        self.truncated
    }

    /// From start to end, in seconds.
    #[getter]
    fn duration(&self) -> f64 {
        self.duration.as_secs_f64()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let length = |bytes: &Py<PyBytes>| bytes.bind(py).as_bytes().len();
        format!(
            "ExecResult(exit_code={}, stdout_len={}, stderr_len={})",
            self.exit_code,
            length(&self.stdout),
            length(&self.stderr)
        )
    }
}

/// Run a program that can touch only what `caps` grants, and wait for its end.
#[pyfunction]
#[pyo3(signature = (
    caps, command, cwd=None, timeout_secs=None, env=None, inherit_env=false, max_processes=None,
    max_cpu_seconds=None, max_file_size_bytes=None, max_open_files=None, uid=None, gid=None,
    enforcement_mode="auto",
))]
#[expect(clippy::too_many_arguments, reason = "the keyword arguments of the Python function")]
pub(crate) fn sandboxed_exec(
    py: Python<'_>,
    caps: &Bound<'_, PyCapabilitySet>,
    command: CommandArgument,
    cwd: Option<PathBuf>,
    timeout_secs: Option<f64>,
    env: Option<EnvArgument>,
    inherit_env: bool,
    max_processes: Option<u64>,
    max_cpu_seconds: Option<u64>,
    max_file_size_bytes: Option<u64>,
    max_open_files: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    enforcement_mode: &str,
) -> PyResult<PyExecResult> {
    check_mode(enforcement_mode)?;
    check_ids(uid, gid)?;
    let limits = Limits {
        max_processes: positive("max_processes", max_processes)?,
        max_cpu_seconds: positive("max_cpu_seconds", max_cpu_seconds)?,
        max_file_size_bytes,
        max_open_files: positive("max_open_files", max_open_files)?,
        ..Limits::default()
    };
    let timeout = parse_timeout(timeout_secs)?;
    let mut program = build(command.0, env.unwrap_or_default(), inherit_env)?;
    program.limits(limits);
    if let Some(directory) = cwd {
        program.cwd(directory);
    }
    if let Some(timeout) = timeout {
        program.timeout(timeout);
    }
    let caps = caps.get().snapshot(py);
    Ok(PyExecResult::new(py, &run(py, program, caps)?))
}

/// Runs the program on a thread of its own, so that this one can hear of signals meanwhile. What
/// a signal handler raises (`KeyboardInterrupt`, for one) kills the program.
fn run(py: Python<'_>, mut program: Command, caps: CapabilitySet) -> PyResult<Output> {
    let (cancel, canceller) = io::pipe()?;
    program.cancel_on(cancel);
    let (sender, mut receiver) = mpsc::sync_channel(1);
    let start = thread::Builder::new().name("sandboxed-exec".to_owned());
    start.spawn(move || sender.send(program.run(&caps)).is_ok())?;
    loop {
        // Lent for the wait alone: two threads may not share a receiver.
        let waiting = &mut receiver;
        match py.detach(move || waiting.recv_timeout(SIGNAL_INTERVAL)) {
            Ok(result) => return result.map_err(sandbox_error),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the thread of the program has panicked"));
            }
        }
        if let Err(raised) = py.check_signals() {
            drop(canceller);
            // Until the program is gone: whoever catches the exception can rely on that.
            let _cancelled = py.detach(move || receiver.recv());
            return Err(raised);
        }
    }
}

fn build(command: Vec<OsString>, env: EnvArgument, inherit_env: bool) -> PyResult<Command> {
    let mut words = command.into_iter();
    let Some(program) = words.next() else {
        return Err(PyValueError::new_err("command must not be empty"));
    };
    let mut built = Command::new(program);
    built.args(words).inherit_env(inherit_env);
    for (name, value) in env.0 {
        built.env(name, value);
    }
    Ok(built)
}

fn check_mode(mode: &str) -> PyResult<()> {
    match mode {
        "auto" => Ok(()),
        "landlock" | "seccomp" => Err(not_implemented("enforcement_mode", &format!("'{mode}'"))),
        _ => {
            let value = mode.escape_debug();
            let message =
                format!("enforcement_mode must be 'auto', 'landlock' or 'seccomp', got '{value}'");
            Err(PyValueError::new_err(message))
        }
    }
}

fn check_ids(uid: Option<u32>, gid: Option<u32>) -> PyResult<()> {
    for (option, id) in [("uid", uid), ("gid", gid)] {
        match id {
            None => {}
            Some(0) => {
                return Err(PyValueError::new_err(format!("{option} must be non-zero, got 0")));
            }
            Some(id) => return Err(not_implemented(option, &id.to_string())),
        }
    }
    Ok(())
}

fn positive(option: &str, value: Option<u64>) -> PyResult<Option<u64>> {
    match value {
        Some(0) => Err(PyValueError::new_err(format!("{option} must be positive, got 0"))),
        value => Ok(value),
    }
}

/// Seconds as a duration; what is longer than a duration can say is no limit at all.
fn parse_timeout(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => Err(PyValueError::new_err(format!(
            "timeout_secs must be a non-negative number, got {seconds}"
        ))),
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds).ok()),
    }
}
