//! A round: every thread of the process is stopped in a signal handler, and then all of them
//! restrict themselves, or none.
//!
//! The kernel lets a thread restrict only itself before Landlock ABI 8. The signal is the one by
//! which the C library changes the user of all threads (`SIGSETXID`): the library lets nobody
//! block it, and installs its handler for it, to which all that is not ours is handed on.
//!
//! A thread may be stopped anywhere, so also while it holds the allocator's lock. From the first
//! [`Round::call`] to the end of the round nobody may allocate or take a lock, and what runs in
//! the handler makes system calls and touches atomics, nothing else. The handler stays installed:
//! a signal that comes late finds no round that it belongs to and does nothing.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::signal::{SignalSet, set_signal_mask};
use super::{call, keep_capabilities, last_errno, no_new_privileges};

/// `SIGSETXID` of the C library.
const SIGNAL: c_int = 33;
/// How many threads a round has room for.
pub(crate) const MOST: usize = 1 << 14;
/// The kernel's `LANDLOCK_RESTRICT_SELF_TSYNC`, from ABI 8 on.
const ALL_THREADS: usize = 1 << 3;
/// Bits of `STATE` that are the phase; the others are the round's number.
const PHASE_BITS: u32 = 2;

/// What the threads of a round are to do.
const GATHER: u32 = 1;
const RESTRICT: u32 = 2;
const GO_ON: u32 = 0;

/// The number of the round and its phase. Threads wait on it.
static STATE: AtomicU32 = AtomicU32::new(GO_ON);
/// Changes with every arrival and every result. The leader waits on it.
static BELL: AtomicU32 = AtomicU32::new(0);
/// The process that has a turn; a child forked meanwhile has a number of its own.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// One place for each thread that was called.
static PLACES: [Place; MOST] = [const { Place::new() }; MOST];
/// What the threads are to do, in words that a handler can read.
static RULESET: AtomicI32 = AtomicI32::new(-1);
static CAPABILITIES: AtomicU64 = AtomicU64::new(0);
/// The handler that was there before, and its flags.
static FORMER: AtomicUsize = AtomicUsize::new(0);

/// What a thread says to the leader. Both numbers are of the round that they were said in.
struct Place {
    arrived: AtomicU32,
    done: AtomicU32,
    errno: AtomicI32,
}

impl Place {
    const fn new() -> Self {
        Self { arrived: AtomicU32::new(0), done: AtomicU32::new(0), errno: AtomicI32::new(0) }
    }
}

/// What a thread does to itself, for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restriction<'a> {
    /// The Landlock ruleset.
    pub ruleset: BorrowedFd<'a>,
    /// The bits of the capabilities to keep.
    pub capabilities: u64,
    /// Whether one thread can enter the Landlock domain for all (ABI 8).
    pub is_shared: bool,
}

impl Restriction<'_> {
    /// Restricts the calling thread; if the restriction is shared, all threads enter the domain.
    ///
    /// # Errors
    ///
    /// The error number of the step that failed.
    pub(crate) fn enter(&self) -> Result<(), c_int> {
        let flags = if self.is_shared { ALL_THREADS } else { 0 };
        restrict(Some(self.ruleset.as_raw_fd()), flags, self.capabilities)
    }

    /// Restricts the calling thread and no other.
    ///
    /// # Errors
    ///
    /// The error number of the step that failed.
    pub(crate) fn enter_alone(&self) -> Result<(), c_int> {
        restrict(Some(self.ruleset.as_raw_fd()), 0, self.capabilities)
    }
}

fn restrict(ruleset: Option<c_int>, flags: usize, capabilities: u64) -> Result<(), c_int> {
    no_new_privileges()?;
    keep_capabilities(capabilities)?;
    let Some(ruleset) = ruleset else { return Ok(()) };
    let ruleset = ruleset.unsigned_abs() as usize;
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_landlock_restrict_self, [ruleset, flags, 0, 0]) }.map(drop)
}

/// The right to apply a sandbox: one thread of a process has it at a time. Who waits for it can be
/// called to the round of the one who has it, and then goes on.
#[derive(Debug)]
pub(crate) struct Turn(());

impl Turn {
    /// Waits for the turn.
    ///
    /// # Errors
    ///
    /// None that the kernel is known to give.
    pub(crate) fn take() -> Result<Self, c_int> {
        let process = own_process()?;
        let mut owner = OWNER.load(Ordering::Relaxed);
        loop {
            if owner == process {
                std::thread::yield_now();
                owner = OWNER.load(Ordering::Relaxed);
                continue;
            }
            // Nobody's, or the parent's, that forked while it had the turn.
            match OWNER.compare_exchange(owner, process, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(Self(())),
                Err(now) => owner = now,
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        OWNER.store(0, Ordering::Release);
    }
}

/// A round under way. Dropped before its release, it lets all threads go on as they were.
#[derive(Debug)]
pub(crate) struct Round {
    number: u32,
    process: c_int,
    is_released: bool,
    mask: SignalSet,
}

impl Round {
    /// Opens a round. The calling thread leads it and hears no signal until the end.
    ///
    /// # Errors
    ///
    /// The error number of installing the handler.
    pub(crate) fn open(restriction: &Restriction<'_>, _turn: &Turn) -> Result<Self, c_int> {
        install()?;
        let process = own_process()?;
        let ruleset = if restriction.is_shared { -1 } else { restriction.ruleset.as_raw_fd() };
        RULESET.store(ruleset, Ordering::Relaxed);
        CAPABILITIES.store(restriction.capabilities, Ordering::Relaxed);
        let mask = set_signal_mask(SignalSet::MAX)?;
        // Zero is what a place says that nobody has come to.
        let number = ((STATE.load(Ordering::Relaxed) >> PHASE_BITS) + 1).max(1);
        STATE.store(number << PHASE_BITS | GATHER, Ordering::Release);
        Ok(Self { number, process, is_released: false, mask })
    }

    /// Calls a thread to a place. It may be called again, if it does not come.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it has ended, `EAGAIN` if no more signals can be queued.
    pub(crate) fn call(&self, thread: c_int, place: usize) -> Result<(), c_int> {
        let info = Info {
            signal: SIGNAL,
            errno: 0,
            code: libc::SI_QUEUE,
            _pad: 0,
            process: self.process,
            user: 0,
            value: u64::from(self.number) << 32 | place as u64,
            _rest: [0; 12],
        };
        let numbers = [self.process, thread, SIGNAL].map(|number| number.unsigned_abs() as usize);
        let [process, thread, signal] = numbers;
        let info = ptr::from_ref(&info) as usize;
        // SAFETY: `info` has the size and layout of the kernel's `siginfo_t` for queued signals
        // and lives through the call.
        unsafe { call(libc::SYS_rt_tgsigqueueinfo, [process, thread, signal, info]) }.map(drop)
    }

    /// Whether the thread called to a place stands still there.
    pub(crate) fn has_arrived(&self, place: usize) -> bool {
        PLACES.get(place).is_some_and(|at| at.arrived.load(Ordering::Acquire) == self.number)
    }

    /// What to compare by [`wait`](Self::wait); to be asked for before looking at the places.
    pub(crate) fn bell() -> u32 {
        BELL.load(Ordering::Acquire)
    }

    /// Waits until a thread has said something since `bell`, or for `most`.
    pub(crate) fn wait(bell: u32, most: Duration) {
        futex_wait(&BELL, bell, Some(most));
    }

    /// Lets all that have arrived restrict themselves.
    pub(crate) fn release(&mut self) {
        self.is_released = true;
        STATE.store(self.number << PHASE_BITS | RESTRICT, Ordering::Release);
        futex_wake(&STATE);
    }

    /// What came of the thread at a place after the release: none as long as it is at it.
    pub(crate) fn result(&self, place: usize) -> Option<Result<(), c_int>> {
        let at = PLACES.get(place)?;
        if at.done.load(Ordering::Acquire) != self.number {
            return None;
        }
        match at.errno.load(Ordering::Relaxed) {
            0 => Some(Ok(())),
            errno => Some(Err(errno)),
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        STATE.store(self.number << PHASE_BITS | GO_ON, Ordering::Release);
        if !self.is_released {
            futex_wake(&STATE);
        }
        // Cannot fail: the set is valid.
        let _ = set_signal_mask(self.mask);
    }
}

/// The kernel's `siginfo_t` of a queued signal.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    _pad: c_int,
    process: c_int,
    user: u32,
    value: u64,
    _rest: [u64; 12],
}

/// The kernel's `struct sigaction`, of `x86_64` and `aarch64`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: SignalSet,
}

/// Installs the handler, unless it is there, and keeps the former one to hand signals on to.
fn install() -> Result<(), c_int> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Err(libc::ENOSYS);
    }
    let mut former = Action::default();
    let pointer = ptr::from_mut(&mut former) as usize;
    let (signal, size) = (SIGNAL.unsigned_abs() as usize, size_of::<SignalSet>());
    // SAFETY: `pointer` is to a kernel signal action that lives through the call; none is set.
    unsafe { call(libc::SYS_rt_sigaction, [signal, 0, pointer, size]) }?;
    let handler: extern "C" fn(c_int, *mut Info, *mut c_void) = on_signal;
    if former.handler == handler as usize {
        return Ok(());
    }
    FORMER.store(former.handler, Ordering::Release);
    let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    let action = Action {
        handler: handler as usize,
        flags: u64::from(flags.unsigned_abs()) | RESTORER_FLAG,
        restorer: restorer_address(),
        mask: SignalSet::MAX,
    };
    let pointer = ptr::from_ref(&action) as usize;
    // SAFETY: `pointer` is to a kernel signal action. Its handler has the signature that
    // `SA_SIGINFO` promises and keeps to the rules of this module.
    unsafe { call(libc::SYS_rt_sigaction, [signal, pointer, 0, size]) }.map(drop)
}

/// Stands still in the thread that was called, until it may restrict itself or go on.
extern "C" fn on_signal(signal: c_int, info: *mut Info, context: *mut c_void) {
    // SAFETY: the kernel passes its `siginfo_t`, which has this layout for queued signals and is
    // as long for all others.
    let said = unsafe { &*info };
    if said.code != libc::SI_QUEUE || own_process() != Ok(said.process) {
        return hand_on(signal, info, context);
    }
    let errno = last_errno();
    let place = usize::try_from(said.value & u64::from(u32::MAX)).unwrap_or(MOST);
    let gather = u32::try_from(said.value >> 32).unwrap_or(0) << PHASE_BITS | GATHER;
    if let Some(place) = PLACES.get(place)
        && STATE.load(Ordering::Acquire) == gather
    {
        attend(place, gather);
    }
    set_errno(errno);
}

fn attend(place: &Place, gather: u32) {
    let number = gather >> PHASE_BITS;
    place.arrived.store(number, Ordering::Release);
    ring();
    let state = loop {
        match STATE.load(Ordering::Acquire) {
            state if state == gather => futex_wait(&STATE, gather, None),
            state => break state,
        }
    };
    if state != number << PHASE_BITS | RESTRICT {
        return;
    }
    let ruleset = Some(RULESET.load(Ordering::Relaxed)).filter(|fd| *fd >= 0);
    let result = restrict(ruleset, 0, CAPABILITIES.load(Ordering::Relaxed));
    place.errno.store(result.err().unwrap_or(0), Ordering::Relaxed);
    place.done.store(number, Ordering::Release);
    ring();
}

/// Gives a signal that is not ours to whom it was for.
fn hand_on(signal: c_int, info: *mut Info, context: *mut c_void) {
    let former = FORMER.load(Ordering::Acquire);
    // `SIG_DFL` is 0 and `SIG_IGN` 1.
    if former > 1 {
        // SAFETY: it is the address of a handler that the kernel would have called with the same
        // arguments, or without the last two, which the calling convention lets it ignore.
        let former: extern "C" fn(c_int, *mut Info, *mut c_void) =
            unsafe { std::mem::transmute::<usize, _>(former) };
        former(signal, info, context);
    }
}

fn ring() {
    BELL.fetch_add(1, Ordering::AcqRel);
    futex_wake(&BELL);
}

pub(super) fn futex_wait(word: &AtomicU32, expected: u32, most: Option<Duration>) {
    let timeout = most.map(|most| libc::timespec {
        tv_sec: c_long::try_from(most.as_secs()).unwrap_or(c_long::MAX),
        tv_nsec: most.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref) as usize;
    let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG).unsigned_abs() as usize;
    let arguments = [word.as_ptr() as usize, operation, expected as usize, timeout];
    // SAFETY: `word` and `timeout` live through the call. Returning early is fine: all callers
    // look again.
    let _ = unsafe { call(libc::SYS_futex, arguments) };
}

pub(super) fn futex_wake(word: &AtomicU32) {
    let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG).unsigned_abs() as usize;
    let all = c_int::MAX.unsigned_abs() as usize;
    // SAFETY: `word` lives through the call.
    let _ = unsafe { call(libc::SYS_futex, [word.as_ptr() as usize, operation, all, 0]) };
}

/// By the system call: it is also right in a child that was forked.
fn own_process() -> Result<c_int, c_int> {
    // SAFETY: takes nothing.
    let number = unsafe { call(libc::SYS_getpid, [0; 4]) }?;
    c_int::try_from(number).map_err(|_| libc::EINVAL)
}

fn set_errno(errno: c_int) {
    // SAFETY: gives the address of the calling thread's own.
    let address = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid as long as the thread lives.
    unsafe { address.write(errno) };
}

/// `SA_RESTORER`: this processor's kernel wants to be told how a handler returns.
#[cfg(target_arch = "x86_64")]
const RESTORER_FLAG: u64 = 0x0400_0000;
#[cfg(not(target_arch = "x86_64"))]
const RESTORER_FLAG: u64 = 0;

#[cfg(target_arch = "x86_64")]
fn restorer_address() -> usize {
    let address: extern "C" fn() = restorer;
    address as usize
}

#[cfg(not(target_arch = "x86_64"))]
const fn restorer_address() -> usize {
    0
}

/// Returns from a handler: the system call `rt_sigreturn`, as debuggers know it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn restorer() {
    std::arch::naked_asm!("mov rax, 15", "syscall");
}
