//! `sandboxed_exec` and what it shares with its asynchronous sisters: a command, prepared from the
//! arguments of the call.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nono_sandbox::{CapabilitySet, Command, Error, Limits, Observed, Stdio};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::{CommandArgument, EnvArgument, OsArgument};
use crate::blocking::SIGNAL_INTERVAL;
use crate::capability::{PyCapabilitySet, Way};
use crate::error::{argument_error, sandbox_error, unsound};
use crate::int;
use crate::process::{PyChild, PyRun};
use crate::proxy::PyProxyHandle;
use crate::recording::{Plan, SessionArgument};
use crate::result::{PyExecResult, Request};
use crate::stdio::{InputArgument, StreamArgument, TerminalArgument};

/// A program with its arguments, environment and limits, ready to run in a sandbox.
#[pyclass(name = "_Command", module = "nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PyCommand {
    command: Command,
    request: Request,
}

#[pymethods]
impl PyCommand {
    #[new]
    #[pyo3(signature = (
        caps, command, cwd=None, timeout_secs=None, env=None, inherit_env=false,
        max_processes=None, max_cpu_seconds=None, max_file_size_bytes=None, max_open_files=None,
        uid=None, gid=None, enforcement_mode="auto", *, max_memory_bytes=None,
        max_output_bytes=None, input=None, stdin=None, stdout=None, stderr=None, proxy=None,
        pty=None, keep_background=false, verify=false, require_limits=false, session=None,
    ), text_signature = "(*args, **options)")]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "the keyword arguments of the functions"
    )]
    fn new(
        py: Python<'_>,
        caps: &Bound<'_, PyCapabilitySet>,
        command: Bound<'_, PyAny>,
        cwd: Option<OsArgument>,
        timeout_secs: Option<f64>,
        env: Option<EnvArgument>,
        inherit_env: bool,
        #[pyo3(from_py_with = int::max_processes)] max_processes: Option<u64>,
        #[pyo3(from_py_with = int::max_cpu_seconds)] max_cpu_seconds: Option<u64>,
        #[pyo3(from_py_with = int::max_file_size_bytes)] max_file_size_bytes: Option<u64>,
        #[pyo3(from_py_with = int::max_open_files)] max_open_files: Option<u64>,
        #[pyo3(from_py_with = int::uid)] uid: Option<u32>,
        #[pyo3(from_py_with = int::gid)] gid: Option<u32>,
        enforcement_mode: &str,
        #[pyo3(from_py_with = int::max_memory_bytes)] max_memory_bytes: Option<u64>,
        #[pyo3(from_py_with = int::max_output_bytes)] max_output_bytes: Option<u64>,
        input: Option<InputArgument>,
        stdin: Option<StreamArgument>,
        stdout: Option<StreamArgument>,
        stderr: Option<StreamArgument>,
        proxy: Option<&Bound<'_, PyProxyHandle>>,
        pty: Option<TerminalArgument>,
        keep_background: bool,
        verify: bool,
        require_limits: bool,
        session: Option<SessionArgument>,
    ) -> PyResult<Self> {
        check_mode(enforcement_mode)?;
        let limits = Limits {
            max_processes: positive("max_processes", max_processes)?,
            max_cpu_seconds: positive("max_cpu_seconds", max_cpu_seconds)?,
            max_memory_bytes: positive("max_memory_bytes", max_memory_bytes)?,
            max_file_size_bytes,
            max_open_files: positive("max_open_files", max_open_files)?,
            max_output_bytes: max_output_bytes
                .unwrap_or_else(|| Limits::default().max_output_bytes),
        };
        let words: CommandArgument = command.extract()?;
        let plan = session
            .map(|place| Plan::new(place, &words.0, proxy.map(|proxy| proxy.clone().unbind())));
        let mut built = build(words.0, env.unwrap_or_default(), inherit_env)?;
        built
            .identify(plan.is_some())
            .limits(limits)
            .require_limits(require_limits)
            .keep_background(keep_background);
        if let Some(directory) = cwd {
            built.cwd(directory.0);
        }
        if let Some(timeout) = parse_timeout(timeout_secs)? {
            built.timeout(timeout);
        }
        change_ids(&mut built, uid, gid)?;
        let terminal = pty.and_then(|pty| pty.0);
        if terminal.is_some() && (stdin.is_some() || stdout.is_some() || stderr.is_some()) {
            let message = "with pty the terminal is stdin, stdout and stderr: none can be given";
            return Err(argument_error(message));
        }
        connect(&mut built, input, [stdin, stdout, stderr])?;
        if let Some(size) = terminal {
            built.terminal(size);
        }
        let mut caps = caps.get().snapshot(py);
        if let Some(proxy) = proxy {
            let way = Way::to(proxy.get())?;
            py.detach(|| way.open(&mut caps)).map_err(sandbox_error)?;
            built.envs(proxy.get().variables());
        }
        if verify {
            verified(py, &caps)?;
        }
        Ok(Self { command: built, request: Request::new(command, timeout_secs, caps, plan) })
    }

    /// A command from the arguments of a function, which is what errors about them name.
    #[staticmethod]
    #[pyo3(name = "_called")]
    fn called<'py>(
        py: Python<'py>,
        name: &str,
        args: &Bound<'py, PyTuple>,
        options: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, Self>> {
        call(py, name, args, Some(options))
    }

    /// Run the program and wait for its end. What a signal handler raises meanwhile
    /// (`KeyboardInterrupt`, for one) ends it.
    fn run(&self, py: Python<'_>) -> PyResult<PyExecResult> {
        self.finish(py, &self.command)
    }

    /// Start the program, for its output to be collected by an event loop.
    fn start(&self, py: Python<'_>) -> PyResult<PyRun> {
        self.refuse_pipe_to_nobody()?;
        let begun = self.request.begin(py)?;
        let run = begun.start(py, |caps| self.command.start(caps))?;
        Ok(PyRun::new(run, begun))
    }

    /// Start the program and hand over its streams.
    fn spawn(&self, py: Python<'_>) -> PyResult<PyChild> {
        let begun = self.request.begin(py)?;
        let child = begun.start(py, |caps| self.command.spawn(caps))?;
        Ok(PyChild::new(child, begun))
    }
}

impl PyCommand {
    /// Runs the program as `run` does, and notes what it does.
    pub(crate) fn run_observed(
        &self,
        py: Python<'_>,
        observed: &Arc<Observed>,
    ) -> PyResult<PyExecResult> {
        let mut command = self.command.clone();
        command.observe(Arc::clone(observed));
        self.finish(py, &command)
    }

    fn finish(&self, py: Python<'_>, command: &Command) -> PyResult<PyExecResult> {
        self.refuse_pipe_to_nobody()?;
        let begun = self.request.begin(py)?;
        let mut run = begun.start(py, |caps| command.start(caps))?;
        loop {
            let step = py.detach(|| run.advance(Some(SIGNAL_INTERVAL)));
            if let Some(outcome) = step.transpose() {
                return begun.end(py, outcome);
            }
            if let Err(raised) = py.check_signals() {
                run.cancel();
                // Until everything is gone: whoever catches the exception can rely on that.
                py.detach(|| while let Ok(None) = run.advance(None) {});
                // What was raised says more than that its program was ended for it.
                let _ended = begun.end(py, Err(Error::Cancelled));
                return Err(raised);
            }
        }
    }

    fn refuse_pipe_to_nobody(&self) -> PyResult<()> {
        if self.command.has_stdin_pipe() {
            let message = "stdin=PIPE has nobody to write to it here: use input, \
                           or sandboxed_spawn";
            return Err(argument_error(message));
        }
        Ok(())
    }
}

/// Run a program that can touch only what `caps` grants, and wait for its end.
///
/// `stdin`, `stdout` and `stderr` are as in `subprocess`. `pty` gives the program a terminal of its
/// own, of 24 rows and 80 columns or as said. `proxy` leads it through a proxy, as
/// `caps.proxy_only(proxy)` does: all other network access is denied, and this one is granted also
/// where `caps` blocks the network; so is reading the proxy's certificates. What it leaves running
/// is killed when it ends, but for `keep_background`. With `verify`, the sandbox is tried first by
/// `caps.verify()`, and nothing runs if it fails. With `require_limits`, a limit that the kernel would not hold is an error, and nothing runs; one of
/// memory that holds for each process alone, as `result.limits` says, is none. `session` keeps a
/// record of the run in a directory of its own: `session.json`, and a log that `audit.verify_log`
/// checks. It has which file was executed and with which arguments (as they are, but for the token
/// of `proxy`), never the environment; what `proxy` was asked for, what the sandbox refused, how it
/// ended, and the snapshots that a `SnapshotManager` has made there, which may stand in place of
/// the directory. A directory holds the record of one run; the program must have no way to write to
/// it.
#[pyfunction]
#[pyo3(
    signature = (*args, **options),
    text_signature = "(caps, command, cwd=None, timeout_secs=None, env=None, inherit_env=False, \
        max_processes=None, max_cpu_seconds=None, max_file_size_bytes=None, max_open_files=None, \
        uid=None, gid=None, enforcement_mode='auto', *, max_memory_bytes=None, \
        max_output_bytes=None, input=None, stdin=None, stdout=None, stderr=None, proxy=None, \
        pty=None, keep_background=False, verify=False, require_limits=False, session=None)"
)]
pub(crate) fn sandboxed_exec(
    py: Python<'_>,
    args: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<PyExecResult> {
    call(py, "sandboxed_exec", args, options)?.get().run(py)
}

/// Makes a command of the arguments of the function `name`.
fn call<'py>(
    py: Python<'py>,
    name: &str,
    args: &Bound<'py, PyTuple>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyCommand>> {
    let made = py.get_type::<PyCommand>().call(args, options).map_err(|error| {
        // Python names what it called.
        let text = error.value(py).to_string();
        match text.strip_prefix("_Command.__new__()") {
            Some(rest) if error.is_instance_of::<PyTypeError>(py) => {
                PyTypeError::new_err(format!("{name}(){rest}"))
            }
            _ => error,
        }
    })?;
    Ok(made.cast_into::<PyCommand>()?)
}

fn build(command: Vec<OsString>, env: EnvArgument, inherit_env: bool) -> PyResult<Command> {
    let mut words = command.into_iter();
    let Some(program) = words.next() else {
        return Err(argument_error("command must not be empty"));
    };
    let mut built = Command::new(program);
    built.args(words).inherit_env(inherit_env);
    for (name, value) in env.0 {
        built.env(name, value);
    }
    Ok(built)
}

fn connect(
    command: &mut Command,
    input: Option<InputArgument>,
    [stdin, stdout, stderr]: [Option<StreamArgument>; 3],
) -> PyResult<()> {
    if input.is_some() && stdin.is_some() {
        return Err(argument_error("stdin and input may not both be used"));
    }
    if let Some(input) = input {
        command.input(input.0);
    }
    if let Some(stdin) = stdin {
        command.stdin(stdin.for_stream("stdin")?);
    }
    if let Some(stdout) = stdout {
        command.stdout(stdout.for_stream("stdout")?);
    }
    if let Some(StreamArgument(stderr)) = stderr {
        command.stderr(stderr);
    }
    Ok(())
}

impl StreamArgument {
    /// The stream that is not standard error, and so cannot go where standard output does.
    fn for_stream(self, name: &str) -> PyResult<Stdio> {
        match self.0 {
            Stdio::Stdout => {
                Err(argument_error(format!("STDOUT is for stderr only, not for {name}")))
            }
            stdio => Ok(stdio),
        }
    }
}

/// Refuses to run anything in a sandbox that lets through what it should deny.
fn verified(py: Python<'_>, caps: &CapabilitySet) -> PyResult<()> {
    let verification = py.detach(|| caps.verify()).map_err(sandbox_error)?;
    if verification.is_passed() {
        return Ok(());
    }
    let failures: Vec<String> = verification.failures().map(ToString::to_string).collect();
    let failures = failures.join("; ");
    Err(unsound(format!("the sandbox does not hold, nothing was run: {failures}")))
}

/// The modes of the interface are all the same here: Landlock and the system call filter are
/// always both in force.
fn check_mode(mode: &str) -> PyResult<()> {
    if matches!(mode, "auto" | "landlock" | "seccomp") {
        return Ok(());
    }
    let value = mode.escape_debug();
    let message =
        format!("enforcement_mode must be 'auto', 'landlock' or 'seccomp', got '{value}'");
    Err(argument_error(message))
}

fn change_ids(command: &mut Command, uid: Option<u32>, gid: Option<u32>) -> PyResult<()> {
    for (option, id) in [("uid", uid), ("gid", gid)] {
        if id == Some(0) {
            return Err(argument_error(format!("{option} must be non-zero, got 0")));
        }
        // To the kernel it means that nothing is to change.
        if id == Some(u32::MAX) {
            return Err(argument_error(format!("{option} must be below {0}, got {0}", u32::MAX)));
        }
    }
    match (uid, gid) {
        (None, None) => {}
        (Some(uid), gid) => {
            command.ids(uid, gid.unwrap_or(uid));
        }
        (None, Some(_)) => {
            let message = "gid needs uid: a group is dropped together with the user";
            return Err(argument_error(message));
        }
    }
    Ok(())
}

fn positive(option: &str, value: Option<u64>) -> PyResult<Option<u64>> {
    match value {
        Some(0) => Err(argument_error(format!("{option} must be positive, got 0"))),
        value => Ok(value),
    }
}

/// Seconds as a duration; what is longer than a duration can say is no limit at all.
fn parse_timeout(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => Err(argument_error(format!(
            "timeout_secs must be a non-negative number, got {seconds}"
        ))),
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds).ok()),
    }
}
