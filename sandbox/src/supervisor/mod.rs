//! Makes the system calls that need an address to be judged: a filter sees no memory, and what it
//! saw could be changed before the kernel looks. The calls wait here instead. Each address is
//! copied, judged, and used from that copy: the call is made by this process, on the very socket
//! of the sandboxed one.
//!
//! Everything read from the sandboxed process is hostile. A call that cannot be judged fails, and
//! when the supervisor ends, every call that waits or comes later fails.
//!
//! What the sandboxed process shares with it, the sandboxed process can change at any time: no call
//! on such a socket may be one that waits if its flags are not what they were set to. Those that
//! could be are made by a process that can be ended (`sys/deputy.rs`).
//!
//! The supervisor of a [`Command`](crate::Command) is a thread of its parent, with descriptors of
//! its own; that of
//! [`apply`](crate::apply()) a process: a copy of the calling one, made while its other threads
//! went on. Any of these may have held any lock, the allocator's as well as others', and in the
//! copy nobody gives it back. So from [`Supervisor::serve`] on nothing is allocated, no lock is
//! taken, and no thread is started; what the judging has to remember has room for so many and no
//! more.

mod address;
mod granted;
mod handover;
mod metadata;
mod names;
mod observer;
mod proc;
mod process;
mod subject;
mod surrounding;
mod unix;
mod wait;
mod walk;

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;
use rustix::net;

use crate::denial::{self, Action, Denial, Denials};
use crate::rules::Rules;
use crate::sys::{Answer, Notification, answer, is_waiting, read_memory, receive};
use address::{Address, parse};
pub(crate) use granted::{Granted, Object, Parts};
pub(crate) use handover::{Handover, Ready, Service, Supervision, send_descriptor};
use names::Names;
pub(crate) use observer::observed_calls;
use proc::is_like_us;
pub(crate) use process::Apart;
use subject::Subject;
pub(crate) use surrounding::{can_supervise, judge, left, limit, reaches_descendants, surround};
use unix::UnixSockets;
use wait::{Connecting, Target, Waiting};

/// Ports below this one are the system's.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The judge and maker of one sandbox's calls.
#[derive(Debug)]
struct Supervisor<'a> {
    calls: Calls,
    rules: Rules<'a>,
    sockets: UnixSockets<'a>,
    names: Names,
    writable: &'a [Object<'a>],
    /// Where to note what is refused, if anybody asks. Noting takes memory.
    denials: Option<&'a Denials>,
    waiting: Waiting,
}

impl<'a> Supervisor<'a> {
    fn new(listener: OwnedFd, granted: Granted<'a>, denials: Option<&'a Denials>) -> Self {
        let Granted { rules, sockets, denied, writable } = granted;
        Self {
            calls: Calls { listener },
            rules,
            sockets: UnixSockets::new(sockets, denied),
            names: Names::default(),
            writable,
            denials,
            waiting: Waiting::default(),
        }
    }

    /// Serves until nobody is left to be served, or `stop` becomes readable or loses its other
    /// end.
    fn serve(&mut self, stop: Option<BorrowedFd<'_>>) {
        while let Some(is_called) = self.waiting.wait_for_call(&self.names, &self.calls, stop) {
            while let Some(call) = self.waiting.next_with_room() {
                self.handle(&call);
            }
            // One that has been given up meanwhile is no error.
            if is_called && let Ok(call) = receive(self.calls.listener()) {
                self.handle(&call);
            }
        }
    }

    fn handle(&mut self, call: &Notification) {
        let done = match call.number {
            libc::SYS_connect => match self.connect(call) {
                Some(result) => result.map(|()| Answer::Done),
                None => return,
            },
            libc::SYS_bind => self.bind(call),
            libc::SYS_listen => self.listen(call),
            _ => metadata::change(&self.calls, call, self.writable),
        };
        if matches!(done, Err(Errno::ACCESS))
            && let Some(denials) = self.denials
        {
            denials.note(self.calls.denial(call));
        }
        self.calls.reply(call, done);
    }

    /// Connects, or begins to: then there is nothing to be said yet.
    fn connect(&mut self, call: &Notification) -> Option<Result<(), Errno>> {
        match self.connecting(call) {
            Ok(Some(connecting)) => self.waiting.begin(connecting, &self.calls, call),
            Ok(None) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    /// The connection that a call is to make, if it may; none if it is none, and has been done.
    fn connecting(&self, call: &Notification) -> Result<Option<Connecting>, Errno> {
        let address = self.calls.address(call)?;
        if matches!(address, Address::Path(_) | Address::Abstract(_)) && !is_like_us(call.thread) {
            // Whoever listens is told our identity, and our rights to the file count.
            return Err(Errno::ACCESS);
        }
        let (family, target) = match address {
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
                let subject = Subject::take(&self.calls, call, None)?;
                return net::connect_unspec(subject.socket()).map(|()| None);
            }
            Address::Internet(_) | Address::Other => return Err(Errno::ACCESS),
        };
        let subject = Subject::take(&self.calls, call, Some(family))?;
        Connecting::new(subject, target).map(Some)
    }

    fn bind(&self, call: &Notification) -> Result<Answer, Errno> {
        let at = match self.calls.address(call)? {
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
        let subject = Subject::take(&self.calls, call, Some(family))?;
        if subject.is_new() {
            // What servers ask for, and what cannot be seen of the socket that is replaced.
            net::sockopt::set_socket_reuseaddr(subject.socket(), true)?;
        }
        net::bind(subject.socket(), &at)?;
        subject.settle(&self.calls, call)?;
        Ok(Answer::Done)
    }

    /// A socket of the internet listens where it was bound; or else where it was last connected from,
    /// at every address, whatever came of that, or at a port of the kernel's choice. So it is judged by
    /// where it would be reached, as a bind is.
    fn listen(&mut self, call: &Notification) -> Result<Answer, Errno> {
        let subject = match Subject::take(&self.calls, call, None) {
            // Whatever the argument has become by then, it is no socket of the internet.
            Err(Errno::ACCESS) if self.rules.is_local() => return Ok(Answer::Continue),
            subject => subject?,
        };
        let socket = subject.socket();
        // The kernel takes the low half, as a signed number.
        #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
        let backlog = (call.arguments[1] as u32).cast_signed();
        // One that listens was let to, or has done so from before there was a sandbox.
        let listened = net::sockopt::socket_acceptconn(socket)?;
        if net::sockopt::socket_domain(socket)? != net::AddressFamily::UNIX {
            return self.listen_at(socket, listened, backlog).map(|()| Answer::Done);
        }
        net::listen(socket, backlog)?;
        // One that has listened in here before is known, and clients may wait in its queue.
        if !listened {
            self.sockets.learn(call.thread, socket);
        }
        self.names.learn(call.thread, subject::number(call).cast_signed(), socket);
        Ok(Answer::Done)
    }

    fn listen_at(&self, socket: BorrowedFd<'_>, listened: bool, backlog: i32) -> Result<(), Errno> {
        let binds = |at: Option<SocketAddr>| at.is_some_and(|at| self.rules.binds(at).is_some());
        let at = subject::local_address(socket)?;
        if !listened && !binds(at) {
            return Err(Errno::ACCESS);
        }
        net::listen(socket, backlog)?;
        // Another thread may have disconnected it since it was asked, which changes where it is.
        let now_at = subject::local_address(socket)?;
        if now_at != at && !binds(now_at) {
            net::shutdown(socket, net::Shutdown::Both)?;
            return Err(Errno::ACCESS);
        }
        Ok(())
    }
}

/// Where calls wait.
#[derive(Debug)]
struct Calls {
    listener: OwnedFd,
}

impl Calls {
    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn reply(&self, call: &Notification, done: Result<Answer, Errno>) {
        let said = done.unwrap_or_else(|error| Answer::Fail(error.raw_os_error()));
        answer(self.listener(), call.id, said);
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
            Ok(Address::Path(path)) => denial::Target::Path(OsStr::from_bytes(&path).into()),
            Ok(Address::Abstract(name)) => denial::Target::Name(name.to_vec()),
            _ => denial::Target::Other,
        };
        Denial { action, target }
    }

    /// Whether the thread still waits, and what is known of it is still true.
    fn holds(&self, call: &Notification) -> bool {
        is_waiting(self.listener(), call.id)
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
