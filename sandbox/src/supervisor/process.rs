//! The supervisor of [`apply`](crate::apply()): a process beside the one that is held. It must not
//! be a thread, as a sandboxed process can do what it likes to its own memory.
//!
//! It is started before anything is restricted, shows that it can look into the process, and then
//! gets the place where calls wait. It ends when the last process of the sandbox has ended, and if
//! it is killed before, the calls that it would have judged fail.

use std::ffi::c_int;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::thread::gettid;

use super::handover::{receive, send_descriptor};
use super::{Granted, Object, Parts, Supervisor};
use crate::capability::CapabilitySet;
use crate::privilege::supervising;
use crate::sys::{
    Copied, Pages, keep_capabilities, no_new_privileges, raise_file_limit, read_memory,
};

/// What the process is told: to go on, and what it says: that it can do its work, or not.
const GO_ON: u8 = 1;
const CANNOT: u8 = 0;

/// Something to be read in the memory of the other process, where it is at the same address.
static WITNESS: u8 = 0x5A;

/// A supervisor's process that has not got anything to do yet. Dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Apart {
    channel: OwnedFd,
    process: Copied,
    is_at_work: bool,
}

/// What the process has to know.
#[derive(Clone, Copy, Debug)]
struct Task<'a> {
    granted: Granted<'a>,
    capabilities: u64,
    /// A thread of the process that is to be held.
    thread: i32,
    channel: BorrowedFd<'a>,
}

impl Apart {
    /// Starts the process, for a set and all names of what it denies. None if the kernel does not let
    /// it look into this one, so that it could not judge anything.
    ///
    /// # Errors
    ///
    /// Those of making a process and what it needs.
    pub(crate) fn start(caps: &CapabilitySet, denied: &[PathBuf]) -> io::Result<Option<Self>> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        let process = launch(caps, denied, theirs.as_fd()).map_err(io::Error::from_raw_os_error)?;
        drop(theirs);
        process.let_look();
        let apart = Self { channel: ours, process, is_at_work: false };
        Ok(apart.is_able()?.then_some(apart))
    }

    fn is_able(&self) -> io::Result<bool> {
        send(&self.channel, &[GO_ON], SendFlags::NOSIGNAL)?;
        let mut said = [CANNOT];
        match retry_on_intr(|| recv(&self.channel, &mut said, RecvFlags::empty()))? {
            (1, _) => Ok(said == [GO_ON]),
            // It has ended.
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Gives it the place where calls wait. Takes no memory and no lock.
    ///
    /// # Errors
    ///
    /// `EPIPE` if it has ended.
    pub(crate) fn give(&self, listener: BorrowedFd<'_>) -> Result<(), c_int> {
        send_descriptor(self.channel.as_fd(), listener)
    }

    /// Lets it go on by itself.
    pub(crate) fn release(mut self) {
        self.is_at_work = true;
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if !self.is_at_work {
            self.process.end();
        }
    }
}

/// Lays out in memory of its own what the process has to know, and starts it.
fn launch(
    caps: &CapabilitySet,
    denied: &[PathBuf],
    channel: BorrowedFd<'_>,
) -> Result<Copied, c_int> {
    let parts = Parts::new(caps, denied);
    let Granted { rules, sockets, denied, writable } = parts.granted();
    let fds: Vec<c_int> = [sockets, writable]
        .into_iter()
        .flatten()
        .map(|object| object.handle.as_raw_fd())
        .chain([channel.as_raw_fd()])
        .collect();
    let [sockets, writable] = [Pages::<Object<'_>>::new(sockets)?, Pages::new(writable)?];
    let paths = Pages::new(&denied.concat())?;
    let mut rest = &*paths;
    let denied: Vec<&[u8]> = denied
        .iter()
        .map(|path| {
            let (path, after) = rest.split_at_checked(path.len()).unwrap_or((rest, &[]));
            rest = after;
            path
        })
        .collect();
    let denied = Pages::new(&denied)?;
    let [connect, bind, localhost] = rules.ports();
    let port_lists = [Pages::new(connect)?, Pages::new(bind)?, Pages::new(localhost)?];
    let rules = rules.with_ports(port_lists.each_ref().map(|ports| &**ports));
    let granted = Granted { rules, sockets: &sockets, denied: &denied, writable: &writable };
    let task = Task {
        granted,
        capabilities: supervising(caps),
        thread: gettid().as_raw_nonzero().get(),
        channel,
    };
    let task = Pages::new(&[task])?;
    let [connect, bind, localhost] = port_lists.each_ref().map(Pages::range);
    let kept: [Range<usize>; 7] = [
        connect,
        bind,
        localhost,
        sockets.range(),
        writable.range(),
        paths.range(),
        denied.range(),
    ];
    Copied::start(&task, &fds, &kept, supervise)
}

/// The process's life. It keeps to the rules of `sys/apart.rs`.
fn supervise(task: &Task<'_>) {
    let mut told = [CANNOT];
    if recv(task.channel, &mut told, RecvFlags::empty()).is_err() || told != [GO_ON] {
        return;
    }
    // It acts for the sandboxed process, with no more than that may have. What cannot be given up
    // is not needed to be safe.
    let _ = no_new_privileges();
    let _ = keep_capabilities(task.capabilities);
    raise_file_limit();
    let mut byte = [0];
    let address = std::ptr::from_ref(&WITNESS).addr() as u64;
    let can_look = read_memory(task.thread, address, &mut byte).is_ok() && byte == [WITNESS];
    let says = if can_look { GO_ON } else { CANNOT };
    if send(task.channel, &[says], SendFlags::NOSIGNAL).is_err() || !can_look {
        return;
    }
    if let Some(listener) = receive(task.channel, None) {
        Supervisor::new(listener, task.granted, None).serve(None);
    }
}
