//! The socket that a waiting call is about: the very one, or where the kernel does not let it be
//! had, a new one that takes its place.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, socket_with};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::proc::{Name, Place, line, number as number_in, process_of, read_into};
use super::{Calls, errno};
use crate::sys::{Notification, replace};

/// A socket to act on.
#[derive(Debug)]
pub(super) struct Subject {
    socket: OwnedFd,
    /// The descriptor to be replaced by it, and whether programs lose it.
    place: Option<(u32, bool)>,
}

impl Subject {
    /// Takes the socket that is the first argument of `call`. Containers may forbid that; a new
    /// socket of `family` is made then, if there can be one.
    pub(super) fn take(
        calls: &Calls,
        call: &Notification,
        family: Option<AddressFamily>,
    ) -> Result<Self, Errno> {
        let number = number(call);
        let process = open_thread(call.thread)?;
        if !calls.holds(call) {
            return Err(Errno::INTR);
        }
        match pidfd_getfd(&process, number.cast_signed(), PidfdGetfdFlags::empty()) {
            Ok(socket) => Ok(Self { socket, place: None }),
            Err(Errno::PERM) => Self::new(call.thread, number, family.ok_or(Errno::ACCESS)?),
            Err(error) => Err(error),
        }
    }

    fn new(thread: i32, number: u32, family: AddressFamily) -> Result<Self, Errno> {
        if !Place::of(&Name::of_descriptor(thread, number))?.bytes().starts_with(b"socket:") {
            return Err(Errno::NOTSOCK);
        }
        let has = descriptor_flags(thread, number)?;
        let is_nonblocking = has & libc::O_NONBLOCK.unsigned_abs() != 0;
        let flags = if is_nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        let socket = socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, place: Some((number, has & libc::O_CLOEXEC.unsigned_abs() != 0)) })
    }

    #[cfg(test)]
    pub(super) fn of(socket: OwnedFd) -> Self {
        Self { socket, place: None }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it is not the call's own socket.
    pub(super) fn is_new(&self) -> bool {
        self.place.is_some()
    }

    /// Lets the process have a new socket. To be called when what was asked for has been done.
    pub(super) fn settle(&self, calls: &Calls, call: &Notification) -> Result<(), Errno> {
        let Some((number, close_on_exec)) = self.place else {
            return Ok(());
        };
        replace(calls.listener.as_fd(), call.id, self.socket(), number, close_on_exec)
            .map_err(|error| errno(&error))
    }
}

/// A call's number for its socket.
pub(super) fn number(call: &Notification) -> u32 {
    // The kernel takes the low half.
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    let number = call.arguments[0] as u32;
    number
}

/// The address that a socket of the internet has.
pub(super) fn local_address(socket: BorrowedFd<'_>) -> Result<Option<SocketAddr>, Errno> {
    Ok(SocketAddr::try_from(getsockname(socket)?).ok())
}

/// A thread, if the kernel knows how to hold one (Linux 6.9), or else its process.
pub(super) fn open_thread(thread: i32) -> Result<OwnedFd, Errno> {
    const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.unsigned_abs());
    let pid = Pid::from_raw(thread).ok_or(Errno::SRCH)?;
    match pidfd_open(pid, THREAD) {
        Err(Errno::INVAL) => open_process(thread),
        opened => opened,
    }
}

/// The process of a thread.
pub(super) fn open_process(thread: i32) -> Result<OwnedFd, Errno> {
    let process = Pid::from_raw(process_of(thread)?).ok_or(Errno::SRCH)?;
    pidfd_open(process, PidfdFlags::empty())
}

/// What `fcntl` would tell the process of its descriptor.
fn descriptor_flags(thread: i32, number: u32) -> Result<u32, Errno> {
    let mut memory = [0; 1024];
    let told = read_into(&Name::of_description(thread, number), &mut memory)?;
    number_in(line(told, "flags:"), 8).ok_or(Errno::ACCESS)
}
