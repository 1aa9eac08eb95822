//! How a supervisor comes by its listening side, and the thread that it is.

use std::ffi::c_int;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

use super::observer::Observer;
use super::{Granted, Parts, Supervisor};
use crate::capability::CapabilitySet;
use crate::denial::Denials;
use crate::observe::Observed;
use crate::privilege::supervising;
use crate::stdio::beyond_stdio;
use crate::sys::{Ids, become_user, keep_capabilities, own_table};

/// The way of the descriptor at which a child's calls wait: from the shim, which sends it when the
/// first call does, to the parent.
#[derive(Debug)]
pub(crate) struct Handover {
    parent: OwnedFd,
    child: OwnedFd,
}

/// What a supervisor is told of its sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub caps: CapabilitySet,
    /// All names of what the set denies.
    pub denied: Vec<PathBuf>,
    /// Whom the child becomes, if not the parent's user.
    pub ids: Option<Ids>,
    /// Where to note what the child does, if it is to be looked at and not to be judged.
    pub observed: Option<Arc<Observed>>,
    /// Whether it goes on for processes that the child leaves running.
    pub is_lasting: bool,
}

/// A supervisor that has not been needed yet.
#[derive(Debug)]
pub(crate) struct Ready {
    line: Arc<OwnedFd>,
    denials: Arc<Denials>,
    service: Service,
}

/// A supervisor at work. Dropped, it ends, and calls that wait or come later fail.
#[derive(Debug)]
pub(crate) struct Supervision {
    _stopper: Option<OwnedFd>,
    /// Somebody may still have it in a set to watch.
    _line: Arc<OwnedFd>,
}

impl Handover {
    pub(crate) fn new(is_lasting: bool) -> io::Result<Self> {
        // A stream tells the supervisor when nobody is left who could send. With a stopper it need
        // not know, and of datagrams nobody is told: that would wake the parent at every end.
        let kind = if is_lasting { SocketType::STREAM } else { SocketType::DGRAM };
        let (parent, child) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Self { parent, child: beyond_stdio(child)? })
    }

    /// The child's end.
    pub(crate) fn child(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Prepares the supervisor of a child that has its end already.
    pub(crate) fn ready(self, service: Service) -> Ready {
        Ready { line: Arc::new(self.parent), denials: Arc::default(), service }
    }
}

impl Ready {
    /// Becomes readable when a call waits.
    pub(crate) fn called(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// Where the supervisor will note what it refuses.
    pub(crate) fn denials(&self) -> Arc<Denials> {
        Arc::clone(&self.denials)
    }

    /// Starts the supervisor.
    ///
    /// # Errors
    ///
    /// Those of making a pipe and a thread.
    pub(crate) fn serve(self) -> io::Result<Supervision> {
        let Self { line, denials, service } = self;
        let parent = Arc::clone(&line);
        let (stop, stopper) = pipe_with(PipeFlags::CLOEXEC)?;
        let (kept, lasting) =
            if service.is_lasting { (None, Some(stopper)) } else { (Some(stopper), None) };
        let Service { caps, denied, observed, ids, .. } = service;
        let capabilities = supervising(&caps);
        named().spawn(move || {
            let Some(listener) = receive(parent.as_fd(), Some(stop.as_fd())) else { return };
            if let Some(observed) = observed {
                // It acts for nobody.
                return Observer::new(listener, observed).serve(stop.as_fd());
            }
            // It acts for the sandboxed process: as its user, with no more than that may have.
            if ids.is_some_and(|ids| become_user(ids).is_err()) {
                return;
            }
            // What cannot be given up is not needed to be safe.
            let _ = keep_capabilities(capabilities);
            let parts = Parts::new(&caps, &denied);
            thread::scope(|scope| {
                let serve = || supervise(listener.as_fd(), parts.granted(), &denials, stop.as_fd());
                // Without it, calls fail.
                let _ = named().spawn_scoped(scope, serve);
            });
            drop(lasting);
        })?;
        Ok(Supervision { _stopper: kept, _line: line })
    }
}

fn named() -> thread::Builder {
    thread::Builder::new().name("nono-supervisor".to_owned())
}

/// Serves on a thread with descriptors of its own. What a sandbox has it hold open, a file for each
/// socket, takes no place among those of the parent; and what was opened there is dropped there.
fn supervise(
    listener: BorrowedFd<'_>,
    granted: Granted<'_>,
    denials: &Denials,
    stop: BorrowedFd<'_>,
) {
    let objects = [granted.sockets, granted.writable].into_iter().flatten();
    let mut kept = vec![listener, stop];
    kept.extend(objects.map(|object| object.handle));
    // What is held has its bounds where that cannot be.
    let _ = own_table(&kept);
    if let Ok(listener) = fcntl_dupfd_cloexec(listener, 0) {
        Supervisor::new(listener, granted, Some(denials)).serve(Some(stop));
    }
}

/// Waits for the listening side, until nobody is left to send it or to stop for.
pub(super) fn receive(line: BorrowedFd<'_>, stop: Option<BorrowedFd<'_>>) -> Option<OwnedFd> {
    if let Some(stop) = stop {
        let mut fds = [line, stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        retry_on_intr(|| poll(&mut fds, None)).ok()?;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let wait = if stop.is_some() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
    let flags = RecvFlags::CMSG_CLOEXEC | wait;
    let received: Result<_, Errno> =
        recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut control, flags);
    received.ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// Sends a descriptor through a unix socket. Takes no memory and no lock.
///
/// # Errors
///
/// `EPIPE` if nobody is left to take it.
pub(crate) fn send_descriptor(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), c_int> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(libc::ENOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(Errno::raw_os_error)
}
