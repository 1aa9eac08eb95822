//! A running program and all that it starts, as the caller holds them.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::child::{Descriptors, Launch, Numbers, Plan, at};
use super::process::reap;
use super::raw::clone_onto;
use super::shim::{Cause, KILL_ALL, STARTED, shim_main};
use super::signal::{SignalSet, set_signal_mask};
use crate::cgroup::{Group, Usage, remove_left};
use crate::error::Step;
use crate::stdio::beyond_stdio;

/// How long a shim that was stopped is waited for until it is killed.
const ANSWER: Duration = Duration::from_secs(1);

/// The step that failed, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// The step.
    pub step: Step,
    /// The error number.
    pub errno: c_int,
}

/// What a program and its descendants have come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// Why it ended.
    pub cause: Cause,
    /// The program's status, as `wait` gives it.
    pub status: c_int,
    /// Processor time of the program and its descendants.
    pub cpu_time: Duration,
    /// Bytes of resident memory of the largest process, if it was larger than the caller: the
    /// kernel counts the memory that a program shares with its caller before it begins.
    pub max_rss: Option<u64>,
    /// What the program's control group counted, if it has one.
    pub usage: Usage,
    /// Whether all descendants were within reach, wherever they hid.
    pub is_reached: bool,
    /// Whether every process is known to have ended.
    pub is_clear: bool,
}

/// A shim and what is under it. Dropped, everything is killed.
#[derive(Debug)]
pub(crate) struct Tree {
    /// None once the shim is waited for.
    running: Option<Running>,
}

/// A shim that has not been waited for, and the memory that it uses.
#[derive(Debug)]
struct Running {
    launch: Box<Launch>,
    /// Readable when the shim has ended.
    pidfd: OwnedFd,
    /// The caller's end of the line to the shim.
    channel: OwnedFd,
    /// The process that is the shim's parent. A copy of this one, made by `fork`, is not.
    owner: c_int,
}

/// Shims that had not ended when they were told to, and memory that others than its shim were in.
static ENDING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

impl Tree {
    /// Starts a shim, which starts the program. Neither is waited for: whether the program could
    /// be started is known from [`recv_started`](Self::recv_started), or in the end.
    ///
    /// # Errors
    ///
    /// The step that failed in the caller's own process.
    pub(crate) fn start(plan: Plan, fds: &Descriptors<'_>) -> Result<Self, Failure> {
        sweep();
        let failed = |error: Errno| at(Step::Shim)(error.raw_os_error());
        let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed)?;
        let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
        let (channel, theirs) =
            socketpair(AddressFamily::UNIX, kind, flags, None).map_err(failed)?;
        let moved = |fd| beyond_stdio(fd).map_err(|_| at(Step::Shim)(libc::EMFILE));
        let (own, theirs) = (moved(own)?, moved(theirs)?);
        let numbers = Numbers::new(fds, plan.group.as_ref(), own.as_fd(), theirs.as_fd());
        let launch = Launch::new(plan, numbers)?;
        let pidfd = clone_shim(&launch).map_err(at(Step::Clone))?;
        let owner = getpid().as_raw_nonzero().get();
        Ok(Self { running: Some(Running { launch, pidfd, channel, owner }) })
    }

    /// Becomes readable when everything has ended. None when that is known already.
    pub(crate) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.pidfd.as_fd())
    }

    /// Becomes readable when the program has begun, if the plan announces it, and when everything
    /// has ended. None when that is known already.
    pub(crate) fn started(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.channel.as_fd())
    }

    /// Whether the program has begun, without waiting for that.
    pub(crate) fn recv_started(&self) -> Begun {
        let Some(running) = &self.running else { return Begun::Never };
        let mut message = [0];
        match recv(&running.channel, &mut message, RecvFlags::DONTWAIT) {
            Ok((1, _)) if message == [STARTED] => {
                Begun::As(running.launch.ending.child.load(Ordering::Relaxed))
            }
            Err(Errno::AGAIN | Errno::INTR) => Begun::NotYet,
            _ => Begun::Never,
        }
    }

    /// Gives the whole tree up, and tells whether that ends it. For a shim that does not answer: it
    /// was stopped, or waits for the program's start, which the kernel holds up.
    ///
    /// A stopped one is let do what it is for. One that still does not is killed itself, and with it
    /// the program; what that has started ends by its control group if it has one.
    pub(crate) fn abandon(&self) -> bool {
        let Some(running) = &self.running else { return true };
        let is_killed = running.kill_group();
        running.tell(KILL_ALL);
        // Either fails only when it has ended.
        let _ = pidfd_send_signal(&running.pidfd, Signal::CONT);
        if !running.ends_soon() {
            let _ = pidfd_send_signal(&running.pidfd, Signal::KILL);
        }
        is_killed || running.launch.is_over()
    }

    /// Has everything killed, now. Does not wait for it.
    pub(crate) fn kill(&self) {
        self.tell(KILL_ALL);
    }

    /// Has a signal sent to the program alone. Does nothing when it has ended.
    pub(crate) fn signal(&self, signal: NonZero<u8>) {
        self.tell(signal.get());
    }

    fn tell(&self, message: u8) {
        if let Some(running) = &self.running {
            running.tell(message);
        }
    }

    /// Waits for the end, which [`ended`](Self::ended) tells without blocking.
    ///
    /// # Errors
    ///
    /// [`Ended::Failed`] if the program could not be started; [`Ended::Lost`] or [`Ended::Loose`]
    /// if the shim itself was killed; [`Ended::Lost`] if this was asked before.
    pub(crate) fn wait(&mut self) -> Result<Report, Ended> {
        let running = self.running.take().ok_or(Ended::Lost(libc::ECHILD))?;
        let reaped = running.reap(libc::WEXITED);
        let is_ended = running.launch.is_over() || running.kill_group();
        let outcome = match (reaped, running.launch.failure()) {
            (Err(errno), _) => Err(Ended::Lost(errno)),
            (Ok(_), Some(failure)) => Err(Ended::Failed(failure)),
            (Ok(_), None) => {
                let lost = if is_ended { Ended::Lost(libc::ESRCH) } else { Ended::Loose };
                running.report().ok_or(lost)
            }
        };
        running.let_go();
        outcome
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        // In a copy of the process the shim is somebody else's, and so is the line to it.
        if !running.is_ours() {
            return;
        }
        running.tell(KILL_ALL);
        // The shim does it too, unless it was killed.
        if !running.launch.is_over() {
            running.kill_group();
        }
        running.let_go();
        sweep();
    }
}

/// What the channel says of a program's beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begun {
    /// Nothing yet.
    NotYet,
    /// It runs, or ran, under this number.
    As(c_int),
    /// Nothing any more: what there was to say has been said.
    Never,
}

/// Why there is no report.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// The program was never begun.
    Failed(Failure),
    /// Nobody knows; the error number.
    Lost(c_int),
    /// The shim was killed, and there is no control group to end by what the program has started.
    Loose,
}

impl Running {
    fn tell(&self, message: u8) {
        // Fails only when there is no shim any more.
        let _ = send(&self.channel, &[message], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Kills what is in the program's control group, and tells whether it has one. What is there was
    /// started there, and nothing gets out.
    fn kill_group(&self) -> bool {
        self.is_ours() && self.launch.plan.group.as_ref().is_some_and(Group::kill_all)
    }

    /// Waits a while for the shim's end, and tells whether it came.
    fn ends_soon(&self) -> bool {
        let until = Instant::now() + ANSWER;
        loop {
            let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let left = until.saturating_duration_since(Instant::now());
            match poll(&mut ended, Timespec::try_from(left).ok().as_ref()) {
                // Who is interrupted again and again waits no longer for it.
                Err(Errno::INTR) if !left.is_zero() => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Waits for the shim, and tells whether it has ended. Nobody else can have waited for it:
    /// its end is told by no signal, so it is not among those that "wait for any child" finds.
    fn reap(&self, options: c_int) -> Result<bool, c_int> {
        reap(self.pidfd.as_raw_fd(), options)
    }

    /// Whether somebody runs in the memory of the launch, or is about to. The shim is not the last
    /// one if it was killed before its child had left.
    fn is_used(&self) -> bool {
        // An error means that it is gone, or that this process is a copy and it never was ours.
        match self.reap(libc::WEXITED | libc::WNOHANG) {
            Ok(has_ended) => !has_ended || self.launch.is_inhabited(),
            Err(_) => self.is_ours() && self.launch.is_inhabited(),
        }
    }

    /// Whether this is the process that has started it, and no copy of that.
    fn is_ours(&self) -> bool {
        self.owner == getpid().as_raw_nonzero().get()
    }

    /// Gives up the memory as soon as nobody uses it: now, or when a later start finds it so.
    fn let_go(self) {
        if !self.is_used() {
            return;
        }
        if let Ok(mut ending) = ENDING.try_lock() {
            return ending.push(self);
        }
        // Somebody else is at it, or was when this process was copied from another by `fork`, and then
        // the lock never opens again.
        let _ = self.reap(libc::WEXITED);
        if self.is_used() {
            let _kept = ManuallyDrop::new(self);
        }
    }

    fn report(&self) -> Option<Report> {
        let ending = &self.launch.ending;
        let cause = ending.cause.load(Ordering::Relaxed);
        let cause = Cause::ALL.into_iter().find(|known| *known as u32 == cause)?;
        let has_status = ending.has_status.load(Ordering::Relaxed);
        let (max, shared) = (&ending.max_rss, &ending.shared_rss);
        let (max, shared) = (max.load(Ordering::Relaxed), shared.load(Ordering::Relaxed));
        Some(Report {
            cause,
            // One that the kernel could not end in time was sent this.
            status: if has_status { ending.status.load(Ordering::Relaxed) } else { libc::SIGKILL },
            cpu_time: Duration::from_micros(ending.cpu.load(Ordering::Relaxed)),
            max_rss: (max > shared).then(|| max.saturating_mul(1024)),
            usage: self.launch.plan.group.as_ref().map(Group::usage).unwrap_or_default(),
            is_reached: self.launch.is_reached(),
            is_clear: ending.is_clear.load(Ordering::Relaxed),
        })
    }
}

/// Makes the shim's process.
fn clone_shim(launch: &Launch) -> Result<OwnedFd, c_int> {
    // Its end is told by no signal: to the rest of the program it is as if it were not there.
    const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_PIDFD;
    let mut pidfd: c_int = -1;
    let argument = ptr::from_ref(launch).cast_mut().cast::<c_void>();
    let [top, _] = launch.stacks.tops();
    // No handler of ours may run in the shim.
    let before = set_signal_mask(SignalSet::MAX)?;
    // SAFETY: the stack is for the shim alone; it and the launch stay where they are, in a box,
    // until the shim has been waited for. `shim_main` keeps to the rules of `child.rs`.
    let cloned = unsafe {
        clone_onto(FLAGS, top, [ptr::from_mut(&mut pidfd), ptr::null_mut()], shim_main, argument)
    };
    // Cannot fail: the set is valid. The thread would be left with all signals blocked.
    let _ = set_signal_mask(before);
    cloned?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Gives up what nobody uses any more.
fn sweep() {
    if let Ok(mut ending) = ENDING.try_lock() {
        ending.retain(Running::is_used);
    }
    remove_left();
}

#[cfg(test)]
mod tests;
