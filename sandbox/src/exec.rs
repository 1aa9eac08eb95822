//! A command to run in a sandbox, and what came of it. `spawn.rs` starts it, `collect.rs` reads it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::capability::CapabilitySet;
use crate::enforcement::Enforcement;
use crate::environ::{self, Variables};
use crate::error::Error;
use crate::spawn;

/// A program with arguments, environment and limits, to be run in a sandbox.
///
/// The child starts with an empty environment, `/dev/null` as its input, no descriptor of the
/// parent's, default signal handling, no blocked signal, and a session of its own.
#[derive(Clone, Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing runs it there"))]
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) cancel: Option<Arc<OwnedFd>>,
    variables: Vec<(OsString, OsString)>,
    is_inheriting: bool,
}

impl Command {
    /// A command without arguments.
    ///
    /// A program with a slash is a path, relative to the child's working directory. Any other is
    /// searched in the child's `PATH` or, if the child has none, in the parent's.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            timeout: None,
            limits: Limits::default(),
            cancel: None,
            variables: Vec::new(),
            is_inheriting: false,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<I>(&mut self, args: I) -> &mut Self
    where
        I: IntoIterator<Item: Into<OsString>>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the working directory; the parent's is kept otherwise. It need not be granted, but
    /// what is not granted cannot be read there.
    pub fn cwd(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.cwd = Some(path.as_ref().to_owned());
        self
    }

    /// Sets an environment variable; the last of a name wins.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets environment variables.
    pub fn envs<N, V>(&mut self, variables: impl IntoIterator<Item = (N, V)>) -> &mut Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let pairs = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.variables.extend(pairs);
        self
    }

    /// Whether the child also gets the parent's environment, under what was set explicitly and
    /// without the variables that steer the dynamic loader. Not by default.
    pub fn inherit_env(&mut self, inherit: bool) -> &mut Self {
        self.is_inheriting = inherit;
        self
    }

    /// Kills the child when it has run this long. Zero kills it at once; a time too long for the
    /// clock is none.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = Some(timeout);
        self
    }

    /// Gives the caller a way to end the run from another thread: when `fd` becomes readable, or
    /// its other end is closed, the child is killed and the run returns [`Error::Cancelled`].
    pub fn cancel_on(&mut self, fd: impl Into<OwnedFd>) -> &mut Self {
        self.cancel = Some(Arc::new(fd.into()));
        self
    }

    /// Sets the resource limits.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Runs the command in a sandbox of `caps` and waits for it.
    ///
    /// The call blocks its thread until the child itself has ended, and then takes what is in the
    /// pipes: it never waits for a background process that holds them open. Whatever is left of
    /// the child's process group is killed; at a timeout, its whole session is.
    ///
    /// # Errors
    ///
    /// Those of the arguments (see [`Error::is_bad_argument`]), of the search for the program, of
    /// building the rules, and [`Error::Spawn`] if a step before the first instruction of the
    /// program failed: a program that did not run is never reported as an exit code.
    pub fn run(&self, caps: &CapabilitySet) -> Result<Output, Error> {
        spawn::run(self, caps)
    }

    /// The child's environment.
    pub(crate) fn environment(&self) -> Result<Variables, Error> {
        environ::build(self.is_inheriting, &self.variables)
    }
}

/// The search path among a child's variables.
pub(crate) fn search_path(variables: &Variables) -> Option<&OsStr> {
    variables.get(OsStr::new("PATH")).map(OsString::as_os_str)
}

/// What a sandboxed program may use up. A limit above the parent's own leaves the parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads of the child's **user**, all of them together (`RLIMIT_NPROC`). The
    /// kernel does not hold root to it.
    pub max_processes: Option<u64>,
    /// Seconds of processor time of each process; it is killed after that.
    pub max_cpu_seconds: Option<u64>,
    /// Bytes of the largest file a process may write; a write beyond raises `SIGXFSZ`.
    pub max_file_size_bytes: Option<u64>,
    /// Descriptors each process may have.
    pub max_open_files: Option<u64>,
    /// Bytes kept of standard output and of standard error, each. The rest is read and dropped,
    /// so that the program does not block, and [`Output::truncated`] says so.
    pub max_output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_processes: None,
            max_cpu_seconds: None,
            max_file_size_bytes: None,
            max_open_files: None,
            max_output_bytes: 64 << 20,
        }
    }
}

/// What came of a command that did start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// What was written to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What was written to standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// The program's exit code, `-N` if signal `N` ended it, 124 if the time was up.
    pub exit_code: i32,
    /// Whether the time was up; tells our 124 from the program's own.
    pub timed_out: bool,
    /// Whether some output was dropped for the limit.
    pub truncated: bool,
    /// From the call to the end of the child.
    pub duration: Duration,
    /// What was enforced on it.
    pub enforcement: Enforcement,
}
