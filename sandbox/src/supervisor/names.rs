//! Unix sockets that have a name and no path: only those at which the sandboxed process itself
//! listens can be connected to.
//!
//! A name is its socket's for as long as anybody has that open. So the listening socket is taken
//! hold of before its name is used: nobody outside can have the name then, whatever the sandboxed
//! process does meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, getsockname};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::subject::open_process;

/// How many listening sockets of its own a sandbox can connect to by name.
const MOST: usize = 256;

/// The names at which the sandboxed process has begun to listen.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Vec<Listener>>);

/// Where a listening socket is to be found.
#[derive(Debug)]
struct Listener {
    name: Vec<u8>,
    /// The process that began to listen.
    process: OwnedFd,
    /// Its number for the socket.
    number: i32,
    /// The kernel's number for it.
    socket: u64,
}

impl Names {
    /// Remembers a socket at which `thread` has begun to listen, as `number`, if it has a name.
    pub(super) fn learn(&self, thread: i32, number: i32, listening: BorrowedFd<'_>) {
        let Ok(listener) = Listener::new(thread, number, listening) else { return };
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|known| known.socket != listener.socket);
        if listeners.len() >= MOST {
            listeners.retain(|known| known.hold().is_ok());
        }
        if listeners.len() < MOST {
            listeners.push(listener);
        }
    }

    /// Takes hold of the socket that has this name, if it is the sandboxed process's own.
    pub(super) fn hold(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own = listeners.iter().filter(|listener| listener.name == name);
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

fn name_of(socket: impl std::os::fd::AsFd) -> Result<Vec<u8>, Errno> {
    let address = SocketAddrUnix::try_from(getsockname(socket)?)?;
    address.abstract_name().map(<[u8]>::to_vec).ok_or(Errno::NOENT)
}
