//! Unix sockets that have a path: which files of them may be connected to. Those that were
//! granted, and those at which the sandboxed process itself listens.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, socket_with,
};

use super::address::{Address, LARGEST, SocketName, c_path, parse};
use super::granted::Object;
use super::proc::{Name, Place, is_same};
use super::walk::follow;
use crate::sys::turn_away;

/// How many sockets of its own a sandbox can connect to. With all else that is held open here, they
/// fit in the 1024 that a process may commonly have open.
const MOST_OWN: usize = 512;
/// How long to wait for a connection that has been made already.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The files that may be connected to.
#[derive(Debug)]
pub(super) struct UnixSockets<'a> {
    granted: &'a [Object<'a>],
    denied: &'a [&'a [u8]],
    /// Held open, so that no other file takes their numbers.
    own: ArrayVec<OwnedFd, MOST_OWN>,
}

impl<'a> UnixSockets<'a> {
    pub(super) fn new(granted: &'a [Object<'a>], denied: &'a [&'a [u8]]) -> Self {
        Self { granted, denied, own: ArrayVec::new() }
    }

    /// Takes hold of a socket's file by the path that `thread` has for it, if it may.
    pub(super) fn reach(&self, thread: i32, path: &SocketName) -> Result<OwnedFd, Errno> {
        let file = open_for(thread, &c_path(path))?;
        let status = fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
            return Err(Errno::CONNREFUSED);
        }
        if self.is_own(&status) || self.is_granted(&file, &status) {
            return Ok(file);
        }
        Err(Errno::ACCESS)
    }

    /// Remembers the file of a socket at which the sandboxed process has just begun to listen, so
    /// that nobody waits there yet.
    pub(super) fn learn(&mut self, thread: i32, listening: BorrowedFd<'_>) {
        let Ok(file) = file_of(thread, listening) else { return };
        self.own.retain(|file| fstat(file).is_ok_and(|status| status.st_nlink > 0));
        // One that there is no room for cannot be connected to.
        let _ = self.own.try_push(file);
    }

    fn is_own(&self, status: &Stat) -> bool {
        self.own.iter().any(|file| is_same(file, status))
    }

    fn is_granted(&self, file: &OwnedFd, status: &Stat) -> bool {
        let Ok(place) = Place::of(&Name::of_own(file)) else { return false };
        if self.denied.iter().any(|denied| place.is_within(denied)) {
            return false;
        }
        self.granted.iter().any(|granted| !granted.is_directory && is_same(granted.handle, status))
            || place.lies_beneath(|above| {
                let mut granted = self.granted.iter();
                granted.any(|granted| granted.is_directory && is_same(granted.handle, above))
            })
    }
}

/// Takes hold of a socket's file by the path that `thread` has for it.
fn open_for(thread: i32, path: &CStr) -> Result<OwnedFd, Errno> {
    follow(thread, &Name::of(thread, "cwd"), path, true)
}

/// The file that leads to a listening socket. Its name is the sandboxed process's to change at
/// any time, so what the name leads to is tried: a connection made by it must arrive.
fn file_of(thread: i32, listening: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::try_from(getsockname(listening)?)?;
    let path = SocketName::try_from(address.path_bytes().ok_or(Errno::NOENT)?);
    let file = open_for(thread, &c_path(&path.map_err(|_| Errno::NAMETOOLONG)?))?;

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let trial = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The kernel gives it a name that nobody has.
    bind(&trial, &SocketAddrUnix::new_unnamed())?;
    let name = getsockname(&trial)?;
    connect(&trial, &SocketAddrUnix::new(&*Name::of_own(&file))?)?;

    let patience = socket_timeout(listening, Timeout::Recv)?;
    set_socket_timeout(listening, Timeout::Recv, Some(AT_ONCE))?;
    let mut peer = [0; LARGEST];
    // Others may have taken the time-out away, and the connection.
    let arrived = turn_away(listening, &mut peer).unwrap_or(Err(libc::EAGAIN));
    set_socket_timeout(listening, Timeout::Recv, patience)?;
    let length = arrived.map_err(Errno::from_raw_os_error)?;
    let own = SocketAddrUnix::try_from(name)?;
    match (peer.get(..length).and_then(parse), own.abstract_name()) {
        (Some(Address::Abstract(peer)), Some(own)) if *peer == *own => Ok(file),
        _ => Err(Errno::ACCESS),
    }
}
