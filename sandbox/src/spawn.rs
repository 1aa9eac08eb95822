//! Runs a command: everything the child needs is made here, in the parent, before there is a
//! child; then `sys` starts it, and `collect.rs` stays with it to the end.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, getrlimit};

use crate::apply::report;
use crate::capability::CapabilitySet;
use crate::collect::{Bounds, Child, collect};
use crate::environ::Variables;
use crate::error::{Error, Step};
use crate::exec::{Command, Limits, Output, search_path};
use crate::landlock::{ChildRuleset, Landlock};
use crate::lookup::{self, Program};
use crate::own_proc::OwnPath;
use crate::privilege::KEPT;
use crate::{filter, sys};

/// The exit code reported when the time was up.
const TIMED_OUT: i32 = 124;
/// Descriptors below this one are the standard streams.
const FIRST_FREE: i32 = 3;

/// Runs `command` in a sandbox of `caps` and waits for it.
pub(crate) fn run(command: &Command, caps: &CapabilitySet) -> Result<Output, Error> {
    let start = Instant::now();
    let landlock = Landlock::detect()?;
    let Started { child, streams, held } = start_child(command, caps, landlock)?;
    // A time beyond the clock's range never comes.
    let deadline = command.timeout.and_then(|timeout| start.checked_add(timeout));
    let end = collect(
        child,
        streams,
        &Bounds {
            room: command.limits.max_output_bytes,
            deadline,
            cancel: command.cancel.as_deref(),
        },
    )?;
    drop(held);
    Ok(Output {
        exit_code: if end.timed_out { TIMED_OUT } else { end.exit_code },
        stdout: end.stdout,
        stderr: end.stderr,
        timed_out: end.timed_out,
        truncated: end.truncated,
        duration: start.elapsed(),
        enforcement: report(landlock, caps),
    })
}

/// A child that executes its program.
struct Started {
    child: Child,
    /// The parent's ends of standard output and error.
    streams: [OwnedFd; 2],
    /// To be kept until the child has ended.
    held: Vec<OwnedFd>,
}

fn start_child(
    command: &Command,
    caps: &CapabilitySet,
    landlock: Landlock,
) -> Result<Started, Error> {
    let image = Image::new(command)?;
    let ChildRuleset { ruleset, own } = landlock.child_ruleset(caps)?;
    let filter = filter::filter(caps)?;
    let pipes = Pipes::new(ruleset).map_err(|source| image.failure(Step::Pipes, source))?;
    let spawned = sys::spawn(&sys::Plan {
        program: &image.program,
        argv: &image.argv,
        envp: &image.envp,
        cwd: image.cwd.as_deref(),
        stdio: pipes.stdio(),
        ruleset: pipes.ruleset.as_fd(),
        filter: &filter,
        capabilities: KEPT,
        own_rules: &own_rules(&own)?,
        limits: &resource_limits(&command.limits),
    })
    .map_err(|failure| image.failure(failure.step, io::Error::from_raw_os_error(failure.errno)))?;
    let child = Child::new(spawned.pid, spawned.pidfd);
    Ok(Started { child, streams: pipes.into_parents(), held: hold(&own, spawned.pid) })
}

fn own_rules(own: &[(OwnPath, u64)]) -> Result<Vec<sys::OwnRule>, Error> {
    let rule = |(path, rights): &(OwnPath, u64)| {
        let path = c_string(path.of_self().as_os_str(), "a granted path")?;
        Ok(sys::OwnRule { path, rights: *rights })
    };
    own.iter().map(rule).collect()
}

/// Keeps a child's own grants alive until it ends. A rule belongs to the kernel's object of the
/// moment, and `/proc` makes new ones after memory has run short, unless one is held open.
fn hold(own: &[(OwnPath, u64)], pid: i32) -> Vec<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    own.iter()
        // One that cannot be opened has ended, or loses its grant: never more than it has.
        .filter_map(|(path, _)| rustix::fs::open(path.of(pid), flags, Mode::empty()).ok())
        .collect()
}

/// The program and its surroundings, as the kernel takes them.
struct Image {
    path: PathBuf,
    directory: Option<PathBuf>,
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    cwd: Option<CString>,
}

impl Image {
    fn new(command: &Command) -> Result<Self, Error> {
        let variables = command.environment()?;
        let program_name = c_string(&command.program, "the program")?;
        let cwd = command.cwd.as_deref();
        let c_cwd = cwd.map(|path| c_string(path.as_os_str(), "the working directory"));
        let Program { path, argv0 } =
            lookup::find(OsStr::from_bytes(program_name.as_bytes()), cwd, search_path(&variables))?;
        let mut argv = vec![c_string(&argv0, "the program")?];
        for arg in &command.args {
            argv.push(c_string(arg, "an argument")?);
        }
        Ok(Self {
            program: c_string(path.as_os_str(), "the program")?,
            path,
            directory: command.cwd.clone(),
            argv,
            envp: environment(&variables)?,
            cwd: c_cwd.transpose()?,
        })
    }

    /// The error of a step, with the path the step was about.
    fn failure(&self, step: Step, source: io::Error) -> Error {
        let path = match step {
            Step::Execute => Some(self.path.clone()),
            Step::WorkingDirectory => self.directory.clone(),
            _ => None,
        };
        Error::Spawn { step, path, source }
    }
}

fn environment(variables: &Variables) -> Result<Vec<CString>, Error> {
    let entry = |(name, value): (&OsString, &OsString)| {
        let mut line = name.clone();
        line.push("=");
        line.push(value);
        c_string(&line, "an environment variable")
    };
    variables.iter().map(entry).collect()
}

fn c_string(value: &OsStr, what: &'static str) -> Result<CString, Error> {
    CString::new(value.as_bytes()).map_err(|_| Error::NulByte { what })
}

/// A pipe from the child to the parent.
struct Pipe {
    parent: OwnedFd,
    child: OwnedFd,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (parent, child) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only our end: a program does not expect its output not to block.
        rustix::io::ioctl_fionbio(&parent, true)?;
        Ok(Self { parent, child: beyond_stdio(child)? })
    }
}

/// The descriptors that the child takes with it or needs on its way.
struct Pipes {
    null: OwnedFd,
    stdout: Pipe,
    stderr: Pipe,
    ruleset: OwnedFd,
}

impl Pipes {
    fn new(ruleset: Option<OwnedFd>) -> io::Result<Self> {
        // The `landlock` crate gives no descriptor only for a kernel without Landlock.
        let ruleset = ruleset.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self {
            null: beyond_stdio(no_input()?)?,
            stdout: Pipe::new()?,
            stderr: Pipe::new()?,
            ruleset: beyond_stdio(ruleset)?,
        })
    }

    /// What becomes the child's standard streams.
    fn stdio(&self) -> [BorrowedFd<'_>; 3] {
        [self.null.as_fd(), self.stdout.child.as_fd(), self.stderr.child.as_fd()]
    }

    /// Closes the child's ends, so that the pipes end when the child's do.
    fn into_parents(self) -> [OwnedFd; 2] {
        [self.stdout.parent, self.stderr.parent]
    }
}

/// Something to read that is at its end. In a parent that is itself sandboxed without `/dev/null`,
/// a pipe that nobody writes to does as well.
fn no_input() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let pipe = |_| pipe_with(PipeFlags::CLOEXEC).map(|(reader, _)| reader);
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty()).or_else(pipe)?)
}

/// Moves a descriptor out of the way of the standard streams. A parent that has closed its own
/// gets their numbers for what it opens next, and the child would then overwrite one by another.
fn beyond_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    if fd.as_raw_fd() >= FIRST_FREE {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_FREE)?)
}

/// The limits as the kernel takes them: never above what the parent has, which an ordinary user
/// could not set anyway.
fn resource_limits(limits: &Limits) -> Vec<sys::ResourceLimit> {
    let asked = [
        (libc::RLIMIT_NPROC, Resource::Nproc, limits.max_processes),
        (libc::RLIMIT_CPU, Resource::Cpu, limits.max_cpu_seconds),
        (libc::RLIMIT_FSIZE, Resource::Fsize, limits.max_file_size_bytes),
        (libc::RLIMIT_NOFILE, Resource::Nofile, limits.max_open_files),
    ];
    let mut set = Vec::with_capacity(asked.len());
    for (number, resource, value) in asked {
        if let Some(value) = value {
            let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            set.push(sys::ResourceLimit { resource: number, value: value.min(most) });
        }
    }
    set
}
