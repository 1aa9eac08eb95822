//! `ExecResult`: what became of a program that ran in a sandbox.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nono_sandbox::{CapabilitySet, Error, Output};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::apply::PyEnforcement;
use crate::ending::Ending;
use crate::error::run_error;
use crate::recording::{Plan, Recording};
use crate::session::PySessionMetadata;
use crate::value::{Remade, from_json, remake, to_json};

/// What a result repeats of the call, and what it is judged by.
#[derive(Debug)]
pub(crate) struct Request {
    args: Py<PyAny>,
    timeout: Option<f64>,
    caps: Arc<CapabilitySet>,
    plan: Option<Arc<Plan>>,
}

impl Request {
    pub(crate) fn new(
        args: Bound<'_, PyAny>,
        timeout: Option<f64>,
        caps: CapabilitySet,
        plan: Option<Plan>,
    ) -> Self {
        Self { args: args.unbind(), timeout, caps: Arc::new(caps), plan: plan.map(Arc::new) }
    }

    /// Begins the record of the run, if one is to be kept.
    pub(crate) fn begin(&self, py: Python<'_>) -> PyResult<Begun> {
        let plan = self.plan.as_ref();
        let recording = py.detach(|| plan.map(|plan| plan.begin(&self.caps)).transpose())?;
        let (args, caps) = (self.args.clone_ref(py), Arc::clone(&self.caps));
        Ok(Begun { args, timeout: self.timeout, caps, recording })
    }
}

/// A run that has begun: what its result needs, and its record.
#[derive(Debug)]
pub(crate) struct Begun {
    args: Py<PyAny>,
    timeout: Option<f64>,
    caps: Arc<CapabilitySet>,
    recording: Option<Recording>,
}

impl Begun {
    /// Starts the program; the record ends if it cannot.
    pub(crate) fn start<T: Send>(
        &self,
        py: Python<'_>,
        start: impl FnOnce(&CapabilitySet) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let started = py.detach(|| start(&self.caps));
        started.map_err(|error| self.fail(py, error))
    }

    /// Ends the record of a program that could not begin, and says why it could not.
    pub(crate) fn fail(&self, py: Python<'_>, error: Error) -> PyErr {
        // That says more than what is wrong with its record.
        let _record = self.close(py, Some(Err(&error)));
        self.error(py, error)
    }

    /// Ends the record of a program that nobody waits for any more.
    pub(crate) fn let_go(&self, py: Python<'_>) {
        // There is nobody to tell what is wrong with it.
        let _record = self.close(py, None);
    }

    /// Ends the record, and makes the result. That the program could not run is told before what
    /// is wrong with the record; what became of one that did is with the error about that.
    pub(crate) fn end(
        &self,
        py: Python<'_>,
        outcome: Result<Output, Error>,
    ) -> PyResult<PyExecResult> {
        let record = self.close(py, Some(outcome.as_ref()));
        let output = outcome.map_err(|error| self.error(py, error))?;
        let (session, lost) = match record {
            Ok(session) => (session, None),
            Err(error) => (None, Some(error)),
        };
        let result = PyExecResult::new(py, output, session, self)?;
        match lost {
            None => Ok(result),
            Some(error) => {
                error.value(py).setattr("result", result)?;
                Err(error)
            }
        }
    }

    /// What the program could not run for.
    fn error(&self, py: Python<'_>, error: Error) -> PyErr {
        run_error(py, error, &self.caps)
    }

    fn close(
        &self,
        py: Python<'_>,
        outcome: Option<Result<&Output, &Error>>,
    ) -> PyResult<Option<PySessionMetadata>> {
        let recording = self.recording.as_ref();
        let ended = py.detach(|| recording.map(|recording| recording.end(outcome)));
        Ok(ended.transpose()?.flatten())
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
    session: Option<Py<PySessionMetadata>>,
    ending: Ending,
}

/// What makes a result anew: its arguments and their time limit, both outputs, the session, the rest.
type Parts = ((Py<PyAny>, Option<f64>), [Py<PyBytes>; 2], Option<Py<PySessionMetadata>>, String);

impl PyExecResult {
    fn new(
        py: Python<'_>,
        output: Output,
        session: Option<PySessionMetadata>,
        begun: &Begun,
    ) -> PyResult<Self> {
        Ok(Self {
            session: session.map(|session| Py::new(py, session)).transpose()?,
            args: begun.args.clone_ref(py),
            timeout: begun.timeout,
            stdout: PyBytes::new(py, &output.stdout).unbind(),
            stderr: PyBytes::new(py, &output.stderr).unbind(),
            ending: Ending::new(output, &begun.caps)?,
        })
    }
}

#[pymethods]
impl PyExecResult {
    /// What is kept of the session, as it stands in its directory; None if nothing is.
    #[getter]
    fn session(&self, py: Python<'_>) -> Option<Py<PySessionMetadata>> {
        self.session.as_ref().map(|session| session.clone_ref(py))
    }

    /// The command, as it was given.
    #[getter]
    fn args(&self, py: Python<'_>) -> Py<PyAny> {
        self.args.clone_ref(py)
    }

    /// What it wrote to standard output, as far as that was collected.
    #[getter]
    fn stdout(&self, py: Python<'_>) -> Py<PyBytes> {
        self.stdout.clone_ref(py)
    }

    /// What it wrote to standard error, as far as that was collected.
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
        self.ending.exit_code
    }

    /// The number of the signal that ended the program; `None` if none did.
    #[getter]
    fn signal(&self) -> Option<i32> {
        self.ending.signal
    }

    /// Whether the program was killed because its time was over.
    #[getter]
    fn timed_out(&self) -> bool {
        self.ending.timed_out
    }

    /// Whether it wrote more than `max_output_bytes`, which is not kept.
    #[getter]
    fn truncated(&self) -> bool {
        self.ending.truncated
    }

    /// From start to end, in seconds.
    #[getter]
    fn duration(&self) -> f64 {
        self.ending.duration.as_secs_f64()
    }

    /// Processor time of the program and all its descendants, in seconds.
    #[getter]
    fn cpu_time(&self) -> f64 {
        self.ending.cpu_time.as_secs_f64()
    }

    /// Bytes of memory at the peak.
    ///
    /// Where a control group limits memory (`limits["max_memory_bytes"] == "cgroup"`), that of all
    /// processes together. Else of the largest, or None if it was smaller than this one: the kernel
    /// counts what a program and its caller had in common when it began as the program's own, and
    /// below that it cannot tell.
    #[getter]
    fn max_rss(&self) -> Option<u64> {
        self.ending.max_rss
    }

    /// Whether all was killed because it used more memory than `max_memory_bytes`.
    ///
    /// Known where a control group limits it; elsewhere a program is refused memory instead.
    #[getter]
    fn oom_killed(&self) -> bool {
        self.ending.oom_killed
    }

    /// What the kernel enforced, and what it is too old to enforce.
    #[getter]
    fn enforcement(&self) -> PyEnforcement {
        self.ending.enforcement.clone().into()
    }

    /// By what each limit was enforced, by its name.
    ///
    /// "cgroup" is of the program and all that it starts together, and takes a control group
    /// (cgroup v2) that is delegated to this process: to a service by `Delegate=yes`, or by
    /// `systemd-run --user --scope -p Delegate=yes`. "rlimit" is of each process, or for
    /// `max_processes` of all that its user has.
    #[getter]
    fn limits(&self) -> BTreeMap<&str, &str> {
        self.ending.limits.iter().map(|(limit, by)| (limit.as_ref(), by.as_ref())).collect()
    }

    /// The variables that `inherit_env` left out, because they steer the dynamic loader.
    #[getter]
    fn dropped_env(&self) -> Vec<OsString> {
        self.ending.dropped_env.clone()
    }

    /// Return this if the program exited with 0.
    ///
    /// Raises `subprocess.CalledProcessError` otherwise, or `subprocess.TimeoutExpired`.
    fn check(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        let this = slf.get();
        if this.ending.exit_code == 0 {
            return Ok(slf);
        }
        let subprocess = py.import("subprocess")?;
        let (args, stdout, stderr) = (&this.args, &this.stdout, &this.stderr);
        let error = if this.ending.timed_out {
            let timeout = this.timeout.unwrap_or_default();
            subprocess.call_method1("TimeoutExpired", (args, timeout, stdout, stderr))
        } else {
            let code = this.ending.exit_code;
            subprocess.call_method1("CalledProcessError", (code, args, stdout, stderr))
        };
        Err(PyErr::from_value(error?))
    }

    /// Return why the program may have failed.
    ///
    /// What it says itself is marked by `detail` as a `stderr_observation`: a hint, which never
    /// proposes a grant.
    fn session_diagnostics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.session_diagnostics_json(),))
    }

    /// Return `session_diagnostics()` as JSON.
    fn session_diagnostics_json(&self) -> &str {
        &self.ending.report
    }

    #[staticmethod]
    fn _of(
        call: (Py<PyAny>, Option<f64>),
        outputs: [Py<PyBytes>; 2],
        session: Option<Py<PySessionMetadata>>,
        json: &str,
    ) -> PyResult<Self> {
        let ((args, timeout), [stdout, stderr]) = (call, outputs);
        Ok(Self { args, timeout, stdout, stderr, session, ending: from_json(json)? })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Remade<'py, Parts>> {
        let (this, py) = (slf.get(), slf.py());
        let call = (this.args(py), this.timeout);
        let outputs = [this.stdout(py), this.stderr(py)];
        remake(slf, (call, outputs, this.session(py), to_json(&this.ending)?))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let length = |bytes: &Py<PyBytes>| bytes.bind(py).as_bytes().len();
        format!(
            "ExecResult(exit_code={}, stdout_len={}, stderr_len={})",
            self.ending.exit_code,
            length(&self.stdout),
            length(&self.stderr)
        )
    }
}

/// The time of a wait that only looks.
pub(crate) const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
