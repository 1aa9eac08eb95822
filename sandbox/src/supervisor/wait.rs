//! Connections that may take their time. How long a blocking socket waits is its own setting; it
//! is lent for the length of each attempt, so that the supervisor comes back to see whether
//! anybody still waits.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};
use rustix::net::{SocketAddrUnix, connect, getsockname};

use super::Supervisor;
use super::subject::Subject;
use crate::sys::Notification;

/// The first attempt, for which all other calls of the sandbox wait.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Each later one.
const SLICE: Duration = Duration::from_millis(100);

/// What is connected to.
#[derive(Debug)]
pub(super) enum Target {
    Internet(SocketAddr),
    /// The socket's file, held open so that its name says nothing any more.
    Unix(OwnedFd),
    /// The listening socket whose name is connected to, held open so that no other takes it.
    Named(OwnedFd),
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Progress {
    Ended(Result<(), Errno>),
    Waits(Connecting),
}

/// A connection on its way.
#[derive(Debug)]
pub(super) struct Connecting {
    subject: Subject,
    target: Target,
    is_blocking: bool,
    /// How long the socket itself would wait, and since when.
    patience: Option<Duration>,
    since: Instant,
}

impl Connecting {
    pub(super) fn new(subject: Subject, target: Target) -> Result<Self, Errno> {
        let is_blocking = !fcntl_getfl(subject.socket())?.contains(OFlags::NONBLOCK);
        let patience = socket_timeout(subject.socket(), Timeout::Send)?;
        Ok(Self { subject, target, is_blocking, patience, since: Instant::now() })
    }

    /// Attempts the connection for a moment.
    pub(super) fn begin(
        self,
        supervisor: &Supervisor,
        call: &Notification,
    ) -> Result<Progress, Errno> {
        if !self.is_blocking {
            let result = self.connect();
            if matches!(result, Ok(()) | Err(Errno::INPROGRESS)) {
                self.subject.settle(supervisor, call)?;
            }
            return Ok(Progress::Ended(result));
        }
        match self.attempt(AT_ONCE)? {
            None => Ok(Progress::Waits(self)),
            Some(result) => Ok(Progress::Ended(self.settled(result, supervisor, call))),
        }
    }

    /// Attempts it until it has come about or failed; nothing if nobody waits for it any more.
    pub(super) fn finish(
        self,
        supervisor: &Supervisor,
        call: &Notification,
    ) -> Option<Result<(), Errno>> {
        while supervisor.holds(call) {
            if let Target::Named(listener) = &self.target
                && !supervisor.names.has(listener)
            {
                // Nobody but us has it any more.
                return Some(Err(Errno::CONNREFUSED));
            }
            match self.attempt(SLICE).transpose() {
                None => {}
                Some(result) => {
                    return Some(self.settled(result.and_then(|done| done), supervisor, call));
                }
            }
        }
        None
    }

    fn settled(
        &self,
        result: Result<(), Errno>,
        supervisor: &Supervisor,
        call: &Notification,
    ) -> Result<(), Errno> {
        result.and_then(|()| self.subject.settle(supervisor, call))
    }

    /// One attempt of a blocking socket; nothing if it was too short.
    fn attempt(&self, wait: Duration) -> Result<Option<Result<(), Errno>>, Errno> {
        let socket = self.subject.socket();
        let left = self.patience.map(|patience| patience.saturating_sub(self.since.elapsed()));
        // Zero would be for ever.
        let wait = left.map_or(wait, |left| left.clamp(AT_ONCE, wait));
        set_socket_timeout(socket, Timeout::Send, Some(wait))?;
        let result = self.connect();
        set_socket_timeout(socket, Timeout::Send, self.patience)?;
        let is_too_short =
            matches!(result, Err(Errno::INPROGRESS | Errno::ALREADY | Errno::AGAIN | Errno::INTR));
        let is_out_of_patience =
            self.patience.is_some_and(|patience| self.since.elapsed() >= patience);
        Ok((!is_too_short || is_out_of_patience).then_some(result))
    }

    fn connect(&self) -> Result<(), Errno> {
        let socket = self.subject.socket();
        match &self.target {
            Target::Internet(address) => connect(socket, address),
            Target::Unix(file) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                connect(socket, &SocketAddrUnix::new(path)?)
            }
            Target::Named(listener) => connect(socket, &getsockname(listener)?),
        }
    }
}
