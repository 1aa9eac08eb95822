//! The start of a child that shares the parent's memory until it executes its program.
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

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::process::{WaitId, WaitIdOptions, getpid, waitid};
use seccompiler::sock_filter;

use super::process::{keep_capabilities, no_new_privileges};
use super::signal::{SignalSet, reset_signal_actions, set_signal_mask};
use super::stack::Stack;
use super::{call, last_errno};
use crate::error::Step;

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

/// C strings as C has them: pointers, with a null at the end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}
