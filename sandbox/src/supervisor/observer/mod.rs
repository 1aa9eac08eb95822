//! Looks at the calls of a command that is observed, notes what they do, and lets each go on. It
//! judges nothing, and what it could not make out is simply not noted.

mod calls;
mod paths;

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access as Right, access};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::address::{Address, SocketName};
use super::read_address;
use super::subject::{number, open_thread};
use crate::interpreter::programs;
use crate::observe::{Act, Observed};
use crate::sys::{Answer, Notification, answer, read_memory, receive};
use calls::{Deed, Flags, Place};
use paths::{absolute, beside, followed, read_path};

/// The calls that wait to be looked at.
pub(crate) fn observed_calls() -> impl Iterator<Item = i64> {
    calls::all().map(|call| call.number)
}

/// The observer of one command.
#[derive(Debug)]
pub(super) struct Observer {
    listener: OwnedFd,
    observed: Arc<Observed>,
}

impl Observer {
    pub(super) fn new(listener: OwnedFd, observed: Arc<Observed>) -> Self {
        Self { listener, observed }
    }

    /// Serves until nobody is left to be served, or `stop` becomes readable or loses its other
    /// end.
    pub(super) fn serve(&self, stop: BorrowedFd<'_>) {
        while is_called(&self.listener, stop) {
            // One that has been given up meanwhile is no error.
            if let Ok(call) = receive(self.listener.as_fd()) {
                self.look(&call);
                answer(self.listener.as_fd(), call.id, Answer::Continue);
            }
        }
    }

    fn look(&self, call: &Notification) {
        let Some(known) = calls::all().find(|known| known.number == call.number) else { return };
        match known.deed {
            Deed::Connect | Deed::Bind => self.look_at_address(call, known.deed),
            deed => {
                let paths = known.paths.iter().filter_map(|place| path(call, *place));
                let paths: Vec<_> = paths.collect();
                let is_there = paths.first().is_some_and(|path| path.symlink_metadata().is_ok());
                if is_there || !matches!(deed, Deed::Move) {
                    for path in &paths {
                        self.look_at_path(call, deed, path);
                    }
                }
            }
        }
    }

    fn look_at_path(&self, call: &Notification, deed: Deed, path: &Path) {
        let there = followed(call.thread, path);
        match (deed, there) {
            (Deed::Open(flags), there) => {
                let Some(flags) = open_flags(call, flags) else { return };
                self.look_at_opening(call, flags, path, there.ok());
            }
            (Deed::Execute, Ok(program)) => {
                for program in programs(&program) {
                    self.observed.add(Act::Read(program));
                }
            }
            (Deed::Change, Ok(path)) => self.observed.add(Act::Write(path)),
            (Deed::Make, Err(_)) | (Deed::Move, _) => drop(self.make(call, path)),
            _ => {}
        }
    }

    fn look_at_opening(
        &self,
        call: &Notification,
        flags: i32,
        path: &Path,
        there: Option<PathBuf>,
    ) {
        if flags & libc::O_PATH != 0 {
            return;
        }
        let way = flags & libc::O_ACCMODE;
        let Some(there) = there else {
            if flags & libc::O_CREAT != 0
                && let Some(made) = self.make(call, path)
                && way != libc::O_WRONLY
            {
                self.observed.add(Act::Read(made));
            }
            return;
        };
        if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return self.observed.add(Act::Make(there.join("nameless")));
        }
        if way != libc::O_WRONLY && access(&there, Right::READ_OK).is_ok() {
            self.observed.add(Act::Read(there.clone()));
        }
        let writes = way != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if writes && access(&there, Right::WRITE_OK).is_ok() {
            self.observed.add(Act::Write(there));
        }
    }

    /// Notes that something is made or removed, if there is a directory for it.
    fn make(&self, call: &Notification, path: &Path) -> Option<PathBuf> {
        let path = beside(call.thread, path)?;
        self.observed.add(Act::Make(path.clone()));
        Some(path)
    }

    fn look_at_address(&self, call: &Notification, deed: Deed) {
        match (read_address(call), deed) {
            (Ok(Address::Internet(address)), _) if !is_stream(call) => {
                self.observed.add(Act::Datagram(address));
            }
            (Ok(Address::Internet(address)), Deed::Bind) => self.observed.add(Act::Bind(address)),
            (Ok(Address::Internet(address)), _) => self.observed.add(Act::Connect(address)),
            (Ok(Address::Path(path)), Deed::Bind) => {
                drop(self.make(call, &absolute(call.thread, None, as_path(&path))));
            }
            (Ok(Address::Path(path)), _) => {
                if let Ok(path) =
                    followed(call.thread, &absolute(call.thread, None, as_path(&path)))
                {
                    self.observed.add(Act::UnixSocket(path));
                }
            }
            _ => {}
        }
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

fn as_path(name: &SocketName) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// The absolute path in a call; none if it cannot be read, or is none.
fn path(call: &Notification, (directory, path): Place) -> Option<PathBuf> {
    let directory = directory.and_then(|at| call.arguments.get(at)).map(|number| low(*number));
    let pointer = *call.arguments.get(path)?;
    // Without a path it is about the descriptor itself, which has been judged before.
    let path = (pointer != 0).then(|| read_path(call.thread, pointer))??;
    Some(absolute(call.thread, directory, &path))
}

fn open_flags(call: &Notification, flags: Flags) -> Option<i32> {
    match flags {
        #[cfg(target_arch = "x86_64")]
        Flags::Are(flags) => Some(flags),
        Flags::In(at) => call.arguments.get(at).map(|flags| low(*flags)),
        Flags::Behind(at) => {
            let mut bytes = [0; 8];
            read_memory(call.thread, *call.arguments.get(at)?, &mut bytes).ok()?;
            Some(low(u64::from_ne_bytes(bytes)))
        }
    }
}

/// The low half of an argument, as a signed number: what the kernel takes of an `int`.
#[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
fn low(argument: u64) -> i32 {
    (argument as u32).cast_signed()
}

/// Whether the socket of a call is of TCP; taken for one if it cannot be looked at.
fn is_stream(call: &Notification) -> bool {
    let socket = open_thread(call.thread).and_then(|process| {
        pidfd_getfd(&process, number(call).cast_signed(), PidfdGetfdFlags::empty())
    });
    socket.and_then(socket_type).map_or(true, |kind| kind == SocketType::STREAM)
}
