//! Unix sockets that have a name and no path: only those at which the sandboxed process itself
//! listens can be connected to.
//!
//! A name is its socket's for as long as anybody has that open. So the listening socket is taken
//! hold of before its name is used: nobody outside can have the name then, whatever the sandboxed
//! process does meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, getsockname};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::address::SocketName;
use super::subject::open_process;

/// How many listening sockets of its own a sandbox can connect to by name.
const MOST: usize = 256;

/// The names at which the sandboxed process has begun to listen.
#[derive(Debug, Default)]
pub(super) struct Names(ArrayVec<Listener, MOST>);

/// Where a listening socket is to be found.
#[derive(Debug)]
struct Listener {
    name: SocketName,
    /// The process that began to listen.
    process: OwnedFd,
    /// Its number for the socket.
    number: i32,
    /// The kernel's number for it.
    socket: u64,
}

impl Names {
    /// Remembers a socket at which `thread` has begun to listen, as `number`, if it has a name.
    pub(super) fn learn(&mut self, thread: i32, number: i32, listening: BorrowedFd<'_>) {
        let Ok(listener) = Listener::new(thread, number, listening) else { return };
        self.0.retain(|known| known.socket != listener.socket);
        if self.0.is_full() {
            self.0.retain(|known| known.hold().is_ok());
        }
        // One that there is no room for cannot be connected to.
        let _ = self.0.try_push(listener);
    }

    /// Takes hold of the socket that has this name, if it is the sandboxed process's own.
    pub(super) fn hold(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let mut own = self.0.iter().filter(|listener| *listener.name == *name);
        own.find_map(|listener| listener.hold().ok()).ok_or(Errno::ACCESS)
    }

    /// Whether a socket that is held here is still the sandboxed process's too.
    pub(super) fn has(&self, held: &OwnedFd) -> bool {
        name_of(held).is_ok_and(|name| self.hold(&name).is_ok())
    }
}

impl Listener {
    fn new(thread: i32, number: i32, listening: BorrowedFd<'_>) -> Result<Self, Errno> {
        let name = name_of(listening)?;
        Ok(Self { name, number, process: open_process(thread)?, socket: fstat(listening)?.st_ino })
    }

    /// The socket, if it is still where it was.
    fn hold(&self) -> Result<OwnedFd, Errno> {
        let socket = pidfd_getfd(&self.process, self.number, PidfdGetfdFlags::empty())?;
        let is_same = fstat(&socket)?.st_ino == self.socket;
        if is_same && name_of(&socket)? == self.name { Ok(socket) } else { Err(Errno::BADF) }
    }
}

fn name_of(socket: impl std::os::fd::AsFd) -> Result<SocketName, Errno> {
    let address = SocketAddrUnix::try_from(getsockname(socket)?)?;
    let name = address.abstract_name().ok_or(Errno::NOENT)?;
    SocketName::try_from(name).map_err(|_| Errno::NAMETOOLONG)
}
