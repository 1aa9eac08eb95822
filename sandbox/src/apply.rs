//! The sandbox for the calling process itself, all its threads included: everything is built,
//! and tried on a thread that ends afterwards, before the irreversible calls are made. Where
//! addresses are to be judged, a process is started before that does so from outside.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread;

use seccompiler::{BpfProgram, apply_filter, apply_filter_all_threads};

use crate::capability::CapabilitySet;
use crate::deny::Exceptions;
use crate::enforcement::{Enforcement, Support};
use crate::error::{Error, Feature, Step};
use crate::filter::{self, Asks};
use crate::landlock::{Landlock, UNIX_BY_PATH};
use crate::network::{Judge, Seal};
use crate::privilege::{kept, writes_files};
use crate::supervisor::{self, Apart};
use crate::sys::{self, Reach, Restriction, Round, Turn};
use crate::threads::{Threads, together};

/// Restricts the calling process to `caps`, for ever: neither it nor any process it starts later
/// gets anything back, and a second call can only take more away.
///
/// All threads are restricted, or none is. Before Landlock ABI 8 each of them enters a domain of
/// its own, and the kernel then keeps their children apart like strangers: a thread cannot signal
/// a child that another one has started, nor connect to its abstract unix socket. Call this early,
/// as long as there are few. [`Enforcement::domains`] tells how many there are.
///
/// Where the network is limited, a process is started before that judges addresses from outside
/// (`nono-supervisor`), until the last process of the sandbox has ended. It is a copy of this one,
/// without its memory, files and threads; no signal tells of its end, and `wait` for any child does
/// not find it. A proxy that runs in the process is limited like all else in it: it reaches
/// upstreams at granted ports only.
///
/// Descriptors that are open already stay usable, and so do memory maps, established connections
/// and processes; but a socket that was bound and does not listen yet listens only at a granted
/// port, where addresses or ports are judged. A kernel allows 16 Landlock layers per thread.
///
/// # Errors
///
/// [`Error::Unsupported`], also if addresses are to be judged and nobody can, the errors of building the rules, [`Error::CountThreads`],
/// [`Error::ThreadSilent`] and [`Error::TooManyThreads`]: nothing has been applied then. The same
/// holds for [`Error::Apply`], whose steps have all been tried before the first thread is touched,
/// unless the kernel runs out of memory between the two. [`Error::ThreadsDiffer`] is the one that
/// leaves a process which should end.
pub fn apply(caps: &CapabilitySet) -> Result<Enforcement, Error> {
    let landlock = Landlock::detect()?;
    // Asks the kernel if nobody has asked before, for which it takes a turn of its own.
    supervisor::judge(landlock, caps)?;
    // From the trial on: another's, in a filter of its own, would keep this one's filter from
    // going to all threads.
    let turn = Turn::take().map_err(count_error)?;
    let mut judge = supervisor::judge(landlock, caps)?;
    let exceptions = Exceptions::of(caps)?;
    let apart =
        if judge == Judge::Supervisor { start_supervisor(caps, &exceptions)? } else { None };
    if judge == Judge::Supervisor && apart.is_none() {
        judge = Judge::Landlock;
    }
    let ruleset: Option<OwnedFd> = landlock.ruleset(caps, &exceptions, judge)?.into();
    // The `landlock` crate gives no descriptor only for a kernel without Landlock.
    let ruleset = ruleset.ok_or_else(no_landlock)?;
    let restriction = Restriction {
        ruleset: ruleset.as_fd(),
        capabilities: kept(caps),
        is_shared: landlock.restricts_threads(),
    };
    let asks = if apart.is_some() { Asks::Supervisor } else { Asks::Nobody };
    let filter = Filter { program: filter::filter(caps, asks)?, supervisor: apart };
    rehearse(&restriction, &filter)?;
    let others = match Threads::find()? {
        Threads::Listed(list) if needs_round(landlock, caps, &filter) => {
            let round = Round::open(&restriction, &turn).map_err(count_error)?;
            together(list.as_fd(), round, || lead(&restriction, &filter))?
        }
        Threads::Listed(_) | Threads::Alone => {
            lead(&restriction, &filter)?;
            0
        }
    };
    if let Some(supervisor) = filter.supervisor {
        supervisor.release();
        supervisor::surround(caps);
    }
    supervisor::limit(caps.network());
    let domains = if landlock.restricts_threads() { 1 } else { others + 1 };
    Ok(Enforcement { domains, ..report(landlock, caps, judge) })
}

/// The system call filter, and whom it asks, if anybody.
struct Filter {
    program: BpfProgram,
    supervisor: Option<Apart>,
}

/// Starts the supervisor; none if less is accepted where it could not do all of its work.
fn start_supervisor(caps: &CapabilitySet, exceptions: &Exceptions) -> Result<Option<Apart>, Error> {
    let accepts_less = caps.is_accepting_less();
    if accepts_less && !supervisor::reaches_descendants() {
        return Ok(None);
    }
    let denied: Vec<_> = exceptions.names().map(Path::to_owned).collect();
    let apart = Apart::start(caps, &denied).map_err(|source| failure(Step::Supervisor, source))?;
    if apart.is_none() && caps.seal() != Seal::Local && !accepts_less {
        return Err(Error::Unsupported { feature: Feature::Inspection });
    }
    Ok(apart)
}

/// Whether threads have something to do each for itself: to enter the domain before ABI 8, and
/// always to give up capabilities. They also stand still while there is a descriptor that answers
/// calls, for a process made meanwhile would keep it.
fn needs_round(landlock: Landlock, caps: &CapabilitySet, filter: &Filter) -> bool {
    !landlock.restricts_threads()
        || filter.supervisor.is_some()
        || sys::has_capabilities_beside(kept(caps))
}

/// The calling thread's part, with all others standing still. The filter comes first: it goes to
/// all threads in one call, or to none.
fn lead(restriction: &Restriction<'_>, filter: &Filter) -> Result<(), Failed> {
    match &filter.supervisor {
        None => apply_filter_all_threads(&filter.program).map_err(Failed::Filter)?,
        Some(supervisor) => {
            sys::no_new_privileges().map_err(Failed::Listener)?;
            let listener = sys::listen(&filter.program, Reach::AllThreads);
            let listener = listener.map_err(Failed::Listener)?;
            supervisor.give(listener.as_fd()).map_err(Failed::Listener)?;
        }
    }
    restriction.enter().map_err(Failed::Landlock)
}

/// Takes every step on a thread that ends afterwards, so that what can fail fails there.
fn rehearse(restriction: &Restriction<'_>, filter: &Filter) -> Result<(), Error> {
    let trial = || -> Result<(), Failed> {
        restriction.enter_alone().map_err(Failed::Landlock)?;
        match filter.supervisor {
            None => apply_filter(&filter.program).map_err(Failed::Filter),
            Some(_) => {
                sys::listen(&filter.program, Reach::ThisThread).map(drop).map_err(Failed::Listener)
            }
        }
    };
    let result = thread::scope(|scope| {
        let thread = thread::Builder::new().name("sandbox-trial".to_owned());
        thread.spawn_scoped(scope, trial).map(|handle| handle.join().ok())
    });
    match result {
        Ok(Some(result)) => Ok(result?),
        Ok(None) => Err(failure(Step::Landlock, io::Error::other("the trial ended early"))),
        Err(source) => Err(failure(Step::Clone, source)),
    }
}

/// A step that failed, in a form that takes no memory.
enum Failed {
    Filter(seccompiler::Error),
    Listener(i32),
    Landlock(i32),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Filter(error) => Self::Apply { step: Step::Filter, source: error.into() },
            Failed::Listener(errno) => failure(Step::Listener, from_errno(errno)),
            Failed::Landlock(errno) => failure(Step::Landlock, from_errno(errno)),
        }
    }
}

fn failure(step: Step, source: io::Error) -> Error {
    Error::Apply { step, source: source.into() }
}

fn from_errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn count_error(errno: i32) -> Error {
    Error::CountThreads { source: from_errno(errno) }
}

fn no_landlock() -> Error {
    failure(Step::Landlock, io::ErrorKind::Unsupported.into())
}

/// The version of Landlock that the kernel has, as far as this crate knows versions.
///
/// # Errors
///
/// [`Error::Unsupported`] if it has none.
pub fn landlock_abi() -> Result<u32, Error> {
    Landlock::detect().map(Landlock::abi)
}

/// Whether [`apply`] and [`Command::run`](crate::Command::run) can work on this machine.
pub fn support() -> Support {
    let (is_supported, details) = match Landlock::detect() {
        Ok(landlock) => (true, describe(landlock)),
        Err(error) => (false, error.to_string()),
    };
    Support { is_supported, platform: std::env::consts::OS, details }
}

/// What a sandbox of `caps` enforces on this kernel.
pub(crate) fn report(landlock: Landlock, caps: &CapabilitySet, judge: Judge) -> Enforcement {
    let is_supervised = judge == Judge::Supervisor && caps.is_network_blocked();
    // Where the network is open, these sockets are open as well.
    let leaves_sockets = caps.is_network_blocked() && !is_supervised;
    let of_kernel = landlock.missing().filter(|what| leaves_sockets || *what != UNIX_BY_PATH);
    let mut missing: Vec<_> = of_kernel.collect();
    if judge == Judge::Landlock {
        match caps.seal() {
            Seal::Tcp => missing.extend(["addresses (ports only)", "listening without a port"]),
            Seal::Ports => missing.push("listening without a port"),
            Seal::Open | Seal::Local => {}
        }
    }
    if judge == Judge::Surrounding && !missing.contains(&UNIX_BY_PATH) {
        // It lets pass what its own sandbox was granted.
        missing.push(UNIX_BY_PATH);
    }
    let denies_sockets = caps.has_denied_sockets();
    if judge == Judge::Landlock
        && leaves_sockets
        && denies_sockets
        && !missing.contains(&UNIX_BY_PATH)
    {
        missing.push("denied unix sockets");
    }
    if !is_supervised && writes_files(caps) {
        missing.push("modes, owners, times and attributes of files");
    }
    let network = supervisor::left(caps.network());
    Enforcement { landlock_abi: landlock.abi(), network, missing, domains: 1 }
}

fn describe(landlock: Landlock) -> String {
    let mut details = format!("Landlock available (ABI {}): files", landlock.abi());
    for feature in landlock.features() {
        details.push_str(", ");
        details.push_str(feature);
    }
    details
}
