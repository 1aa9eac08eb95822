//! The only unsafe code of the crate: the start of a child that shares the parent's memory until
//! it executes its program, and two questions to the kernel that no library asks.
//!
//! A child made by `fork` would copy the page tables of the parent, which takes tens of
//! milliseconds for one of some gigabytes. This one is made by `clone` with `CLONE_VM` and
//! `CLONE_VFORK`: it runs on a stack of its own, in the parent's memory, while the calling thread
//! stands still and all its other threads go on. What the child may do follows from that:
//!
//! * It makes system calls directly and nothing else. No allocation, no lock, no panic, no
//!   destructor, no library function with state: another thread may hold any lock, and whatever
//!   the child changes in memory stays changed. It writes to `Launch::failure` and to `errno`,
//!   which is the standing-still thread's own.
//! * No signal handler of the parent may run in it. All signals are blocked around `clone` and
//!   unblocked only when no handler is left.

#![expect(unsafe_code, reason = "system calls that no safe interface exists for")]

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::process::{WaitId, WaitIdOptions, getpid, waitid};
use seccompiler::sock_filter;

use crate::error::Step;

/// Bytes of the child's stack. It is a few call frames deep.
const STACK: usize = 64 << 10;
/// Bytes below the stack that fault; a multiple of every page size in use.
const GUARD: usize = 64 << 10;
/// Signals of the kernel, real-time ones included.
const SIGNALS: usize = 64;
/// The kernel's signal set: one bit per signal. `libc`'s is larger and hides two signals.
type SignalSet = u64;
/// The kernel's `struct sigaction` of all zeroes: default action, no flags, empty mask. Four words
/// on every 64-bit platform.
const DEFAULT_ACTION: [u64; 4] = [0; 4];

/// One resource limit, soft and hard alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceLimit {
    /// A `RLIMIT_` number.
    pub resource: libc::__rlimit_resource_t,
    /// The value, in the resource's own unit.
    pub value: u64,
}

/// A rule on a path that names something else for the child than for the parent.
#[derive(Debug)]
pub(crate) struct OwnRule {
    /// The path.
    pub path: CString,
    /// The bits of the Landlock rights to what is beneath it.
    pub rights: u64,
}

/// The kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    rights: u64,
    parent: c_int,
}

/// What the child is to do, all of it made before.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The path to execute, as seen from `cwd`.
    pub program: &'a CStr,
    /// The arguments, the program's name first.
    pub argv: &'a [CString],
    /// The environment, `NAME=value` each.
    pub envp: &'a [CString],
    /// The working directory, if not the parent's.
    pub cwd: Option<&'a CStr>,
    /// What becomes standard input, output and error; none of them numbered below 3.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The Landlock ruleset; not numbered below 3.
    pub ruleset: BorrowedFd<'a>,
    /// The system call filter.
    pub filter: &'a [sock_filter],
    /// The bits of the capabilities to keep; a program gets no others back.
    pub capabilities: u64,
    /// Rules that only the child can add.
    pub own_rules: &'a [OwnRule],
    /// The resource limits.
    pub limits: &'a [ResourceLimit],
}

/// A child that executes its program.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The child's number, which is also its group's and its session's.
    pub pid: i32,
    /// Becomes readable at the child's end.
    pub pidfd: OwnedFd,
}

/// The step that failed, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// The step.
    pub step: Step,
    /// The error number.
    pub errno: c_int,
}

/// The version of Landlock's interface that the kernel has.
///
/// # Errors
///
/// `ENOSYS` if it has none, `EOPNOTSUPP` if it is switched off.
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const VERSION: usize = 1;
    // SAFETY: with this flag the kernel takes no pointer; it wants both zero.
    let version = unsafe { call(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0]) };
    version
        .map_err(io::Error::from_raw_os_error)
        .and_then(|abi| u32::try_from(abi).map_err(io::Error::other))
}

/// Whether the kernel says that the process has no other thread. False also if it will not say.
pub(crate) fn is_only_thread() -> bool {
    let thread = libc::CLONE_THREAD.unsigned_abs() as usize;
    // SAFETY: the call takes flags only. A thread group of one is left as it is, and in any other
    // the call fails: it never has an effect.
    unsafe { call(libc::SYS_unshare, [thread, 0, 0, 0]) }.is_ok()
}

/// The exit status of a child that somebody else has waited for, in the form `wait` gives it:
/// another part of the program waits for all its children, or ignores `SIGCHLD`.
///
/// # Errors
///
/// `EINVAL` or `ENOTTY` before Linux 6.15, which does not keep it.
pub(crate) fn status_of_reaped(pidfd: BorrowedFd<'_>) -> io::Result<c_int> {
    // `PIDFD_GET_INFO` and `PIDFD_INFO_EXIT` of `linux/pidfd.h`.
    const GET_INFO: usize = 0xC040_FF0B;
    const EXIT: u64 = 1 << 3;
    let mut info = PidfdInfo { mask: EXIT, others: [0; 13], exit_status: 0 };
    let pointer = ptr::from_mut(&mut info) as usize;
    let arguments = [pidfd.as_raw_fd().unsigned_abs() as usize, GET_INFO, pointer, 0];
    // SAFETY: `info` has the size that the request's number says, and lives through the call.
    unsafe { call(libc::SYS_ioctl, arguments) }.map_err(io::Error::from_raw_os_error)?;
    if info.mask & EXIT == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(info.exit_status) }
}

/// The kernel's `struct pidfd_info` in its first version.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    others: [u32; 13],
    exit_status: i32,
}

/// Starts a child and returns when it has begun to execute its program.
///
/// # Errors
///
/// The step that failed. No child is left then.
pub(crate) fn spawn(plan: &Plan<'_>) -> Result<Spawned, Failure> {
    let argv = pointers(plan.argv);
    let envp = pointers(plan.envp);
    let launch = Launch {
        plan,
        argv: &argv,
        envp: &envp,
        filter: libc::sock_fprog {
            // The compiler of filters keeps them below 4096 instructions.
            len: u16::try_from(plan.filter.len()).unwrap_or(u16::MAX),
            filter: plan.filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
        },
        parent: getpid().as_raw_nonzero().get(),
        failed_step: AtomicU32::new(0),
        errno: AtomicI32::new(0),
    };
    let stack = Stack::new().map_err(|errno| Failure { step: Step::Stack, errno })?;
    let spawned =
        launch.clone_child(&stack).map_err(|errno| Failure { step: Step::Clone, errno })?;
    match launch.failure() {
        None => Ok(spawned),
        Some(failure) => {
            let gone = WaitId::PidFd(spawned.pidfd.as_fd());
            // The child has exited already; if somebody else waits for all children of the
            // process, or it ignores them, there is none left to wait for.
            let _ = waitid(gone, WaitIdOptions::EXITED);
            Err(failure)
        }
    }
}

/// Everything the child reads, and the one thing it writes.
struct Launch<'a> {
    plan: &'a Plan<'a>,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    filter: libc::sock_fprog,
    parent: c_int,
    failed_step: AtomicU32,
    errno: AtomicI32,
}

impl Launch<'_> {
    /// Makes the child and stands still until it has executed its program or ended.
    fn clone_child(&self, stack: &Stack) -> Result<Spawned, c_int> {
        const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let mut pidfd: c_int = -1;
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let before = set_signal_mask(SignalSet::MAX)?;
        // SAFETY: `stack` is mapped memory used by nobody else, and outlives the child's use of
        // it, as do `self` and `pidfd`: `CLONE_VFORK` keeps this function from going on before
        // the child has left this memory. `child_main` keeps to the rules of this module.
        let pid = unsafe {
            libc::clone(child_main, stack.top(), FLAGS, argument, ptr::from_mut(&mut pidfd))
        };
        let error = last_errno();
        // Cannot fail: the set is valid. The thread would be left with all signals blocked.
        let _ = set_signal_mask(before);
        if pid < 0 {
            return Err(error);
        }
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Spawned { pid, pidfd })
    }

    fn failure(&self) -> Option<Failure> {
        let number = self.failed_step.load(Ordering::Acquire);
        let step = Step::ALL.into_iter().find(|step| *step as u32 == number)?;
        Some(Failure { step, errno: self.errno.load(Ordering::Relaxed) })
    }

    /// The child's way into its program. In the child only; returns only if a step failed.
    fn enter(&self) -> Result<Infallible, Failure> {
        reset_signal_actions();
        self.follow_parent().map_err(at(Step::ParentDeath))?;
        // A session is a process group too, and has no terminal.
        new_session().map_err(at(Step::Session))?;
        self.change_directory().map_err(at(Step::WorkingDirectory))?;
        self.connect_stdio().map_err(at(Step::Stdio))?;
        close_on_exec().map_err(at(Step::Descriptors))?;
        self.limit_resources().map_err(at(Step::ResourceLimits))?;
        no_new_privileges().map_err(at(Step::NoNewPrivileges))?;
        // After all that the rules could deny.
        keep_capabilities(self.plan.capabilities).map_err(at(Step::Capabilities))?;
        self.add_own_rules().map_err(at(Step::OwnProc))?;
        self.restrict().map_err(at(Step::Landlock))?;
        self.filter().map_err(at(Step::Filter))?;
        // The program starts with no signal blocked, whatever the calling thread had blocked:
        // it must be possible to end it by one.
        set_signal_mask(0).map_err(at(Step::SignalMask))?;
        self.execute().map_err(at(Step::Execute))
    }

    /// Lets the kernel kill the child if the thread that started it ends. That thread waits for
    /// the child in `spawn::run`, so it ends before the child only with the whole process.
    fn follow_parent(&self) -> Result<(), c_int> {
        let request = libc::PR_SET_PDEATHSIG as usize;
        // SAFETY: takes numbers only.
        unsafe { call(libc::SYS_prctl, [request, libc::SIGKILL as usize, 0, 0]) }?;
        // SAFETY: takes nothing.
        let parent = unsafe { call(libc::SYS_getppid, [0; 4]) }?;
        // The parent may have been killed before. Zero means that it is in another process
        // namespace, where its number says nothing.
        match c_int::try_from(parent) {
            Ok(0) => Ok(()),
            Ok(parent) if parent == self.parent => Ok(()),
            _ => Err(libc::ESRCH),
        }
    }

    fn change_directory(&self) -> Result<(), c_int> {
        let Some(cwd) = self.plan.cwd else {
            return Ok(());
        };
        // SAFETY: `cwd` is a C string that lives as long as the plan.
        unsafe { call(libc::SYS_chdir, [cwd.as_ptr() as usize, 0, 0, 0]) }.map(drop)
    }

    fn connect_stdio(&self) -> Result<(), c_int> {
        for (fd, number) in self.plan.stdio.iter().zip(0..) {
            let fd = fd.as_raw_fd().unsigned_abs() as usize;
            // SAFETY: takes numbers only. The child's descriptors are its own copy, and it has no
            // Rust object that owns the one replaced.
            unsafe { call(libc::SYS_dup3, [fd, number, 0, 0]) }?;
        }
        Ok(())
    }

    fn limit_resources(&self) -> Result<(), c_int> {
        for limit in self.plan.limits {
            let value = libc::rlimit64 { rlim_cur: limit.value, rlim_max: limit.value };
            let value = ptr::from_ref(&value) as usize;
            // SAFETY: `value` points to a limit that lives through the call; none is returned.
            unsafe { call(libc::SYS_prlimit64, [0, limit.resource as usize, value, 0]) }?;
        }
        Ok(())
    }

    fn add_own_rules(&self) -> Result<(), c_int> {
        // `LANDLOCK_RULE_PATH_BENEATH` of `linux/landlock.h`.
        const PATH_BENEATH: usize = 1;
        let ruleset = self.plan.ruleset.as_raw_fd().unsigned_abs() as usize;
        let flags = (libc::O_PATH | libc::O_CLOEXEC).unsigned_abs() as usize;
        for rule in self.plan.own_rules {
            let path =
                [libc::AT_FDCWD.cast_unsigned() as usize, rule.path.as_ptr() as usize, flags, 0];
            // SAFETY: the path is a C string that lives as long as the plan.
            let parent = unsafe { call(libc::SYS_openat, path) }?;
            let parent = c_int::try_from(parent).map_err(|_| libc::EBADF)?;
            let attribute = PathBeneath { rights: rule.rights, parent };
            let attribute = ptr::from_ref(&attribute) as usize;
            // SAFETY: `attribute` points to a rule that lives through the call. The descriptor
            // in it is closed by `execve`.
            unsafe { call(libc::SYS_landlock_add_rule, [ruleset, PATH_BENEATH, attribute, 0]) }?;
        }
        Ok(())
    }

    fn restrict(&self) -> Result<(), c_int> {
        let ruleset = self.plan.ruleset.as_raw_fd().unsigned_abs() as usize;
        // SAFETY: takes numbers only.
        unsafe { call(libc::SYS_landlock_restrict_self, [ruleset, 0, 0, 0]) }.map(drop)
    }

    fn filter(&self) -> Result<(), c_int> {
        let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
        let filter = ptr::from_ref(&self.filter) as usize;
        // SAFETY: `filter` points to a program of the length it says, which the kernel copies.
        // Its instructions have the layout of the kernel's.
        unsafe { call(libc::SYS_seccomp, [mode, 0, filter, 0]) }.map(drop)
    }

    fn execute(&self) -> Result<Infallible, c_int> {
        let program = self.plan.program.as_ptr() as usize;
        let (argv, envp) = (self.argv.as_ptr() as usize, self.envp.as_ptr() as usize);
        // SAFETY: `program` is a C string; `argv` and `envp` are arrays of C strings that end
        // with a null pointer. All live as long as the launch.
        let result = unsafe { call(libc::SYS_execve, [program, argv, envp, 0]) };
        // `execve` does not return if it worked.
        Err(result.err().unwrap_or(libc::ENOEXEC))
    }
}

/// Names the step of an error.
fn at(step: Step) -> impl Fn(c_int) -> Failure {
    move |errno| Failure { step, errno }
}

/// The first function on the child's stack.
extern "C" fn child_main(launch: *mut c_void) -> c_int {
    // SAFETY: `clone_child` passes a launch that outlives the child's use of this memory; it is
    // only read but for its atomics.
    let launch = unsafe { &*launch.cast::<Launch<'_>>() };
    let Err(failure) = launch.enter();
    launch.errno.store(failure.errno, Ordering::Relaxed);
    launch.failed_step.store(failure.step as u32, Ordering::Release);
    // SAFETY: ends the child and runs nothing of the parent's on the way.
    let _ = unsafe { call(libc::SYS_exit_group, [1, 0, 0, 0]) };
    1
}

/// Sets every signal to its default action, ignored ones too: a program expects to be ended by
/// `SIGPIPE`, which Rust and Python ignore.
fn reset_signal_actions() {
    let action = ptr::from_ref(&DEFAULT_ACTION) as usize;
    for signal in 1..=SIGNALS {
        let arguments = [signal, action, 0, size_of::<SignalSet>()];
        // SAFETY: `action` points to a kernel signal action; the old one is not asked for. The
        // child's table of actions is its own copy. `SIGKILL` and `SIGSTOP` fail, as they should.
        let _ = unsafe { call(libc::SYS_rt_sigaction, arguments) };
    }
}

fn new_session() -> Result<(), c_int> {
    // SAFETY: takes nothing.
    unsafe { call(libc::SYS_setsid, [0; 4]) }.map(drop)
}

/// Lets `execve` close all but the standard streams; the ruleset is needed until then.
fn close_on_exec() -> Result<(), c_int> {
    const CLOEXEC: usize = 4;
    // SAFETY: takes numbers only. Nothing is closed before `execve`, and then only the child's.
    unsafe { call(libc::SYS_close_range, [3, u32::MAX as usize, CLOEXEC, 0]) }.map(drop)
}

fn no_new_privileges() -> Result<(), c_int> {
    let request = libc::PR_SET_NO_NEW_PRIVS as usize;
    // SAFETY: takes numbers only.
    unsafe { call(libc::SYS_prctl, [request, 1, 0, 0]) }.map(drop)
}

/// Gives up the calling thread's capabilities but for those in `kept`. Together with "no new
/// privileges" this is for ever, for root too.
///
/// # Errors
///
/// None that the kernel is known to give.
pub(crate) fn keep_capabilities(kept: u64) -> Result<(), c_int> {
    // `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`, of the calling thread.
    let mut header = [0x2008_0522_u32, 0];
    // Effective, permitted and inheritable, the low words and then the high ones.
    let mut sets = [0_u32; 6];
    let pointers = [ptr::from_mut(&mut header) as usize, ptr::from_mut(&mut sets) as usize, 0, 0];
    // SAFETY: both point to memory of the size that this version has, which lives through the
    // call.
    unsafe { call(libc::SYS_capget, pointers) }?;
    // Each half fits.
    let [low, high] =
        [kept & u64::from(u32::MAX), kept >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let masks = [low, low, low, high, high, high];
    for (set, mask) in sets.iter_mut().zip(masks) {
        *set &= mask;
    }
    // SAFETY: as above; nothing is written.
    unsafe { call(libc::SYS_capset, pointers) }.map(drop)
}

/// Sets the calling thread's mask and gives the old one.
///
/// By the system call: the library's function keeps two signals of its own from being blocked,
/// whose handlers must not run in the child either.
fn set_signal_mask(mask: SignalSet) -> Result<SignalSet, c_int> {
    let mut old: SignalSet = 0;
    let (new, before) = (ptr::from_ref(&mask) as usize, ptr::from_mut(&mut old) as usize);
    let arguments = [libc::SIG_SETMASK as usize, new, before, size_of::<SignalSet>()];
    // SAFETY: both point to signal sets of the size given, which live through the call.
    unsafe { call(libc::SYS_rt_sigprocmask, arguments) }?;
    Ok(old)
}

/// One system call.
///
/// # Safety
///
/// The arguments must be valid for the call, as its manual page demands.
unsafe fn call(number: c_long, arguments: [usize; 4]) -> Result<usize, c_int> {
    let [a, b, c, d] = arguments;
    // SAFETY: upheld by the caller. A fifth argument of zero is what `prctl` wants and what the
    // others ignore.
    let result = unsafe { libc::syscall(number, a, b, c, d, 0 as c_ulong) };
    usize::try_from(result).map_err(|_| last_errno())
}

/// The calling thread's `errno`. Neither allocates nor locks.
fn last_errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// C strings as C has them: pointers, with a null at the end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Memory for the child to run on, with a guard below it.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn new() -> Result<Self, c_int> {
        const FLAGS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, FLAGS, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let stack = Self { base };
        let usable = base.wrapping_byte_add(GUARD);
        // SAFETY: the range is the upper part of the mapping made above, which nobody uses yet.
        let status = unsafe { libc::mprotect(usable, STACK, libc::PROT_READ | libc::PROT_WRITE) };
        if status == 0 { Ok(stack) } else { Err(last_errno()) }
    }

    /// The end of the memory: stacks grow down.
    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and the child has left it by now.
        let _ = unsafe { libc::munmap(self.base, GUARD + STACK) };
    }
}
