//! `ExecResult`: what became of a program that ran in a sandbox.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nono_sandbox::{CapabilitySet, Output, Report};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::apply::PyEnforcement;

/// What a result repeats of the call, and what it is judged by.
#[derive(Debug)]
pub(crate) struct Request {
    args: Py<PyAny>,
    timeout: Option<f64>,
    caps: Arc<CapabilitySet>,
}

impl Request {
    pub(crate) fn new(args: Bound<'_, PyAny>, timeout: Option<f64>, caps: CapabilitySet) -> Self {
        Self { args: args.unbind(), timeout, caps: Arc::new(caps) }
    }

    pub(crate) fn caps(&self) -> &CapabilitySet {
        &self.caps
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        let caps = Arc::clone(&self.caps);
        Self { args: self.args.clone_ref(py), timeout: self.timeout, caps }
    }
}

/// What became of a program that ran in a sandbox.
#[pyclass(name = "ExecResult", module = "nono_py", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyExecResult {
    args: Py<PyAny>,
    timeout: Option<f64>,
    stdout: Py<PyBytes>,
    stderr: Py<PyBytes>,
    output: Output,
    report: Report,
}

impl PyExecResult {
    pub(crate) fn new(py: Python<'_>, mut output: Output, request: &Request) -> Self {
        let report = Report::new(&output, &request.caps);
        Self {
            args: request.args.clone_ref(py),
            timeout: request.timeout,
            stdout: PyBytes::new(py, &std::mem::take(&mut output.stdout)).unbind(),
            stderr: PyBytes::new(py, &std::mem::take(&mut output.stderr)).unbind(),
            output,
            report,
        }
    }
}

#[pymethods]
impl PyExecResult {
    /// The command, as it was given.
    #[getter]
    fn args(&self, py: Python<'_>) -> Py<PyAny> {
        self.args.clone_ref(py)
    }

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

    /// Standard output as text: UTF-8, with U+FFFD for what is none.
    #[getter]
    fn text(&self, py: Python<'_>) -> String {
        String::from_utf8_lossy(self.stdout.bind(py).as_bytes()).into_owned()
    }

    /// The exit code; `-N` if signal N ended the program, 124 if its time was over.
    #[getter]
    fn exit_code(&self) -> i32 {
        self.output.exit_code
    }

    /// The number of the signal that ended the program.
    #[getter]
    fn signal(&self) -> Option<i32> {
        self.output.signal
    }

    /// Whether the program was killed because its time was over.
    #[getter]
    fn timed_out(&self) -> bool {
        self.output.timed_out
    }

    /// Whether there was more output than is kept.
    #[getter]
    fn truncated(&self) -> bool {
        self.output.truncated
    }

    /// From start to end, in seconds.
    #[getter]
    fn duration(&self) -> f64 {
        self.output.duration.as_secs_f64()
    }

    /// Processor time of the program and all its descendants, in seconds.
    #[getter]
    fn cpu_time(&self) -> f64 {
        self.output.cpu_time.as_secs_f64()
    }

    /// Bytes of memory at the peak: of all processes together where a control group limits it,
    /// else of the largest, and None if that was smaller than this one, since the kernel cannot
    /// tell then.
    #[getter]
    fn max_rss(&self) -> Option<u64> {
        self.output.max_rss
    }

    /// Whether all was killed because it used more memory than `max_memory_bytes`. Known where a
    /// control group limits it; elsewhere a program is refused memory instead.
    #[getter]
    fn oom_killed(&self) -> bool {
        self.output.oom_killed
    }

    /// What the kernel enforced, and what it is too old to enforce.
    #[getter]
    fn enforcement(&self) -> PyEnforcement {
        self.output.enforcement.clone().into()
    }

    /// By what each limit was enforced: by its name, "cgroup", "rlimit", "pipe", or
    /// "ignored for root".
    #[getter]
    fn limits(&self) -> BTreeMap<&'static str, &'static str> {
        self.output.limits.iter().map(|(limit, by)| (*limit, by.name())).collect()
    }

    /// The variables that `inherit_env` left out, because they steer the dynamic loader.
    #[getter]
    fn dropped_env(&self) -> Vec<OsString> {
        self.output.dropped_variables.clone()
    }

    /// Return this if the program exited with 0.
    ///
    /// Raises `subprocess.CalledProcessError` otherwise, or `subprocess.TimeoutExpired`.
    fn check(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        let this = slf.get();
        if this.output.exit_code == 0 {
            return Ok(slf);
        }
        let subprocess = py.import("subprocess")?;
        let (args, stdout, stderr) = (&this.args, &this.stdout, &this.stderr);
        let error = if this.output.timed_out {
            let timeout = this.timeout.unwrap_or_default();
            subprocess.call_method1("TimeoutExpired", (args, timeout, stdout, stderr))
        } else {
            let code = this.output.exit_code;
            subprocess.call_method1("CalledProcessError", (code, args, stdout, stderr))
        };
        Err(PyErr::from_value(error?))
    }

    /// Why the program may have failed: what is known, and, marked as such, what it says itself.
    fn session_diagnostics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.session_diagnostics_json()?,))
    }

    /// The same as JSON.
    fn session_diagnostics_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.report)
            .map_err(|error| PyRuntimeError::new_err(format!("cannot serialise: {error}")))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let length = |bytes: &Py<PyBytes>| bytes.bind(py).as_bytes().len();
        format!(
            "ExecResult(exit_code={}, stdout_len={}, stderr_len={})",
            self.output.exit_code,
            length(&self.stdout),
            length(&self.stderr)
        )
    }
}

/// The time of a wait that only looks.
pub(crate) const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
