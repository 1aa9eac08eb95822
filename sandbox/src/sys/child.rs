//! The sandboxed program's process, from its first instruction to the program's own.
//!
//! A child made by `fork` would copy the page tables of the parent, which takes tens of
//! milliseconds for one of some gigabytes. This one is made by `clone` with `CLONE_VM`: it runs on
//! a stack of its own, in the parent's memory, while all threads of the parent go on, and the shim
//! that made it waits for its end. What it may do follows from that:
//!
//! * It makes system calls directly and nothing else. No allocation, no lock, no panic, no
//!   destructor, no library function with state: another thread may hold any lock, and whatever
//!   the child changes in memory stays changed. It writes to the atomics of [`Launch`] alone.
//! * No signal handler of the parent may run in it. All signals are blocked from before it exists,
//!   and unblocked only when no handler is left.

use std::convert::Infallible;
use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use seccompiler::{BpfProgram, sock_filter};

use super::probe::Probe;
use super::process::{become_user, exit, keep_capabilities, new_session};
use super::raw::call;
use super::scope::grant;
use super::shim::Ending;
use super::signal::set_signal_mask;
use super::stack::Stacks;
use super::tree::Failure;
use crate::cgroup::Group;
use crate::error::Step;

/// `TIOCSCTTY` of `asm-generic/ioctls.h`.
const TAKE_TERMINAL: usize = 0x540E;

/// The number of no descriptor.
pub(super) const NONE: c_int = -1;

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

/// A user and a group to become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    /// The user.
    pub uid: u32,
    /// The group; there are no others.
    pub gid: u32,
}

/// What the child is to do, all of it made before.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The path to execute, as seen from `cwd`.
    pub program: CString,
    /// The arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment, `NAME=value` each.
    pub envp: Vec<CString>,
    /// The working directory, if not the parent's.
    pub cwd: Option<CString>,
    /// Whether standard input becomes the terminal of the child's session.
    pub is_terminal: bool,
    /// The system call filter. If there is a line to hand its listening side over, it has one.
    pub filter: BpfProgram,
    /// Whether the descriptor at which its calls wait is handed over as soon as there is one: for
    /// calls that are made while the shim stands still, and for those that come when it has ended.
    pub hands_over_at_once: bool,
    /// The bits of the capabilities to keep; a program gets no others back.
    pub capabilities: u64,
    /// Rules that only the child can add.
    pub own_rules: Vec<OwnRule>,
    /// The resource limits.
    pub limits: Vec<ResourceLimit>,
    /// The control group in which the program runs, if it has one of its own.
    pub group: Option<Group>,
    /// What the child tries instead of executing the program, if anything.
    pub probe: Option<Arc<Probe>>,
    /// Whom the child becomes, if not the parent's user.
    pub ids: Option<Ids>,
    /// How the shim watches over it.
    pub watch: Watch,
}

/// How the shim watches over a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Whether the kernel scopes signals by Landlock (ABI 6).
    pub can_scope: bool,
    /// When all is killed, by the monotonic clock in nanoseconds.
    pub deadline: Option<u64>,
    /// Whether what the child leaves running at its own end goes on.
    pub keeps_background: bool,
    /// Whether the channel tells that the program has begun.
    pub announces: bool,
}

/// What the child takes along; none of it numbered below 3.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors<'a> {
    /// What becomes standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The Landlock ruleset.
    pub ruleset: BorrowedFd<'a>,
    /// A unix socket through which the descriptor is sent at which calls wait, when one does or at
    /// once.
    pub handover: Option<BorrowedFd<'a>>,
}

/// The numbers of descriptors in the shim and the child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub stdio: [c_int; 3],
    pub ruleset: c_int,
    pub handover: Option<c_int>,
    /// The process that owns all this.
    pub caller: c_int,
    /// The shim's end of the line to it.
    pub channel: c_int,
    /// The program's control group.
    pub group: Option<c_int>,
    /// Takes a 1 to kill all that is in it.
    pub group_kill: Option<c_int>,
}

impl Numbers {
    pub(super) fn new(
        fds: &Descriptors<'_>,
        group: Option<&Group>,
        caller: BorrowedFd<'_>,
        channel: BorrowedFd<'_>,
    ) -> Self {
        Self {
            stdio: fds.stdio.map(|fd| fd.as_raw_fd()),
            ruleset: fds.ruleset.as_raw_fd(),
            handover: fds.handover.map(|fd| fd.as_raw_fd()),
            caller: caller.as_raw_fd(),
            channel: channel.as_raw_fd(),
            group: group.map(Group::number),
            group_kill: group.and_then(Group::kill),
        }
    }
}

/// Everything that the shim and the child read, and the little they write. It lies in the memory
/// that they share with the caller, which keeps it until both are gone.
#[derive(Debug)]
pub(super) struct Launch {
    pub plan: Plan,
    pub fds: Numbers,
    pub ending: Ending,
    pub stacks: Stacks,
    /// The shim's number, as its child sees it.
    pub shim: AtomicI32,
    /// The number of the descriptor at which calls wait, in the shim's table; `NONE` if none do.
    pub listener: AtomicI32,
    /// The number of the shim's child while that is in this memory, or else zero. It is the kernel
    /// that writes it: before the child exists, and when it executes its program or ends.
    pub inhabitant: AtomicI32,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    failed_step: AtomicU32,
    errno: AtomicI32,
}

// SAFETY: the pointers in it lead to what `plan` owns, on the heap, where it stays when the launch
// is moved. What is written to are atomics.
unsafe impl Send for Launch {}
// SAFETY: as above.
unsafe impl Sync for Launch {}

impl Launch {
    /// Makes room for the two processes and lays out what they need.
    ///
    /// # Errors
    ///
    /// That of making a stack.
    pub(super) fn new(plan: Plan, fds: Numbers) -> Result<Box<Self>, Failure> {
        Ok(Box::new(Self {
            stacks: Stacks::take().map_err(at(Step::Stack))?,
            argv: pointers(&plan.argv),
            envp: pointers(&plan.envp),
            plan,
            fds,
            ending: Ending::default(),
            shim: AtomicI32::new(0),
            listener: AtomicI32::new(NONE),
            inhabitant: AtomicI32::new(0),
            failed_step: AtomicU32::new(0),
            errno: AtomicI32::new(0),
        }))
    }

    /// Whether the child is still in this memory. It may be when the shim is not any more: killed
    /// before the child follows it, or with the child held up by the kernel.
    pub(super) fn is_inhabited(&self) -> bool {
        self.inhabitant.load(Ordering::Acquire) != 0
    }

    /// Notes the step that failed.
    pub(super) fn record(&self, failure: Failure) {
        self.errno.store(failure.errno, Ordering::Relaxed);
        self.failed_step.store(failure.step as u32, Ordering::Release);
    }

    /// The step that failed, if one did.
    pub(super) fn failure(&self) -> Option<Failure> {
        let number = self.failed_step.load(Ordering::Acquire);
        let step = Step::ALL.into_iter().find(|step| *step as u32 == number)?;
        Some(Failure { step, errno: self.errno.load(Ordering::Relaxed) })
    }

    /// The child's way into its program. In the child only; returns only if a step failed.
    fn enter(&self) -> Result<Infallible, Failure> {
        // Before a step that the kernel may hold up for long: this memory is the caller's, who gets
        // it back only when the child has left it.
        self.follow_shim().map_err(at(Step::ParentDeath))?;
        // A session is a process group too, and has no terminal.
        new_session().map_err(at(Step::Session))?;
        self.take_terminal().map_err(at(Step::Terminal))?;
        self.change_directory().map_err(at(Step::WorkingDirectory))?;
        // After all that the rules could deny, and as the parent's user.
        self.add_own_rules().map_err(at(Step::OwnProc))?;
        self.change_ids().map_err(at(Step::Ids))?;
        keep_capabilities(self.plan.capabilities).map_err(at(Step::Capabilities))?;
        // Again: a change of the user takes it back.
        self.follow_shim().map_err(at(Step::ParentDeath))?;
        self.restrict().map_err(at(Step::Landlock))?;
        if !self.filters_shim() {
            self.filter()?;
        }
        // Until here the shim's descriptors may be the child's too: the filter's stays with it.
        part_on_exec().map_err(at(Step::Descriptors))?;
        // Not before: the steps above open descriptors.
        self.limit_resources().map_err(at(Step::ResourceLimits))?;
        // The program starts with no signal blocked, whatever the calling thread had blocked:
        // it must be possible to end it by one.
        set_signal_mask(0).map_err(at(Step::SignalMask))?;
        self.execute().map_err(at(Step::Execute))
    }

    /// Lets the kernel kill the child if the shim ends before it: nobody else would.
    fn follow_shim(&self) -> Result<(), c_int> {
        let request = libc::PR_SET_PDEATHSIG as usize;
        // SAFETY: takes numbers only.
        unsafe { call(libc::SYS_prctl, [request, libc::SIGKILL as usize, 0, 0, 0]) }?;
        // SAFETY: takes nothing.
        let parent = unsafe { call(libc::SYS_getppid, []) }?;
        // The shim may have been killed before.
        let is_shim = c_int::try_from(parent) == Ok(self.shim.load(Ordering::Relaxed));
        if is_shim { Ok(()) } else { Err(libc::ESRCH) }
    }

    /// Makes standard input the terminal of the new session.
    fn take_terminal(&self) -> Result<(), c_int> {
        if !self.plan.is_terminal {
            return Ok(());
        }
        // SAFETY: takes numbers only.
        unsafe { call(libc::SYS_ioctl, [0, TAKE_TERMINAL, 0]) }.map(drop)
    }

    fn change_ids(&self) -> Result<(), c_int> {
        self.plan.ids.map_or(Ok(()), become_user)
    }

    fn change_directory(&self) -> Result<(), c_int> {
        let Some(cwd) = &self.plan.cwd else {
            return Ok(());
        };
        // SAFETY: `cwd` is a C string that lives as long as the plan.
        unsafe { call(libc::SYS_chdir, [cwd.as_ptr() as usize, 0, 0, 0]) }.map(drop)
    }

    fn limit_resources(&self) -> Result<(), c_int> {
        for limit in &self.plan.limits {
            let value = libc::rlimit64 { rlim_cur: limit.value, rlim_max: limit.value };
            let value = ptr::from_ref(&value) as usize;
            // SAFETY: `value` points to a limit that lives through the call; none is returned.
            unsafe { call(libc::SYS_prlimit64, [0, limit.resource as usize, value, 0]) }?;
        }
        Ok(())
    }

    fn add_own_rules(&self) -> Result<(), c_int> {
        let ruleset = self.fds.ruleset.unsigned_abs() as usize;
        self.plan.own_rules.iter().try_for_each(|rule| grant(ruleset, &rule.path, rule.rights))
    }

    fn restrict(&self) -> Result<(), c_int> {
        let ruleset = self.fds.ruleset.unsigned_abs() as usize;
        // SAFETY: takes numbers only.
        unsafe { call(libc::SYS_landlock_restrict_self, [ruleset, 0, 0, 0]) }.map(drop)
    }

    /// Whether the shim takes the filter on itself, for its child to inherit: it makes none of the
    /// calls that the filter is about. So it has the listening side before there is a child, need
    /// not stand still until then, and is not woken to be told that nobody has the filter any more.
    ///
    /// Not if the child begins in a control group: that takes `clone3`, which the filter refuses.
    pub(super) fn filters_shim(&self) -> bool {
        self.plan.group.is_none()
    }

    /// Installs the filter. The side at which its calls are answered, if there is one to be handed
    /// over, stays with the shim.
    pub(super) fn filter(&self) -> Result<(), Failure> {
        if self.fds.handover.is_none() {
            return install(&self.plan.filter, 0).map(drop).map_err(at(Step::Filter));
        }
        // A signal must not take a call back that the parent is making already.
        let flags =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let listener = install(&self.plan.filter, flags).map_err(at(Step::Listener))?;
        self.listener.store(c_int::try_from(listener).unwrap_or(NONE), Ordering::Relaxed);
        if self.plan.hands_over_at_once {
            self.hand_over();
        }
        Ok(())
    }

    fn execute(&self) -> Result<Infallible, c_int> {
        if let Some(probe) = &self.plan.probe {
            probe.run();
            exit(0);
        }
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
pub(super) fn at(step: Step) -> impl Fn(c_int) -> Failure {
    move |errno| Failure { step, errno }
}

/// The first function on the child's stack.
pub(super) extern "C" fn child_main(launch: *mut c_void) -> ! {
    // SAFETY: the shim passes a launch that outlives the child's use of this memory; it is only
    // read but for its atomics.
    let launch = unsafe { &*launch.cast::<Launch>() };
    let Err(failure) = launch.enter();
    launch.record(failure);
    exit(1)
}

/// Installs a filter and gives the descriptor that the flags ask for, or zero.
pub(super) fn install(filter: &[sock_filter], flags: c_ulong) -> Result<usize, c_int> {
    let program = libc::sock_fprog {
        // The compiler of filters keeps them below 4096 instructions.
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    // Flags are the lowest bits.
    let flags = usize::try_from(flags).unwrap_or(0);
    // SAFETY: `program` points to a filter of the length it says, which the kernel copies. Its
    // instructions have the layout of the kernel's.
    unsafe { call(libc::SYS_seccomp, [mode, flags, ptr::from_ref(&program) as usize]) }
}

/// Gives the child a table of descriptors of its own, of which `execve` closes all but the
/// standard streams; the ruleset is needed until then.
fn part_on_exec() -> Result<(), c_int> {
    const UNSHARE: usize = 2;
    const CLOEXEC: usize = 4;
    // SAFETY: takes numbers only. Nothing is closed before `execve`, and then only the child's.
    unsafe { call(libc::SYS_close_range, [3, u32::MAX as usize, UNSHARE | CLOEXEC, 0]) }.map(drop)
}

/// C strings as C has them: pointers, with a null at the end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}
