//! How a supervisor comes by its listening side, and the thread that it is.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

use super::observer::Observer;
use super::{Granted, Supervisor};
use crate::capability::CapabilitySet;
use crate::denial::Denials;
use crate::error::{Error, Feature};
use crate::landlock::Landlock;
use crate::network::{Judge, Seal};
use crate::observe::Observed;
use crate::privilege::supervising;
use crate::stdio::beyond_stdio;
use crate::sys::{Ids, become_user, can_listen, keep_capabilities};

/// Who is to judge the addresses of a child's connections.
///
/// # Errors
///
/// [`Error::Unsupported`] if it must be a supervisor, and cannot be: a surrounding sandbox has
/// one, and there is one for all that is in it.
pub(crate) fn judge(landlock: Landlock, caps: &CapabilitySet) -> Result<Judge, Error> {
    let judge = landlock.judge(caps);
    if judge == Judge::Landlock || can_supervise() {
        return Ok(judge);
    }
    if caps.seal() == Seal::Tcp && !caps.is_accepting_less() {
        return Err(Error::Unsupported { feature: Feature::Supervisor });
    }
    Ok(Judge::Landlock)
}

/// Whether a child's calls can wait for a thread of ours.
pub(crate) fn can_supervise() -> bool {
    /// A process does not get out of a sandbox, and gets a listening one around it only when it
    /// is started.
    static CAN_LISTEN: OnceLock<bool> = OnceLock::new();
    let on_a_thread = || {
        let trial = thread::Builder::new().name("sandbox-trial".to_owned()).spawn(can_listen);
        trial.is_ok_and(|trial| trial.join().unwrap_or(false))
    };
    *CAN_LISTEN.get_or_init(on_a_thread)
}

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
        let granted = Granted::new(&service.caps);
        let observed = service.observed;
        let (ids, capabilities) = (service.ids, supervising(&service.caps));
        thread::Builder::new().name("nono-supervisor".to_owned()).spawn(move || {
            let Some(listener) = receive(&parent, &stop) else { return };
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
            Supervisor::new(listener, granted, denials).serve(stop.as_fd());
            drop(lasting);
        })?;
        Ok(Supervision { _stopper: kept, _line: line })
    }
}

/// Waits for the listening side, until nobody is left to send it or to stop for.
fn receive(line: &OwnedFd, stop: &OwnedFd) -> Option<OwnedFd> {
    let mut fds = [PollFd::new(line, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    retry_on_intr(|| poll(&mut fds, None)).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received: Result<_, Errno> =
        recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut control, flags);
    received.ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}
