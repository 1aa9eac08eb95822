//! Connections that may take their time. None of them may hold up the others, so a blocking socket
//! is made a non-blocking one for the length of each attempt, and looked after between the calls.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, socket_timeout};
use rustix::net::{SocketAddrUnix, connect, getsockname};

use super::Calls;
use super::names::Names;
use super::proc::Name;
use super::subject::Subject;
use crate::sys::{Answer, Notification, monotonic};

/// How many connections of one sandbox may be waited for at a time, besides those that come about
/// at once.
const MOST: usize = 64;
/// The shortest and the longest time between two looks at a connection.
const LOOK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

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
    flags: OFlags,
    /// How long the socket itself would wait, and since when.
    patience: Option<Duration>,
    since: Duration,
    /// When to look again.
    due: Duration,
}

impl Connecting {
    pub(super) fn new(subject: Subject, target: Target) -> Result<Self, Errno> {
        let flags = fcntl_getfl(subject.socket())?;
        let patience = socket_timeout(subject.socket(), Timeout::Send)?;
        let since = now();
        Ok(Self { subject, target, flags, patience, since, due: since })
    }

    /// Attempts the connection for the first time.
    pub(super) fn begin(mut self, calls: &Calls, call: &Notification) -> Result<Progress, Errno> {
        if self.flags.contains(OFlags::NONBLOCK) {
            let result = self.connect();
            if matches!(result, Ok(()) | Err(Errno::INPROGRESS)) {
                self.subject.settle(calls, call)?;
            }
            return Ok(Progress::Ended(result));
        }
        match self.attempt()? {
            None => Ok(Progress::Waits(self)),
            Some(result) => Ok(Progress::Ended(self.settled(result, calls, call))),
        }
    }

    /// Attempts it once more; gives what came of it, or nothing if it still takes time.
    fn go_on(
        &mut self,
        names: &Names,
        calls: &Calls,
        call: &Notification,
    ) -> Option<Result<(), Errno>> {
        if let Target::Named(listener) = &self.target
            && !names.has(listener)
        {
            // Nobody but us has it any more.
            return Some(Err(Errno::CONNREFUSED));
        }
        let result = self.attempt().transpose()?.flatten();
        Some(self.settled(result, calls, call))
    }

    fn settled(
        &self,
        result: Result<(), Errno>,
        calls: &Calls,
        call: &Notification,
    ) -> Result<(), Errno> {
        result.and_then(|()| self.subject.settle(calls, call))
    }

    /// One attempt of a blocking socket; nothing if there is time for others.
    fn attempt(&mut self) -> Result<Option<Result<(), Errno>>, Errno> {
        fcntl_setfl(self.subject.socket(), self.flags | OFlags::NONBLOCK)?;
        let mut result = self.connect();
        if result == Err(Errno::INPROGRESS) {
            // On the same machine, the other side has answered by now.
            result = self.connect();
        }
        fcntl_setfl(self.subject.socket(), self.flags)?;
        let waited = now().saturating_sub(self.since);
        let is_on_its_way = match result {
            Err(Errno::ALREADY) => {
                result = Err(Errno::INPROGRESS);
                true
            }
            result => matches!(result, Err(Errno::INPROGRESS | Errno::AGAIN | Errno::INTR)),
        };
        let left = self.patience.map(|patience| patience.saturating_sub(waited));
        if !is_on_its_way || left == Some(Duration::ZERO) {
            return Ok(Some(result));
        }
        let [least, most] = LOOK;
        let pause = if self.tells_its_end() { most } else { (waited / 8).clamp(least, most) };
        self.due = now() + left.map_or(pause, |left| left.min(pause));
        Ok(None)
    }

    /// Whether the socket becomes writable when the connection has come about or failed. One that
    /// waits for a place in the queue of a unix socket says nothing.
    fn tells_its_end(&self) -> bool {
        matches!(self.target, Target::Internet(_))
    }

    fn connect(&self) -> Result<(), Errno> {
        let socket = self.subject.socket();
        match &self.target {
            Target::Internet(address) => connect(socket, address),
            Target::Unix(file) => connect(socket, &SocketAddrUnix::new(&*Name::of_own(file))?),
            Target::Named(listener) => connect(socket, &getsockname(listener)?),
        }
    }
}

/// The monotonic clock.
fn now() -> Duration {
    Duration::from_nanos(monotonic())
}

/// The connections that are waited for.
#[derive(Debug, Default)]
pub(super) struct Waiting(ArrayVec<(Notification, Connecting), MOST>);

impl Waiting {
    /// Waits for this one too; false if there are too many.
    pub(super) fn add(&mut self, call: Notification, connecting: Connecting) -> bool {
        self.0.try_push((call, connecting)).is_ok()
    }

    /// Waits for a call, with an eye on the connections; true if one is there, nothing if the
    /// supervisor is to end.
    pub(super) fn wait_for_call(
        &mut self,
        names: &Names,
        calls: &Calls,
        stop: Option<BorrowedFd<'_>>,
    ) -> Option<bool> {
        let mut fds = ArrayVec::<PollFd<'_>, { MOST + 2 }>::new();
        // Where there is nothing to stop for, the listener is asked twice.
        let ends = [calls.listener(), stop.unwrap_or_else(|| calls.listener())];
        fds.extend(ends.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(self.0.iter().map(|(_, connecting)| {
            if connecting.tells_its_end() {
                PollFd::from_borrowed_fd(connecting.subject.socket(), PollFlags::OUT)
            } else {
                // Unasked, the kernel tells of any that is not connected that it has hung up.
                PollFd::from_borrowed_fd(calls.listener(), PollFlags::empty())
            }
        }));
        let due = self.0.iter().map(|(_, connecting)| connecting.due).min();
        let patience = due.map(|due| due.saturating_sub(now()));
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Some(false),
            Err(_) => return None,
        }
        let mut events = fds.iter().map(PollFd::revents);
        let (called, stopped) = (events.next()?, events.next()?);
        if (stop.is_some() && !stopped.is_empty())
            || called.intersects(PollFlags::HUP | PollFlags::ERR)
        {
            return None;
        }
        let ready: ArrayVec<bool, MOST> =
            events.map(|events| events.intersects(PollFlags::OUT | PollFlags::ERR)).collect();
        drop(fds);
        self.look(&ready, names, calls);
        Some(called.contains(PollFlags::IN))
    }

    /// Goes on with those that are ready or due.
    fn look(&mut self, ready: &[bool], names: &Names, calls: &Calls) {
        let now = now();
        let mut ready = ready.iter();
        self.0.retain(|(call, connecting)| {
            let is_ready = ready.next().is_some_and(|is_ready| *is_ready);
            if !is_ready && connecting.due > now {
                return true;
            }
            if !calls.holds(call) {
                // Nobody waits any more.
                return false;
            }
            match connecting.go_on(names, calls, call) {
                None => true,
                Some(result) => {
                    calls.reply(call, result.map(|()| Answer::Done));
                    false
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    #[test]
    fn one_that_waits_for_a_place_wakes_nobody_before_it_is_due() {
        let (listener, _calling) = std::io::pipe().unwrap();
        let calls = Calls { listener: listener.into() };
        let call = Notification { id: 0, thread: 0, number: libc::SYS_connect, arguments: [0; 6] };
        let unconnected = || socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let target = Target::Unix(unconnected());
        let mut connecting = Connecting::new(Subject::of(unconnected()), target).unwrap();
        let due = now() + LOOK[1];
        connecting.due = due;
        let mut waiting = Waiting::default();
        assert!(waiting.add(call, connecting));
        assert_eq!(waiting.wait_for_call(&Names::default(), &calls, None), Some(false));
        assert!(now() >= due);
        // It was looked at then, and the call is none of this listener's.
        assert!(waiting.0.is_empty());
    }
}
