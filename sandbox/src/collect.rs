//! Stays with a running child: reads both pipes, waits for its end and keeps its deadline, all in
//! one `poll`, then clears up. No path out of here leaves a zombie.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread, read, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use crate::error::Error;
use crate::sys;

/// Bytes taken from a pipe at a time: what a pipe holds by default.
const CHUNK: usize = 64 << 10;
/// The longest single wait; a later deadline is waited for in turns.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// How often the session is looked through for processes that were forked meanwhile.
const SESSION_ROUNDS: usize = 16;

/// What came of a child.
#[derive(Debug)]
pub(crate) struct End {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
    pub timed_out: bool,
    pub truncated: bool,
}

/// A running child, the leader of its session. It is killed and waited for when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Option<Pid>,
    pidfd: OwnedFd,
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid: Pid::from_raw(pid), pidfd }
    }

    /// Kills the child and its process group.
    ///
    /// To be called before the child is waited for: until then its number, and so the group's,
    /// belongs to nobody else.
    fn kill_group(&self) {
        // Both fail only if there is nobody left to kill.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Kills what is in the child's session but in a group of its own, such as the jobs of an
    /// interactive shell. Also to be called before the child is waited for.
    fn kill_session(&self) {
        let Some(session) = self.pid else { return };
        for _ in 0..SESSION_ROUNDS {
            let found = members(session).filter(|pid| kill_member(*pid, session)).count();
            if found == 0 {
                return;
            }
        }
    }

    fn reap(&self) -> Result<Option<WaitIdStatus>, Errno> {
        let child = || waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        retry_on_intr(child)
    }

    /// Waits for the child's end and gives its exit code, or `-N` for signal `N`.
    fn wait(mut self) -> Result<i32, Error> {
        self.pid = None;
        let status = match self.reap() {
            Ok(status) => return Ok(status.map_or(0, |status| exit_code(&status))),
            // Somebody else has waited for all children there were, or ignores them.
            Err(Errno::CHILD) => sys::status_of_reaped(self.pidfd.as_fd()),
            Err(error) => Err(error.into()),
        };
        let status = status.map_err(|source| Error::Watch { syscall: "waitid", source })?;
        let status = ExitStatus::from_raw(status);
        Ok(status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap_or(0))
    }
}

fn exit_code(status: &WaitIdStatus) -> i32 {
    let killed_by = status.terminating_signal().map(|signal| -signal);
    killed_by.or_else(|| status.exit_status()).unwrap_or(0)
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pid.is_some() {
            self.kill_group();
            let _ = self.reap();
        }
    }
}

/// What ends a run besides the child's own end, and what is kept of it.
#[derive(Debug)]
pub(crate) struct Bounds<'a> {
    /// Bytes kept of each stream.
    pub room: u64,
    /// When the child is killed.
    pub deadline: Option<Instant>,
    /// Becomes readable when the child is to be killed.
    pub cancel: Option<&'a OwnedFd>,
}

/// Why a child is no longer waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Exit,
    Deadline,
    Cancel,
}

/// Reads `streams` (output, error) until `child` ends or a bound is met, and clears up.
pub(crate) fn collect(
    child: Child,
    streams: [OwnedFd; 2],
    bounds: &Bounds<'_>,
) -> Result<End, Error> {
    let mut streams = streams.map(|fd| Stream::new(fd, bounds.room));
    let mut chunk = vec![0; CHUNK];
    let cause = watch(&child, &mut streams, &mut chunk, bounds)?;
    child.kill_group();
    if cause != Cause::Exit {
        child.kill_session();
    }
    for stream in &mut streams {
        stream.take_available(&mut chunk).map_err(read_error)?;
    }
    let exit_code = child.wait()?;
    if cause == Cause::Cancel {
        return Err(Error::Cancelled);
    }
    let [stdout, stderr] = streams;
    Ok(End {
        truncated: stdout.is_truncated || stderr.is_truncated,
        stdout: stdout.bytes,
        stderr: stderr.bytes,
        exit_code,
        timed_out: cause == Cause::Deadline,
    })
}

/// Reads until there is a cause to stop.
fn watch(
    child: &Child,
    streams: &mut [Stream; 2],
    chunk: &mut [u8],
    bounds: &Bounds<'_>,
) -> Result<Cause, Error> {
    loop {
        // Looked at in every turn, since a child that never stops writing keeps `poll` from
        // ever timing out.
        let wait = remaining(bounds.deadline);
        if wait == Some(Duration::ZERO) {
            return Ok(Cause::Deadline);
        }
        let ready = wait_ready(child, bounds.cancel, streams, wait)?;
        if ready.child {
            return Ok(Cause::Exit);
        }
        if ready.cancel {
            return Ok(Cause::Cancel);
        }
        for (stream, is_ready) in streams.iter_mut().zip(ready.streams) {
            if is_ready {
                stream.take(chunk).map_err(read_error)?;
            }
        }
    }
}

fn remaining(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).min(LONGEST_WAIT))
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    child: bool,
    cancel: bool,
    streams: [bool; 2],
}

fn wait_ready(
    child: &Child,
    cancel: Option<&OwnedFd>,
    streams: &[Stream; 2],
    wait: Option<Duration>,
) -> Result<Ready, Error> {
    let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
    let [stdout, stderr] = streams.each_ref().map(|stream| stream.fd.as_ref());
    let watched = [Some(&child.pidfd), cancel, stdout, stderr];
    let mut fds: Vec<_> =
        watched.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    match poll(&mut fds, timeout.as_ref()) {
        // Interrupted: the caller computes the time left anew.
        Ok(0) | Err(Errno::INTR) => return Ok(Ready::default()),
        Ok(_) => {}
        Err(error) => {
            return Err(Error::Watch { syscall: "poll", source: error.into() });
        }
    }
    let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
    let [child, cancel, stdout, stderr] =
        watched.map(|fd| fd.is_some() && events.next().unwrap_or(false));
    Ok(Ready { child, cancel, streams: [stdout, stderr] })
}

/// One of the child's outputs and what has been read of it.
struct Stream {
    fd: Option<OwnedFd>,
    bytes: Vec<u8>,
    room: usize,
    is_truncated: bool,
}

impl Stream {
    fn new(fd: OwnedFd, room: u64) -> Self {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Self { fd: Some(fd), bytes: Vec::new(), room, is_truncated: false }
    }

    /// Reads once, closes at the end of the pipe, and gives the number of bytes read.
    fn take(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        let Some(fd) = &self.fd else { return Ok(0) };
        let length = match read(fd, &mut *chunk) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            self.fd = None;
        }
        let kept = length.min(self.room);
        self.bytes.extend(chunk.iter().take(kept));
        self.room -= kept;
        self.is_truncated |= kept < length;
        Ok(length)
    }

    /// Reads what is in the pipe at this moment and no more: another holder could go on writing
    /// for ever.
    fn take_available(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        let mut left = usize::try_from(ioctl_fionread(fd)?).unwrap_or(usize::MAX);
        while left > 0 {
            let most = left.min(chunk.len());
            let Some(part) = chunk.get_mut(..most) else {
                return Ok(());
            };
            match self.take(part)? {
                0 => return Ok(()),
                length => left -= length,
            }
        }
        Ok(())
    }
}

fn read_error(source: io::Error) -> Error {
    Error::Watch { syscall: "read", source }
}

/// The processes of a session but for its leader, as far as `/proc` shows them.
fn members(session: Pid) -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(move |pid| *pid != session && session_of(*pid) == Some(session))
}

/// Kills a process if it is in the session, and tells whether it was alive to be killed. The
/// process is taken hold of first and looked at then, so that no other can take its number
/// in between.
fn kill_member(pid: Pid, session: Pid) -> bool {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    session_of(pid) == Some(session) && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
}

/// The session of a process that has not ended.
fn session_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The program's name comes second, in parentheses, and may contain any of both.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    Pid::from_raw(fields.nth(2)?.parse().ok()?)
}
