//! A program that runs in a sandbox, as its caller holds it: its streams, its beginning, its end.

use std::ffi::OsString;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::denial::Denials;
use crate::enforcement::Enforcement;
use crate::error::{Error, Step};
use crate::exec::{Executable, Output};
use crate::executable::Candidate;
use crate::limits::Mechanism;
use crate::run::LONGEST_WAIT;
use crate::stdio::{Ends, WindowSize, resize};
use crate::supervisor::{Ready, Supervision};
use crate::sys::{Begun, Cause, Ended, Failure, Report, Tree};

/// The exit code reported when the time was up.
const TIMED_OUT: i32 = 124;
/// How much longer than it may a tree's end is waited for before it is given up.
const GRACE: Duration = Duration::from_secs(4);

/// A program that runs in a sandbox, or is about to. Dropped, it is killed with all that it has
/// started.
#[derive(Debug)]
pub struct Child {
    /// Writes to the program's standard input, without blocking, if that is a pipe or a terminal.
    pub stdin: Option<OwnedFd>,
    /// Reads the program's standard output, without blocking, if that is a pipe or a terminal.
    pub stdout: Option<OwnedFd>,
    /// Reads the program's standard error, without blocking, if that is a pipe of its own.
    pub stderr: Option<OwnedFd>,
    tree: Tree,
    facts: Facts,
    /// The program's number once it is known.
    number: Option<i32>,
    /// When the end is not waited for any longer.
    overdue: Option<Instant>,
    /// What was executed, if that was asked for and is known.
    executable: Option<Executable>,
    /// To be kept until the end.
    held: Vec<OwnedFd>,
    /// What has been refused.
    denials: Arc<Denials>,
    /// Starts `supervision` when it is needed.
    ready: Option<Ready>,
    /// Answers the program's calls while it is kept.
    supervision: Option<Supervision>,
}

/// What is known of a program before it has begun.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub start: Instant,
    pub deadline: Option<Instant>,
    pub program: PathBuf,
    pub directory: Option<PathBuf>,
    pub enforcement: Enforcement,
    pub limits: Vec<(&'static str, Mechanism)>,
    pub cpu_limit: Option<Duration>,
    pub dropped_variables: Vec<OsString>,
    pub keeps_background: bool,
}

impl Facts {
    /// The error of a step, with the path that the step was about.
    pub(crate) fn failure(&self, failure: Failure) -> Error {
        let path = match failure.step {
            Step::Execute => {
                // From the caller's working directory, as the directory is.
                Some(self.directory.clone().unwrap_or_default().join(&self.program))
            }
            Step::WorkingDirectory => self.directory.clone(),
            _ => None,
        };
        let source = io::Error::from_raw_os_error(failure.errno);
        Error::Spawn { step: failure.step, path, source }
    }
}

impl Child {
    pub(crate) fn new(tree: Tree, ends: Ends, facts: Facts) -> Self {
        let overdue = facts.deadline.and_then(|deadline| deadline.checked_add(GRACE));
        let Ends { stdin, stdout, stderr, .. } = ends;
        Self {
            stdin,
            stdout,
            stderr,
            tree,
            facts,
            number: None,
            overdue,
            executable: None,
            held: Vec::new(),
            denials: Arc::default(),
            ready: None,
            supervision: None,
        }
    }

    /// The program's process number, which is also its group's and its session's; zero until it is
    /// known to have begun.
    pub fn number(&self) -> i32 {
        self.number.unwrap_or(0)
    }

    /// Becomes readable when [`try_begun`](Self::try_begun) has an answer, unless that is for want of
    /// [`patience`](Self::patience). None when it has given one, or all has ended.
    pub fn begun_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.number.is_some() { None } else { self.tree.started() }
    }

    /// Becomes readable when the program and all that it started have ended, so that
    /// [`wait`](Self::wait) does not block, unless that is for want of [`patience`](Self::patience).
    /// None after that.
    pub fn ended_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tree.ended()
    }

    /// Whether the program has begun, without waiting for that. Only a program that was started by
    /// [`Command::spawn`](crate::Command::spawn) tells.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] if it could not begin, and [`Error::Watch`] or [`Error::LeftRunning`] if its
    /// end is overdue.
    pub fn try_begun(&mut self) -> Result<bool, Error> {
        if self.number.is_some() {
            return Ok(true);
        }
        match self.tree.recv_started() {
            Begun::NotYet if self.patience() == Some(Duration::ZERO) => Err(self.abandon()),
            Begun::NotYet => Ok(false),
            Begun::As(number) => {
                self.number = Some(number);
                Ok(true)
            }
            // It has ended without a beginning.
            Begun::Never => self.wait().map(|_| true),
        }
    }

    /// Waits until the program has begun.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] if it could not begin, [`Error::Watch`] and [`Error::LeftRunning`].
    pub fn wait_begun(&mut self) -> Result<(), Error> {
        while !self.try_begun()? {
            let Some(fd) = self.tree.started() else { return Ok(()) };
            is_readable(fd, self.patience())?;
        }
        Ok(())
    }

    /// Waits for the program and all that it started. The streams are not read meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] if it could not begin, and [`Error::Watch`] or [`Error::LeftRunning`] if it is
    /// not known any more what became of it: its supervisor was killed, its end is overdue, or this is
    /// called again.
    pub fn wait(&mut self) -> Result<Output, Error> {
        if let Some(fd) = self.tree.ended() {
            let mut patience = self.patience();
            while !is_readable(fd, patience)? {
                if patience == Some(Duration::ZERO) {
                    return Err(self.abandon());
                }
                patience = self.patience();
            }
        }
        match self.tree.wait() {
            Ok(report) => Ok(self.output(&report)),
            Err(Ended::Failed(failure)) => Err(self.facts.failure(failure)),
            Err(Ended::Lost(errno)) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(Error::Watch { syscall: "waitid", source })
            }
            Err(Ended::Loose) => {
                Err(Error::LeftRunning { source: io::Error::from_raw_os_error(libc::ESRCH) })
            }
        }
    }

    /// Has the program and all that it started killed, without waiting for it.
    pub fn kill(&mut self) {
        self.tree.kill();
        self.overdue = Some(Instant::now() + GRACE);
    }

    /// Has a signal sent to the program alone. Does nothing when it has ended, or if the signal is
    /// zero, which is none.
    pub fn signal(&self, signal: u8) {
        if let Some(signal) = NonZero::new(signal) {
            self.tree.signal(signal);
        }
    }

    /// Changes the size of the program's terminal.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if it has none, or what the kernel says.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let terminal = self.stdout.as_ref().or(self.stdin.as_ref());
        let terminal = terminal.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTTY))?;
        resize(terminal.as_fd(), size)
    }

    /// Has the program's calls answered until the end, by a supervisor that [`serve`](Self::serve)
    /// starts when [`called_fd`](Self::called_fd) tells of the first.
    pub(crate) fn supervise(&mut self, ready: Ready) {
        self.denials = ready.denials();
        self.ready = Some(ready);
    }

    /// Becomes readable when a call waits for a supervisor that has not been started.
    pub(crate) fn called_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ready.as_ref().map(Ready::called)
    }

    /// Starts the supervisor, unless it is at work or there is none.
    ///
    /// # Errors
    ///
    /// Those of making a pipe and a thread.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        if let Some(ready) = self.ready.take() {
            self.supervision = Some(ready.serve()?);
        }
        Ok(())
    }

    /// Waits until the program has begun, and notes whether it is the `candidate`.
    ///
    /// # Errors
    ///
    /// Those of [`wait_begun`](Self::wait_begun).
    pub(crate) fn identify(&mut self, candidate: &Candidate) -> Result<(), Error> {
        self.wait_begun()?;
        self.executable = candidate.confirm();
        Ok(())
    }

    /// Keeps descriptors open until the end.
    pub(crate) fn hold(&mut self, held: Vec<OwnedFd>) {
        self.held = held;
    }

    /// How much longer the end may be waited for, for ever if none: a while more than the program
    /// has, and a while from [`kill`](Self::kill) on. After that who asks for the beginning or the end
    /// is told that it is overdue: something keeps what ends the program from that.
    pub fn patience(&self) -> Option<Duration> {
        self.overdue.map(|overdue| overdue.saturating_duration_since(Instant::now()))
    }

    /// Gives up waiting, and kills what can be killed.
    pub(crate) fn abandon(&self) -> Error {
        let is_ended = self.tree.abandon();
        let source = io::ErrorKind::TimedOut.into();
        if is_ended {
            Error::Watch { syscall: "waitid", source }
        } else {
            Error::LeftRunning { source }
        }
    }

    fn output(&mut self, report: &Report) -> Output {
        let facts = self.facts.clone();
        let status = ExitStatus::from_raw(report.status);
        let timed_out = report.cause == Cause::Deadline;
        let own_code = status.code().or_else(|| status.signal().map(|signal| -signal));
        let mut enforcement = facts.enforcement;
        if !report.is_reached {
            enforcement.missing.push("the end of processes that leave the program's group");
        }
        let keeps_some = facts.keeps_background && report.cause == Cause::Exit;
        Output {
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: false,
            exit_code: if timed_out { TIMED_OUT } else { own_code.unwrap_or(0) },
            signal: status.signal(),
            timed_out,
            duration: facts.start.elapsed(),
            cpu_time: report.cpu_time,
            max_rss: report.usage.peak.or(report.max_rss),
            oom_killed: report.usage.is_oom_killed,
            cpu_limited: is_cpu_limited(report, facts.cpu_limit),
            number: self.number(),
            executable: self.executable.clone(),
            denials: self.denials.take(),
            left_running: !report.is_clear && !keeps_some,
            enforcement,
            limits: facts.limits,
            dropped_variables: facts.dropped_variables,
        }
    }
}

/// Whether a program's end looks like that of its processor time: the kernel kills it then, and does
/// not say why. It counts time by its ticks, and tells of it by the clock.
fn is_cpu_limited(report: &Report, limit: Option<Duration>) -> bool {
    let is_killed = ExitStatus::from_raw(report.status).signal() == Some(libc::SIGKILL);
    let is_used = limit.is_some_and(|limit| report.cpu_time >= limit / 4 * 3);
    report.cause == Cause::Exit && is_killed && is_used && !report.usage.is_oom_killed
}

/// Waits for a descriptor to become readable, and tells whether it is: false if the time was up or a
/// signal handler has run.
fn is_readable(fd: BorrowedFd<'_>, within: Option<Duration>) -> Result<bool, Error> {
    let timeout = within.map(|within| within.min(LONGEST_WAIT));
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(Error::Watch { syscall: "poll", source: error.into() }),
    }
}

#[cfg(test)]
mod tests;
