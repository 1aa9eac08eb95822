//! A command to run in a sandbox, and what came of it. `spawn.rs` starts it, `child.rs` holds it
//! while it runs, `run.rs` reads what it writes.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::capability::CapabilitySet;
use crate::denial::Denial;
use crate::enforcement::Enforcement;
use crate::environ::{self, Environment, Variables};
use crate::error::Error;
use crate::limits::{Limits, Mechanism};
use crate::observe::Observed;
use crate::snapshot::ContentHash;
#[cfg(target_os = "linux")]
use crate::spawn::start;
use crate::stdio::{Handle, Stdio, WindowSize};
#[cfg(target_os = "linux")]
use crate::sys::Probe;
#[cfg(not(target_os = "linux"))]
use crate::unsupported::start;
use crate::{Child, Run};

/// A program with arguments, environment and limits, to be run in a sandbox.
///
/// The child starts with an empty environment, `/dev/null` as its input, no descriptor of the
/// parent's, default signal handling, no blocked signal, and a session of its own.
#[derive(Clone, Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing runs it there"))]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) cancel: Option<Arc<Handle>>,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) input: Option<Arc<[u8]>>,
    pub(crate) terminal: Option<WindowSize>,
    pub(crate) ids: Option<(u32, u32)>,
    pub(crate) keeps_background: bool,
    #[cfg(target_os = "linux")]
    pub(crate) probe: Option<Arc<Probe>>,
    pub(crate) observed: Option<Arc<Observed>>,
    pub(crate) identifies: bool,
    pub(crate) requires_limits: bool,
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
            stdio: [Stdio::Null, Stdio::Pipe, Stdio::Pipe],
            input: None,
            terminal: None,
            ids: None,
            keeps_background: false,
            #[cfg(target_os = "linux")]
            probe: None,
            observed: None,
            identifies: false,
            requires_limits: false,
            variables: Vec::new(),
            is_inheriting: false,
        }
    }

    /// A command that executes no program: its child tries what a probe holds.
    #[cfg(target_os = "linux")]
    pub(crate) fn probe(probe: Arc<Probe>) -> Self {
        Self { probe: Some(probe), ..Self::new("sandbox-probe") }
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

    /// Kills the program and all that it has started when this time is over. Zero kills at once; a
    /// time too long for the clock is none.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = Some(timeout);
        self
    }

    /// Gives the caller a way to end the run from another thread: when `fd` becomes readable, or
    /// its other end is closed, everything is killed and [`run`](Self::run) returns
    /// [`Error::Cancelled`].
    pub fn cancel_on(&mut self, fd: impl Into<Handle>) -> &mut Self {
        self.cancel = Some(Arc::new(fd.into()));
        self
    }

    /// Sets the resource limits.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Whether a limit that would not be enforced is an error, [`Error::LimitNotHeld`], and nothing
    /// runs. Otherwise [`Output::limits`] tells of it. Not by default.
    pub fn require_limits(&mut self, require: bool) -> &mut Self {
        self.requires_limits = require;
        self
    }

    /// Whether to find out which file is executed, for [`Output::executable`]: it is read, if it is no
    /// larger than 4 GiB and as long as the time is not up, and the start waits until it has been
    /// executed. Not by default.
    pub fn identify(&mut self, identify: bool) -> &mut Self {
        self.identifies = identify;
        self
    }

    /// Sets what standard input is connected to; `/dev/null` otherwise.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        let [place, ..] = &mut self.stdio;
        *place = stdin.into();
        self
    }

    /// Sets what standard output is connected to; a pipe otherwise.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        let [_, place, _] = &mut self.stdio;
        *place = stdout.into();
        self
    }

    /// Sets what standard error is connected to; a pipe otherwise.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        let [.., place] = &mut self.stdio;
        *place = stderr.into();
        self
    }

    /// Gives the program these bytes to read from standard input, which is a file that holds them.
    pub fn input(&mut self, input: impl Into<Arc<[u8]>>) -> &mut Self {
        self.input = Some(input.into());
        self
    }

    /// Connects all three standard streams to a terminal of the program's own, of which it is the
    /// session's leader, and grants it `/dev/tty`. What it writes is standard output.
    pub fn terminal(&mut self, size: WindowSize) -> &mut Self {
        self.terminal = Some(size);
        self
    }

    /// Lets the program run as another user and group, without further groups. Needs root, and of
    /// its capabilities the one to signal processes of others (`CAP_KILL`), unless the caller has
    /// a control group to end them by. The grants are the parent's to give: their paths need not be
    /// within the user's reach.
    ///
    /// The calling process is not "dumpable" from then on: it leaves no core, and nobody but root can
    /// trace it or read its `/proc`. The kernel takes that from memory in which a process changes its
    /// user, and the program's begins in the caller's. `prctl(PR_SET_DUMPABLE, 1)` gives it back; but
    /// a process of that user could then look into the caller while any program runs as that user,
    /// whose supervisor is a thread of the caller.
    pub fn ids(&mut self, uid: u32, gid: u32) -> &mut Self {
        self.ids = Some((uid, gid));
        self
    }

    /// Whether processes that the program leaves running when it ends go on, in their sandbox,
    /// with nobody to end them. They are killed otherwise. At a timeout they always are.
    pub fn keep_background(&mut self, keep: bool) -> &mut Self {
        self.keeps_background = keep;
        self
    }

    /// Notes what the program and all that it starts do, instead of judging addresses: to learn
    /// what to grant. A way to look, and no boundary: whatever the set grants is let through, and
    /// what is noted can be deceived by a program that means to. The set's network must be open.
    pub fn observe(&mut self, observed: Arc<Observed>) -> &mut Self {
        self.observed = Some(observed);
        self
    }

    /// Whether standard input is a pipe, for which only [`spawn`](Self::spawn) has an end to give.
    pub fn has_stdin_pipe(&self) -> bool {
        matches!(self.stdio, [Stdio::Pipe, ..])
    }

    /// Runs the command in a sandbox of `caps` and waits for it.
    ///
    /// The call returns when the program has ended, and with it all that it started, whoever holds
    /// a pipe open.
    ///
    /// # Errors
    ///
    /// Those of the arguments (see [`Error::is_bad_argument`]), of the search for the program, of
    /// building the rules, and [`Error::Spawn`] if a step before the first instruction of the
    /// program failed: a program that did not run is never reported as an exit code.
    pub fn run(&self, caps: &CapabilitySet) -> Result<Output, Error> {
        let mut run = self.start(caps)?;
        loop {
            if let Some(output) = run.advance(None)? {
                return Ok(output);
            }
        }
    }

    /// Starts the command in a sandbox of `caps`, for its output to be collected while the caller
    /// does something else. It may not have begun when this returns; that it could not is told by
    /// [`Run::advance`].
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run), but for the steps in the new process.
    pub fn start(&self, caps: &CapabilitySet) -> Result<Run, Error> {
        let child = start(self, caps, false)?;
        Ok(Run::new(child, self.limits.max_output_bytes, self.cancel.clone()))
    }

    /// Starts the command in a sandbox of `caps` and hands over its streams. It may not have begun
    /// when this returns; that it could not is told by [`Child::try_begun`].
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run), but for the steps in the new process.
    pub fn spawn(&self, caps: &CapabilitySet) -> Result<Child, Error> {
        start(self, caps, true)
    }

    /// The child's environment.
    pub(crate) fn environment(&self) -> Result<Environment, Error> {
        environ::build(self.is_inheriting, &self.variables)
    }
}

/// The search path among a child's variables.
pub(crate) fn search_path(variables: &Variables) -> Option<&OsStr> {
    variables.get(OsStr::new("PATH")).map(OsString::as_os_str)
}

/// A file that was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executable {
    /// Where it was, without symbolic links.
    pub path: PathBuf,
    /// The SHA-256 of its content.
    pub sha256: ContentHash,
}

/// What came of a command that did start.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
pub struct Output {
    /// What was written to standard output, up to the limit. Empty if it was not collected.
    pub stdout: Vec<u8>,
    /// What was written to standard error, up to the limit. Empty if it was not collected.
    pub stderr: Vec<u8>,
    /// Whether some output was dropped for the limit.
    pub truncated: bool,
    /// The program's exit code, `-N` if signal `N` ended it, 124 if the time was up.
    pub exit_code: i32,
    /// The signal that ended the program.
    pub signal: Option<i32>,
    /// Whether the time was up; tells our 124 from the program's own.
    pub timed_out: bool,
    /// From the call to the end of all processes.
    pub duration: Duration,
    /// Processor time of the program and all its descendants.
    pub cpu_time: Duration,
    /// Bytes of memory at the peak. Where [`limits`](Self::limits) has memory limited by a control
    /// group, that of all processes together. Else the resident memory of the largest, if it was
    /// larger than the caller's own at its peak: below that the kernel cannot tell the two apart.
    pub max_rss: Option<u64>,
    /// Whether all was killed because it used more memory than [`Limits::max_memory_bytes`]. Known
    /// where a control group limits that; without one a program is refused memory instead.
    pub oom_killed: bool,
    /// Whether the program was killed when about as much processor time as
    /// [`Limits::max_cpu_seconds`] had been used: the kernel does not say why it kills.
    pub cpu_limited: bool,
    /// Whether a process that was killed had not ended yet when the run was over. Only one that
    /// the kernel itself cannot end, or one that [`Command::keep_background`] let go on.
    pub left_running: bool,
    /// The program's process number while it ran; 0 if it was not told.
    pub number: i32,
    /// Which file was executed, if [`Command::identify`] asked for it: it could be read, and was the
    /// same before and after, as far as the file system tells. A script is read again by its
    /// interpreter, and whoever has the file mapped to write may change it unseen: it is for certain
    /// only if nobody but the caller may write it.
    pub executable: Option<Executable>,
    /// What a supervisor has refused it, in the order of the first time.
    pub denials: Vec<Denial>,
    /// What was enforced on it.
    pub enforcement: Enforcement,
    /// By what each limit was enforced, by the name of its field in [`Limits`].
    pub limits: Vec<(&'static str, Mechanism)>,
    /// Variables that [`Command::inherit_env`] did not hand on, because they steer the dynamic
    /// loader.
    pub dropped_variables: Vec<OsString>,
}
