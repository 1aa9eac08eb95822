//! Makes the system calls that need an address to be judged: a filter sees no memory, and what it
//! saw could be changed before the kernel looks. The calls wait here instead. Each address is
//! copied, judged, and used from that copy: the call is made by this process, on the very socket
//! of the sandboxed one.
//!
//! Everything read from the sandboxed process is hostile. A call that cannot be judged fails, and
//! when the supervisor ends, every call that waits or comes later fails.

mod address;
mod handover;
mod metadata;
mod names;
mod observer;
mod subject;
mod unix;
mod wait;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Scope};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net;

use crate::capability::CapabilitySet;
use crate::denial::{self, Action, Denial, Denials};
use crate::rules::Rules;
use crate::sys::{Answer, Notification, answer, is_waiting, read_memory, receive};
use address::{Address, parse};
pub(crate) use handover::{Handover, Ready, Service, Supervision, can_supervise, judge};
use metadata::Writable;
use names::Names;
pub(crate) use observer::observed_calls;
use subject::Subject;
use unix::{UnixSockets, is_like_us};
use wait::{Connecting, Progress, Target};

/// How many connections of one sandbox may be waited for at a time, besides those that come about
/// at once.
const MOST_WAITING: usize = 64;
/// Ports below this one are the system's.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The judge and maker of one sandbox's calls.
#[derive(Debug)]
struct Supervisor {
    listener: OwnedFd,
    rules: Rules,
    sockets: UnixSockets,
    names: Names,
    writable: Writable,
    denials: Arc<Denials>,
    is_stopping: AtomicBool,
    waiting: AtomicUsize,
}

/// What it judges by.
#[derive(Debug)]
struct Granted {
    rules: Rules,
    sockets: UnixSockets,
    writable: Writable,
}

impl Granted {
    fn new(caps: &CapabilitySet) -> Self {
        Self {
            rules: Rules::new(caps),
            sockets: UnixSockets::new(caps),
            writable: Writable::new(caps),
        }
    }
}

impl Supervisor {
    fn new(listener: OwnedFd, granted: Granted, denials: Arc<Denials>) -> Self {
        let Granted { rules, sockets, writable } = granted;
        Self {
            listener,
            rules,
            sockets,
            names: Names::default(),
            writable,
            denials,
            is_stopping: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Serves until nobody is left to be served, or `stop` becomes readable or loses its other
    /// end.
    fn serve(&self, stop: BorrowedFd<'_>) {
        thread::scope(|scope| {
            while is_called(&self.listener, stop) {
                // One that has been given up meanwhile is no error.
                if let Ok(call) = receive(self.listener.as_fd()) {
                    self.handle(&call, scope);
                }
            }
            self.is_stopping.store(true, Ordering::Relaxed);
        });
    }

    fn handle<'scope>(&'scope self, call: &Notification, scope: &'scope Scope<'scope, '_>) {
        let done = match call.number {
            libc::SYS_connect => match self.connect(call) {
                Ok(Progress::Waits(connecting)) => return self.wait(*call, connecting, scope),
                Ok(Progress::Ended(result)) => result.map(|()| Answer::Done),
                Err(error) => Err(error),
            },
            libc::SYS_bind => self.bind(call),
            libc::SYS_listen => self.listen(call),
            _ => self.change(call),
        };
        if matches!(done, Err(Errno::ACCESS)) {
            self.denials.note(self.denial(call));
        }
        self.reply(call, done);
    }

    /// What a call is about that is refused.
    fn denial(&self, call: &Notification) -> Denial {
        let action = match call.number {
            libc::SYS_connect => Action::Connect,
            libc::SYS_bind => Action::Bind,
            libc::SYS_listen => {
                return Denial { action: Action::Listen, target: denial::Target::Other };
            }
            _ => return Denial { action: Action::Change, target: denial::Target::Other },
        };
        let target = match self.address(call) {
            Ok(Address::Internet(address)) => denial::Target::Address(address),
            Ok(Address::Path(path)) => denial::Target::Path(path),
            Ok(Address::Abstract(name)) => denial::Target::Name(name),
            _ => denial::Target::Other,
        };
        Denial { action, target }
    }

    fn reply(&self, call: &Notification, done: Result<Answer, Errno>) {
        let said = done.unwrap_or_else(|error| Answer::Fail(error.raw_os_error()));
        // Nobody waits any more: the thread has been killed.
        let _ = answer(self.listener.as_fd(), call.id, said);
    }

    /// Whether the thread still waits, and what is known of it is still true.
    fn holds(&self, call: &Notification) -> bool {
        !self.is_stopping.load(Ordering::Relaxed) && is_waiting(self.listener.as_fd(), call.id)
    }

    fn connect(&self, call: &Notification) -> Result<Progress, Errno> {
        let (family, target) = match self.address(call)? {
            Address::Internet(to) if self.rules.connects(to).is_some() => {
                let family =
                    if to.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
                (family, Target::Internet(to))
            }
            Address::Path(path) => {
                let file = self.sockets.reach(call.thread, &path)?;
                (net::AddressFamily::UNIX, Target::Unix(file))
            }
            Address::Abstract(name) => {
                (net::AddressFamily::UNIX, Target::Named(self.names.hold(&name)?))
            }
            Address::Unspecified => {
                let subject = Subject::take(self, call, None)?;
                return Ok(Progress::Ended(net::connect_unspec(subject.socket())));
            }
            Address::Internet(_) | Address::Other => return Err(Errno::ACCESS),
        };
        if family == net::AddressFamily::UNIX && !is_like_us(call.thread) {
            // Whoever listens is told our identity, and our rights to the file count.
            return Err(Errno::ACCESS);
        }
        let subject = Subject::take(self, call, Some(family))?;
        Connecting::new(subject, target)?.begin(self, call)
    }

    /// Goes on with a connection beside the others.
    fn wait<'scope>(
        &'scope self,
        call: Notification,
        connecting: Connecting,
        scope: &'scope Scope<'scope, '_>,
    ) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return self.reply(&call, Err(Errno::AGAIN));
        }
        let work = move || {
            if let Some(result) = connecting.finish(self, &call) {
                self.reply(&call, result.map(|()| Answer::Done));
            }
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("nono-connect".to_owned()).spawn_scoped(scope, work).is_err()
        {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.reply(&call, Err(Errno::AGAIN));
        }
    }

    fn bind(&self, call: &Notification) -> Result<Answer, Errno> {
        let at = match self.address(call)? {
            Address::Internet(at) if self.rules.binds(at).is_some() => at,
            Address::Internet(_) | Address::Unspecified => return Err(Errno::ACCESS),
            // Landlock judges the making of a socket's file, and refuses TCP whatever the
            // arguments have become by then.
            Address::Path(_) | Address::Abstract(_) | Address::Other => {
                return Ok(Answer::Continue);
            }
        };
        if at.port() < FIRST_UNPRIVILEGED && !is_like_us(call.thread) {
            return Err(Errno::ACCESS);
        }
        let family =
            if at.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
        let subject = Subject::take(self, call, Some(family))?;
        if subject.is_new() {
            // What servers ask for, and what cannot be seen of the socket that is replaced.
            net::sockopt::set_socket_reuseaddr(subject.socket(), true)?;
        }
        net::bind(subject.socket(), &at)?;
        subject.settle(self, call)?;
        Ok(Answer::Done)
    }

    /// A socket of the internet that was not bound would be bound here, to a port of the kernel's
    /// choice at every address.
    fn listen(&self, call: &Notification) -> Result<Answer, Errno> {
        let subject = match Subject::take(self, call, None) {
            // Whatever the argument has become by then, it is no socket of the internet.
            Err(Errno::ACCESS) if self.rules.is_local() => return Ok(Answer::Continue),
            subject => subject?,
        };
        let socket = subject.socket();
        let is_unix = net::sockopt::socket_domain(socket)? == net::AddressFamily::UNIX;
        if !is_unix && !subject::is_bound(socket)? {
            return Err(Errno::ACCESS);
        }
        // The kernel takes the low half, as a signed number.
        #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
        let backlog = call.arguments[1] as u32;
        net::listen(socket, backlog.cast_signed())?;
        if is_unix {
            self.sockets.learn(call.thread, socket);
            self.names.learn(call.thread, subject::number(call).cast_signed(), socket);
        }
        Ok(Answer::Done)
    }

    /// The address that a call is about.
    fn address(&self, call: &Notification) -> Result<Address, Errno> {
        let address = read_address(call);
        // The memory was that of another process if its number had been given away.
        if address.is_ok() && !self.holds(call) {
            return Err(Errno::INTR);
        }
        address
    }
}

/// Waits for a call; none comes if it is false.
fn is_called(listener: &OwnedFd, stop: BorrowedFd<'_>) -> bool {
    let mut fds =
        [PollFd::new(listener, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => break,
        }
    }
    let [listener, stop] = fds;
    stop.revents().is_empty() && listener.revents().contains(PollFlags::IN)
}

/// The address that a call's second and third argument are about.
fn read_address(call: &Notification) -> Result<Address, Errno> {
    let [_, pointer, length, ..] = call.arguments;
    let mut bytes = [0; address::LARGEST];
    // The kernel takes the low half, and refuses what is negative or too large.
    let length = usize::try_from(length & u64::from(u32::MAX)).unwrap_or(usize::MAX);
    let bytes = bytes.get_mut(..length).ok_or(Errno::INVAL)?;
    let copied = read_memory(call.thread, pointer, bytes).map_err(|error| errno(&error))?;
    if copied < length {
        return Err(Errno::FAULT);
    }
    parse(bytes).ok_or(Errno::INVAL)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::ACCESS)
}
