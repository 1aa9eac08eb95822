//! Connections that may take their time. None of them may hold up the others, so a blocking socket
//! is made a non-blocking one for the length of each attempt, and looked after between the calls.
//! The sandboxed process can make it a blocking one again: an attempt that waits after all is
//! broken off, and made once more.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, socket_timeout};
use rustix::net::{SocketAddrAny, SocketAddrUnix, getpeername, getsockname};

use super::Calls;
use super::names::Names;
use super::proc::Name;
use super::subject::Subject;
use crate::sys::{Answer, Deputy, Notification, monotonic};

/// How many connections of one sandbox may be looked after at a time, besides those that come
/// about at once.
const MOST: usize = 64;
/// How many more calls may wait for their turn. Those that come later stay unreceived.
const MOST_LATER: usize = 256;
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
    /// Whether an attempt has been broken off, and nobody knows what came of it.
    is_unclear: bool,
}

impl Connecting {
    pub(super) fn new(subject: Subject, target: Target) -> Result<Self, Errno> {
        let flags = fcntl_getfl(subject.socket())?;
        let patience = socket_timeout(subject.socket(), Timeout::Send)?;
        let since = now();
        Ok(Self { subject, target, flags, patience, since, due: since, is_unclear: false })
    }

    /// Attempts it once more; gives what came of it, or nothing if it still takes time.
    fn go_on(
        &mut self,
        deputy: &mut Deputy,
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
        self.advance(deputy, calls, call)
    }

    /// Attempts it, and if it has come about, or goes on without us, lets the process have it.
    fn advance(
        &mut self,
        deputy: &mut Deputy,
        calls: &Calls,
        call: &Notification,
    ) -> Option<Result<(), Errno>> {
        let result = self.attempt(deputy).transpose()?.flatten();
        let goes_on = !self.is_patient() && result == Err(Errno::INPROGRESS);
        if (result.is_ok() || goes_on)
            && let Err(error) = self.subject.settle(calls, call)
        {
            return Some(Err(error));
        }
        Some(result)
    }

    /// Whether the call is to return when the connection has come about, and not before.
    fn is_patient(&self) -> bool {
        !self.flags.contains(OFlags::NONBLOCK)
    }

    /// One attempt; nothing if there is time for others.
    fn attempt(&mut self, deputy: &mut Deputy) -> Result<Option<Result<(), Errno>>, Errno> {
        let made = if self.is_patient() {
            fcntl_setfl(self.subject.socket(), self.flags | OFlags::NONBLOCK)?;
            let mut made = self.connect(deputy);
            if made == Some(Err(Errno::INPROGRESS)) {
                // On the same machine, the other side has answered by now.
                made = self.connect(deputy);
            }
            fcntl_setfl(self.subject.socket(), self.flags)?;
            made
        } else {
            self.connect(deputy)
        };
        let result = match made {
            None => {
                self.is_unclear = true;
                Err(Errno::INTR)
            }
            Some(Err(_)) if self.is_unclear && getpeername(self.subject.socket()).is_ok() => Ok(()),
            Some(Err(Errno::ALREADY)) if self.is_unclear || self.is_patient() => {
                Err(Errno::INPROGRESS)
            }
            Some(result) => result,
        };
        let takes_time = match result {
            Err(Errno::INTR) => true,
            Err(Errno::INPROGRESS | Errno::AGAIN) => self.is_patient(),
            _ => false,
        };
        let waited = now().saturating_sub(self.since);
        let left = self.patience.map(|patience| patience.saturating_sub(waited));
        if !takes_time || left == Some(Duration::ZERO) {
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

    /// Connects; none if that had to be broken off.
    fn connect(&self, deputy: &mut Deputy) -> Option<Result<(), Errno>> {
        let to: Result<SocketAddrAny, Errno> = match &self.target {
            Target::Internet(address) => Ok((*address).into()),
            // The deputy has our descriptors.
            Target::Unix(file) => SocketAddrUnix::new(&*Name::of_own(file)).map(Into::into),
            Target::Named(listener) => getsockname(listener),
        };
        let to = match to {
            Ok(to) => to,
            Err(error) => return Some(Err(error)),
        };
        let made = deputy.connect(self.subject.socket(), &to)?;
        Some(made.map_err(Errno::from_raw_os_error))
    }
}

/// The monotonic clock.
fn now() -> Duration {
    Duration::from_nanos(monotonic())
}

/// The connections that are waited for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    connections: ArrayVec<(Notification, Connecting), MOST>,
    /// Calls for which there was no room among them, the first of them first.
    later: ArrayVec<Notification, MOST_LATER>,
    deputy: Deputy,
}

impl Waiting {
    /// Begins with a connection; gives what came of it, or nothing if it takes time.
    pub(super) fn begin(
        &mut self,
        mut connecting: Connecting,
        calls: &Calls,
        call: &Notification,
    ) -> Option<Result<(), Errno>> {
        let result = connecting.advance(&mut self.deputy, calls, call);
        if result.is_none() && self.connections.try_push((*call, connecting)).is_err() {
            // None is received when there is no room for it.
            let _ = self.later.try_push(*call);
        }
        result
    }

    /// The next call that there is room for by now, to be begun with anew.
    pub(super) fn next_with_room(&mut self) -> Option<Notification> {
        if self.connections.is_full() { None } else { self.later.pop_at(0) }
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
        // Of its end the listener tells unasked.
        let asked = if self.later.is_full() { PollFlags::empty() } else { PollFlags::IN };
        fds.push(PollFd::from_borrowed_fd(calls.listener(), asked));
        fds.push(match stop {
            Some(stop) => PollFd::from_borrowed_fd(stop, PollFlags::IN),
            None => PollFd::from_borrowed_fd(calls.listener(), PollFlags::empty()),
        });
        fds.extend(self.connections.iter().map(|(_, connecting)| {
            if connecting.tells_its_end() {
                PollFd::from_borrowed_fd(connecting.subject.socket(), PollFlags::OUT)
            } else {
                // Unasked, the kernel tells of any that is not connected that it has hung up.
                PollFd::from_borrowed_fd(calls.listener(), PollFlags::empty())
            }
        }));
        let due = self.connections.iter().map(|(_, connecting)| connecting.due).min();
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
        let Self { connections, later, deputy } = self;
        let mut ready = ready.iter();
        connections.retain(|(call, connecting)| {
            let is_ready = ready.next().is_some_and(|is_ready| *is_ready);
            if !is_ready && connecting.due > now {
                return true;
            }
            if !calls.holds(call) {
                // Nobody waits any more.
                return false;
            }
            match connecting.go_on(deputy, names, calls, call) {
                None => true,
                Some(result) => {
                    calls.reply(call, result.map(|()| Answer::Done));
                    false
                }
            }
        });
        if later.is_full() {
            later.retain(|call| calls.holds(call));
        }
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
        waiting.connections.push((call, connecting));
        assert_eq!(waiting.wait_for_call(&Names::default(), &calls, None), Some(false));
        assert!(now() >= due);
        // It was looked at then, and the call is none of this listener's.
        assert!(waiting.connections.is_empty());
    }
}
