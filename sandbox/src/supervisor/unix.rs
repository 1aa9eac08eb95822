//! Unix sockets that have a path: which files of them may be connected to. Those that were
//! granted, and those at which the sandboxed process itself listens.

use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, stat};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getpeername, getsockname, socket_with,
};

use crate::capability::CapabilitySet;
use crate::network::UnixSocket;

/// How many sockets of its own a sandbox can connect to.
const MOST_OWN: usize = 1024;
/// How long to wait for a connection that has been made already.
const AT_ONCE: Duration = Duration::from_millis(1);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The files that may be connected to.
#[derive(Debug)]
pub(super) struct UnixSockets {
    granted: Vec<UnixSocket>,
    denied: Vec<PathBuf>,
    /// Held open, so that no other file takes their numbers.
    own: Mutex<Vec<OwnedFd>>,
}

impl UnixSockets {
    pub(super) fn new(caps: &CapabilitySet) -> Self {
        let denied = caps.denied_paths().iter().map(|denied| denied.resolved().to_owned());
        Self {
            granted: caps.unix_sockets().to_vec(),
            denied: denied.collect(),
            own: Mutex::default(),
        }
    }

    /// Takes hold of a socket's file by the path that `thread` has for it, if it may.
    pub(super) fn reach(&self, thread: i32, path: &Path) -> Result<OwnedFd, Errno> {
        let file = open_for(thread, path)?;
        let status = fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
            return Err(Errno::CONNREFUSED);
        }
        if self.is_own(&status) || self.is_granted(&file, &status) {
            return Ok(file);
        }
        Err(Errno::ACCESS)
    }

    /// Remembers the file of a socket at which the sandboxed process has begun to listen.
    pub(super) fn learn(&self, thread: i32, listening: BorrowedFd<'_>) {
        let Ok(file) = file_of(thread, listening) else { return };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|file| fstat(file).is_ok_and(|status| status.st_nlink > 0));
        if own.len() < MOST_OWN {
            own.push(file);
        }
    }

    fn is_own(&self, status: &Stat) -> bool {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.iter().any(|file| is_same(file, status))
    }

    fn is_granted(&self, file: &OwnedFd, status: &Stat) -> bool {
        let Some(path) = path_of(file) else { return false };
        if self.denied.iter().any(|denied| path.starts_with(denied)) {
            return false;
        }
        let (directories, files): (Vec<_>, Vec<_>) =
            self.granted.iter().partition(|granted| granted.is_directory());
        files.iter().any(|granted| is_same(granted.handle(), status))
            || is_beneath(&path, &directories)
    }
}

/// Where an open file is now.
fn path_of(file: &OwnedFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Whether a path is beneath one of the directories.
fn is_beneath(path: &Path, directories: &[&UnixSocket]) -> bool {
    path.ancestors().skip(1).any(|ancestor| {
        let Ok(status) = stat(ancestor) else { return false };
        directories.iter().any(|granted| is_same(granted.handle(), &status))
    })
}

fn is_same(file: impl std::os::fd::AsFd, other: &Stat) -> bool {
    fstat(file).is_ok_and(|own| (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Opens a path as `thread` would. It has the same root: none of its calls can change that.
fn open_for(thread: i32, path: &Path) -> Result<OwnedFd, Errno> {
    if path.is_absolute() {
        return open(path, HANDLE, Mode::empty());
    }
    let directory = open(format!("/proc/{thread}/cwd"), HANDLE, Mode::empty())?;
    openat(directory, path, HANDLE, Mode::empty())
}

/// The file that leads to a listening socket. Its name is the sandboxed process's to change at
/// any time, so what the name leads to is tried: a connection made by it must arrive.
fn file_of(thread: i32, listening: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::try_from(getsockname(listening)?)?;
    let path = address.path_bytes().ok_or(Errno::NOENT)?;
    let file = open_for(thread, Path::new(std::ffi::OsStr::from_bytes(path)))?;

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let trial = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The kernel gives it a name that nobody has.
    bind(&trial, &SocketAddrUnix::new_unnamed())?;
    let name = getsockname(&trial)?;
    connect(&trial, &SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?)?;

    let patience = socket_timeout(listening, Timeout::Recv)?;
    set_socket_timeout(listening, Timeout::Recv, Some(AT_ONCE))?;
    let arrived = accept_with(listening, SocketFlags::CLOEXEC);
    set_socket_timeout(listening, Timeout::Recv, patience)?;
    match getpeername(arrived?)? {
        Some(peer) if peer == name => Ok(file),
        _ => Err(Errno::ACCESS),
    }
}

/// Whether a thread acts as the same user and groups as we do.
pub(super) fn is_like_us(thread: i32) -> bool {
    let identity = |owner: &str| {
        let status = fs::read_to_string(format!("/proc/{owner}/status")).ok()?;
        let is_identity =
            |line: &&str| ["Uid:", "Gid:", "Groups:"].iter().any(|field| line.starts_with(field));
        Some(status.lines().filter(is_identity).map(str::to_owned).collect::<Vec<_>>())
    };
    let theirs = identity(&thread.to_string());
    theirs.is_some() && theirs == identity("thread-self")
}
