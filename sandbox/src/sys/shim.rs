//! The shim: a small process between the caller and the sandboxed program, which sees to it that
//! the program's whole tree ends.
//!
//! It shares the caller's memory (so it costs no page tables) but nothing else: it has descriptors,
//! signal actions and a process group of its own. It lives from before the program until all that the
//! program started has ended, and makes that happen when the program ends, when the time is up,
//! when it is told to, and when the caller is gone.
//!
//! One death of the caller is its own too: for want of memory the kernel kills all whose memory that
//! is. The program dies with it then, and what that has started goes on in its sandbox. Where the
//! shim alone is killed, the caller ends the rest by the program's control group, or says that it
//! cannot (`tree.rs`).
//!
//! * As a *subreaper* it inherits every descendant whose parent has ended. When it has no child
//!   left, nothing is left of the tree.
//! * Inside a Landlock scope of its own (`scope.rs`) its `kill(-1)` reaches the whole tree and
//!   nothing else. The program is in a second layer within, from where it cannot signal the shim.
//!   Without scopes (before Landlock ABI 6) the program's control group has to do or, if it has
//!   none, its process group.
//!
//! What a process may do in memory that is not its own is said in `child.rs`.

use std::ffi::{c_int, c_short, c_void};
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::child::{Launch, NONE, Numbers, at, child_main};
use super::process::{exit, monotonic, new_group, no_new_privileges, own_number};
use super::raw::{CloneArguments, call, clone_onto, clone_with};
use super::scope::enter_signal_scope;
use super::signal::{SignalSet, reset_signal_actions};
use super::stack::STACK;
use super::tree::Failure;
use crate::error::Step;

/// What the caller sends to have everything killed; other bytes are signals for the program.
pub(super) const KILL_ALL: u8 = 0;
/// What the shim sends when the program has begun.
pub(super) const STARTED: u8 = 1;
/// Nanoseconds that killed processes are waited for. One that the kernel cannot end, because it
/// hangs in a driver or a network file system, is left to end when it can.
const PATIENCE: u64 = 2_000_000_000;
/// Nanoseconds between looks at what is left; most ends are told by a signal.
const LOOK: u64 = 20_000_000;
/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const INTO_GROUP: u64 = 1 << 33;
/// The first descriptor beyond the standard streams.
const FIRST: c_int = 3;

/// Why a program's tree came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Cause {
    /// The program ended by itself.
    Exit = 1,
    /// Its time was up.
    Deadline,
    /// It was told to, or its caller is gone.
    Killed,
}

impl Cause {
    pub(super) const ALL: [Self; 3] = [Self::Exit, Self::Deadline, Self::Killed];
}

/// What the shim leaves behind for the caller to read.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The program's number; zero before it has begun.
    pub child: AtomicI32,
    /// Whether `status` is known.
    pub has_status: AtomicBool,
    /// As `wait` gives it.
    pub status: AtomicI32,
    /// A [`Cause`], or zero before there is one.
    pub cause: AtomicU32,
    /// Whether `kill(-1)` is the tree's and nobody else's.
    pub is_scoped: AtomicBool,
    /// Whether every process of the tree is known to have ended.
    pub is_clear: AtomicBool,
    /// Microseconds of processor time of the tree.
    pub cpu: AtomicU64,
    /// Kilobytes of the largest process of the tree.
    pub max_rss: AtomicU64,
    /// The same of the caller when the program had ended: `execve` notes the peak of the memory that
    /// a process leaves as that process's own, and a child made without a copy leaves the caller's.
    /// When its end is told, its own memory is gone.
    pub shared_rss: AtomicU64,
}

/// The first function on the shim's stack.
pub(super) extern "C" fn shim_main(launch: *mut c_void) -> ! {
    // SAFETY: `Tree::start` passes a launch that outlives this process; it is only read but for
    // its atomics.
    let launch = unsafe { &*launch.cast::<Launch>() };
    if let Err(failure) = launch.supervise() {
        launch.record(failure);
    }
    exit(0)
}

impl Launch {
    /// The shim's life.
    fn supervise(&self) -> Result<(), Failure> {
        self.settle()?;
        let signals = child_signals().map_err(at(Step::Shim))?;
        if self.filters_shim() {
            self.filter()?;
        }
        let child = self.clone_child().map_err(at(Step::Clone))?;
        self.ending.child.store(child, Ordering::Relaxed);
        if self.failure().is_none() {
            self.let_go();
            let cause = self.watch(signals, child);
            self.ending.cause.store(cause as u32, Ordering::Relaxed);
            if cause == Cause::Exit && self.plan.watch.keeps_background {
                return Ok(());
            }
        }
        self.end_tree(signals, child);
        self.remove_group();
        Ok(())
    }

    /// Parts with the caller, and prepares what the program inherits.
    fn settle(&self) -> Result<(), Failure> {
        // With no handler left, no code of the caller's runs here; all signals are blocked as yet.
        reset_signal_actions();
        self.shim.store(own_number().map_err(at(Step::Shim))?, Ordering::Relaxed);
        // A signal to the caller's group is none of the shim's.
        new_group().map_err(at(Step::Shim))?;
        self.connect_stdio().map_err(at(Step::Stdio))?;
        self.close_others().map_err(at(Step::Descriptors))?;
        no_new_privileges().map_err(at(Step::NoNewPrivileges))?;
        if self.plan.watch.can_scope {
            let is_scoped = enter_signal_scope(self.fds.caller).map_err(at(Step::Scope))?;
            self.ending.is_scoped.store(is_scoped, Ordering::Relaxed);
        }
        set(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(at(Step::Shim))?;
        set(libc::PR_SET_NAME, c"nono-shim".as_ptr() as usize).map_err(at(Step::Shim))
    }

    fn connect_stdio(&self) -> Result<(), c_int> {
        for (fd, number) in self.fds.stdio.into_iter().zip(0..) {
            let fd = fd.unsigned_abs() as usize;
            // SAFETY: takes numbers only. The descriptors are this process's own copies, and it
            // has no Rust object that owns the one replaced.
            unsafe { call(libc::SYS_dup3, [fd, number, 0]) }?;
        }
        Ok(())
    }

    /// Closes the copies of all that the caller has open and that is not needed here.
    fn close_others(&self) -> Result<(), c_int> {
        let Numbers { ruleset, caller, channel, handover, group, group_kill, .. } = self.fds;
        let more = [handover, group, group_kill].map(|fd| fd.unwrap_or(ruleset));
        let [handover, group, group_kill] = more;
        let mut needed = [ruleset, caller, channel, handover, group, group_kill];
        needed.sort_unstable();
        let mut next = FIRST;
        for fd in needed {
            if next < fd {
                close(next, fd - 1)?;
            }
            next = next.max(fd + 1);
        }
        close(next, c_int::MAX)
    }

    /// Makes the program's process. Stands still until that has left this memory if its beginning
    /// is to be told, or if it has still to make the listening side of its filter.
    fn clone_child(&self) -> Result<c_int, c_int> {
        // In this memory, and whether it still is becomes known.
        const SHARES: c_int =
            libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
        const STANDS_STILL: c_int = SHARES | libc::CLONE_VFORK;
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let [_, top] = self.stacks.tops();
        let told = self.inhabitant.as_ptr();
        let Some(group) = self.fds.group else {
            let flags = if self.plan.watch.announces { STANDS_STILL } else { SHARES };
            let flags = flags | libc::SIGCHLD;
            // SAFETY: the stack is for this child alone and, like the launch, stays until it has
            // left this memory: who holds both looks at `inhabitant`, whatever becomes of the shim.
            // `child_main` keeps to the rules of `child.rs`.
            return unsafe { clone_onto(flags, top, [told, told], child_main, argument) };
        };
        let arguments = CloneArguments {
            flags: u64::from((STANDS_STILL | libc::CLONE_FILES).cast_unsigned()) | INTO_GROUP,
            exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
            child_tid: told as u64,
            parent_tid: told as u64,
            stack: top.wrapping_byte_sub(STACK) as u64,
            stack_size: STACK as u64,
            cgroup: u64::from(group.cast_unsigned()),
            ..CloneArguments::default()
        };
        // SAFETY: as above.
        unsafe { clone_with(&arguments, child_main, argument) }
    }

    /// Closes what was for the program, and tells that it has begun.
    fn let_go(&self) {
        let _ = close(0, 2);
        let _ = close(self.fds.ruleset, self.fds.ruleset);
        if self.plan.watch.announces {
            let message = [STARTED];
            let flags = (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT).unsigned_abs() as usize;
            let pointer = message.as_ptr() as usize;
            let channel = self.fds.channel.unsigned_abs() as usize;
            // SAFETY: `message` is of the length given, and lives through the call.
            let _ = unsafe { call(libc::SYS_sendto, [channel, pointer, 1, flags, 0, 0]) };
        }
    }

    /// Sends the caller what it needs to answer calls. If it is gone, they fail.
    pub(super) fn hand_over(&self) {
        let listener = self.listener.swap(NONE, Ordering::Relaxed);
        if let (Some(line), 0..) = (self.fds.handover, listener) {
            let _ = send_descriptor(line, listener);
            let _ = close(listener, listener);
            let _ = close(line, line);
        }
    }

    /// Waits until there is a cause for the end.
    fn watch(&self, signals: c_int, child: c_int) -> Cause {
        loop {
            let left =
                self.plan.watch.deadline.map(|deadline| deadline.saturating_sub(monotonic()));
            if left == Some(0) {
                return Cause::Deadline;
            }
            let listener = self.listener.load(Ordering::Relaxed);
            let fds = [signals, self.fds.channel, self.fds.caller, listener];
            let [ended, told, orphaned, called] = poll(fds, left);
            if called & libc::POLLIN != 0 {
                self.hand_over();
            } else if called != 0 {
                // Nobody is left who could make a call.
                let _ = close(listener, listener);
                self.listener.store(NONE, Ordering::Relaxed);
            }
            if ended != 0 {
                drain(signals);
                let is_clear = self.reap(child);
                self.ending.is_clear.store(is_clear, Ordering::Relaxed);
                if self.ending.has_status.load(Ordering::Relaxed) {
                    return Cause::Exit;
                }
            }
            if orphaned != 0 || (told != 0 && !self.obey(child)) {
                return Cause::Killed;
            }
        }
    }

    /// Does what the caller says, and tells whether the program goes on. The program's number is
    /// its own for as long as the shim has not waited for it.
    fn obey(&self, child: c_int) -> bool {
        let mut message = [KILL_ALL];
        let pointer = message.as_mut_ptr() as usize;
        let channel = self.fds.channel.unsigned_abs() as usize;
        let flags = libc::MSG_DONTWAIT.unsigned_abs() as usize;
        // SAFETY: `message` has the length given, and lives through the call.
        match unsafe { call(libc::SYS_recvfrom, [channel, pointer, 1, flags, 0, 0]) } {
            Ok(1) if message == [KILL_ALL] => false,
            Ok(1) => {
                let [signal] = message;
                kill(child, c_int::from(signal));
                true
            }
            Err(libc::EAGAIN | libc::EINTR) => true,
            // The caller has dropped its end.
            _ => false,
        }
    }

    /// Kills what is there and waits for it, until nothing is left or patience is.
    fn end_tree(&self, signals: c_int, child: c_int) {
        if self.ending.is_clear.load(Ordering::Relaxed) {
            return;
        }
        let until = monotonic().saturating_add(PATIENCE);
        while !self.reap(child) {
            if !self.kill_tree(child) {
                return;
            }
            if monotonic() >= until {
                return;
            }
            let [ended] = poll([signals], Some(LOOK));
            if ended != 0 {
                drain(signals);
            }
        }
        self.ending.is_clear.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is left that was to end.
    pub(super) fn is_over(&self) -> bool {
        let is_exit = self.ending.cause.load(Ordering::Relaxed) == Cause::Exit as u32;
        let is_left = is_exit && self.plan.watch.keeps_background;
        is_left || self.ending.is_clear.load(Ordering::Relaxed)
    }

    /// Kills what is there, and tells whether there was a way to.
    fn kill_tree(&self, child: c_int) -> bool {
        if let Some(fd) = self.fds.group_kill {
            write(fd, b"1");
        }
        if self.ending.is_scoped.load(Ordering::Relaxed) {
            kill(-1, libc::SIGKILL);
        } else if !self.ending.has_status.load(Ordering::Relaxed) {
            kill(-child, libc::SIGKILL);
            kill(child, libc::SIGKILL);
        } else {
            // The group's number may be somebody else's by now, and its members were killed.
            return self.fds.group_kill.is_some();
        }
        true
    }

    /// Whether all that the program has started is within reach, wherever it hides.
    pub(super) fn is_reached(&self) -> bool {
        self.ending.is_scoped.load(Ordering::Relaxed) || self.fds.group_kill.is_some()
    }

    /// Removes the program's control group if nobody is there any more to do it: the caller has
    /// ended, or executed another program.
    fn remove_group(&self) {
        let [ended, told] = poll([self.fds.caller, self.fds.channel], Some(0));
        if let Some(group) = &self.plan.group
            && (ended != 0 || told & libc::POLLHUP != 0)
        {
            let here = libc::AT_FDCWD.cast_unsigned() as usize;
            let flags = libc::AT_REMOVEDIR.cast_unsigned() as usize;
            // SAFETY: the path is a C string that lives as long as the launch.
            let _ =
                unsafe { call(libc::SYS_unlinkat, [here, group.path().as_ptr() as usize, flags]) };
        }
    }

    /// Waits for all that has ended, and tells whether nothing is left.
    fn reap(&self, child: c_int) -> bool {
        loop {
            let who = match self.next_ended(child) {
                Ok(Some(who)) => who,
                Ok(None) => return false,
                Err(error) => return error == libc::ECHILD,
            };
            let mut status: c_int = 0;
            let mut usage = [0_u64; USAGE_WORDS];
            let options = (libc::WNOHANG | libc::__WALL).cast_unsigned() as usize;
            let status_at = ptr::from_mut(&mut status) as usize;
            let arguments = [who, status_at, options, usage.as_mut_ptr() as usize];
            // SAFETY: both pointers are to memory of the size that the call writes.
            match unsafe { call(libc::SYS_wait4, arguments) } {
                Ok(0) => return false,
                Ok(pid) => {
                    self.account(&usage);
                    if c_int::try_from(pid) == Ok(child) {
                        self.ending.status.store(status, Ordering::Relaxed);
                        self.ending.has_status.store(true, Ordering::Relaxed);
                        self.ending.shared_rss.store(own_peak(), Ordering::Relaxed);
                    }
                }
                Err(error) => return error == libc::ECHILD,
            }
        }
    }

    /// Who is to be waited for, if anybody has ended: whoever it is, or one process by its number.
    ///
    /// Without a scope the program's group is killed here, while its number is still the program's:
    /// until that is waited for, and so nobody is who has not been looked at.
    fn next_ended(&self, child: c_int) -> Result<Option<usize>, c_int> {
        const ANYBODY: usize = usize::MAX;
        let ending = &self.ending;
        let is_scoped = ending.is_scoped.load(Ordering::Relaxed);
        let is_over = ending.has_status.load(Ordering::Relaxed);
        if is_scoped || is_over || self.plan.watch.keeps_background {
            return Ok(Some(ANYBODY));
        }
        let ended = look_for_ended()?;
        if ended == Some(child) {
            kill(-child, libc::SIGKILL);
        }
        Ok(ended.map(|number| number.unsigned_abs() as usize))
    }

    /// Adds up what the kernel says that a process has used.
    fn account(&self, usage: &[u64; USAGE_WORDS]) {
        let [user, user_micros, system, system_micros, max_rss, ..] = *usage;
        let seconds = user.saturating_add(system).saturating_mul(1_000_000);
        let micros = seconds.saturating_add(user_micros).saturating_add(system_micros);
        self.ending.cpu.fetch_add(micros, Ordering::Relaxed);
        self.ending.max_rss.fetch_max(max_rss, Ordering::Relaxed);
    }
}

/// Words of the kernel's `struct rusage` on a 64-bit platform: two times, and 14 numbers of which
/// the first is the peak of resident memory.
const USAGE_WORDS: usize = 18;

/// The peak of the calling process's resident memory, in kilobytes.
fn own_peak() -> u64 {
    let mut usage = [0_u64; USAGE_WORDS];
    let pointer = usage.as_mut_ptr() as usize;
    // SAFETY: `usage` has the size that the call writes.
    let _ = unsafe { call(libc::SYS_getrusage, [libc::RUSAGE_SELF as usize, pointer]) };
    let [_, _, _, _, max_rss, ..] = usage;
    max_rss
}

/// The number of a child that has ended, if one has, without waiting for it.
///
/// # Errors
///
/// `ECHILD` if there is none at all.
fn look_for_ended() -> Result<Option<c_int>, c_int> {
    let mut info = [0_u32; 32];
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let (who, at) = (libc::P_ALL as usize, info.as_mut_ptr() as usize);
    // SAFETY: `info` has the 128 bytes of a `siginfo_t`, which the call writes.
    unsafe { call(libc::SYS_waitid, [who, 0, at, options.unsigned_abs() as usize, 0]) }?;
    // Its first field is zero if nobody has; the number comes after two more and a gap.
    let [signal, _, _, _, number, ..] = info;
    Ok((signal != 0).then_some(number.cast_signed()))
}

/// A descriptor that becomes readable when a child ends.
fn child_signals() -> Result<c_int, c_int> {
    let set: SignalSet = 1 << (libc::SIGCHLD - 1);
    let pointer = ptr::from_ref(&set) as usize;
    let flags = (libc::SFD_NONBLOCK | libc::SFD_CLOEXEC).unsigned_abs() as usize;
    // SAFETY: `set` has the size given, and lives through the call.
    let fd =
        unsafe { call(libc::SYS_signalfd4, [usize::MAX, pointer, size_of::<SignalSet>(), flags]) }?;
    c_int::try_from(fd).map_err(|_| libc::EBADF)
}

/// Takes what is to be read from a descriptor of signals.
fn drain(signals: c_int) {
    // The kernel's `struct signalfd_siginfo` has 128 bytes. One kind of signal is queued once.
    let mut info = [0_u8; 128];
    let arguments = [signals.unsigned_abs() as usize, info.as_mut_ptr() as usize, info.len()];
    // SAFETY: `info` has the length given.
    let _ = unsafe { call(libc::SYS_read, arguments) };
}

/// Waits for descriptors to have something to say, at most `nanoseconds`, and gives what that is
/// for each. `NONE` never has.
fn poll<const N: usize>(fds: [c_int; N], nanoseconds: Option<u64>) -> [c_short; N] {
    const NOWHERE: usize = 0;
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let mut limit = nanoseconds.map(|nanos| [nanos / 1_000_000_000, nanos % 1_000_000_000]);
    let limit_at = limit.as_mut().map_or(NOWHERE, |limit| ptr::from_mut(limit) as usize);
    let arguments = [polled.as_mut_ptr() as usize, N, limit_at, NOWHERE, size_of::<SignalSet>()];
    // SAFETY: the first points to as many entries as the second says, the third to a `timespec`
    // of 64 bits each or nowhere; both are written to, and live through the call. No signal mask is
    // given.
    match unsafe { call(libc::SYS_ppoll, arguments) } {
        Ok(_) => polled.map(|fd| fd.revents),
        Err(_) => [0; N],
    }
}

fn write(fd: c_int, bytes: &[u8]) {
    let arguments = [fd.unsigned_abs() as usize, bytes.as_ptr() as usize, bytes.len()];
    // SAFETY: `bytes` has the length given.
    let _ = unsafe { call(libc::SYS_write, arguments) };
}

fn kill(pid: c_int, signal: c_int) {
    let arguments = [pid.cast_unsigned() as usize, signal.unsigned_abs() as usize];
    // SAFETY: takes numbers. A number below zero is a process group, or all within the scope.
    let _ = unsafe { call(libc::SYS_kill, arguments) };
}

pub(super) fn close(first: c_int, last: c_int) -> Result<(), c_int> {
    let arguments = [first.unsigned_abs() as usize, last.unsigned_abs() as usize, 0];
    // SAFETY: takes numbers; the descriptors are this process's own copies, with no owner in Rust.
    unsafe { call(libc::SYS_close_range, arguments) }.map(drop)
}

/// Sends a descriptor through a unix socket, by the kernel's own call.
fn send_descriptor(socket: c_int, fd: c_int) -> Result<(), c_int> {
    // SAFETY: both are open: nothing of this process closes them meanwhile.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    // SAFETY: as above.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    crate::supervisor::send_descriptor(socket, fd)
}

pub(super) fn set(option: c_int, value: usize) -> Result<(), c_int> {
    // SAFETY: takes a number, or a C string that lives for ever.
    unsafe { call(libc::SYS_prctl, [option.unsigned_abs() as usize, value, 0, 0, 0]) }.map(drop)
}
