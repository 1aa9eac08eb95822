//! Starts a command: everything the child needs is made here, in the parent, before there is a
//! child; then `sys` starts it, and `child.rs` holds it.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{geteuid, getuid};

use crate::apply::report;
use crate::capability::{Access, CapabilitySet};
use crate::cgroup::Group;
use crate::child::{Child, Facts};
use crate::deny::Exceptions;
use crate::environ::Variables;
use crate::error::{Error, Feature, Step};
use crate::exec::{Command, search_path};
use crate::executable::Candidate;
use crate::filter::{self, Asks};
use crate::landlock::{ChildRuleset, Landlock};
use crate::limits::{Limits, Mechanism, enforced, resource_limits};
use crate::lookup::{self, Program};
use crate::network::Judge;
use crate::own_proc::OwnPath;
use crate::privilege::{KILL, kept};
use crate::stdio::{beyond_stdio, connect};
use crate::supervisor::{self, Handover, Service};
use crate::sys;

/// Starts `command` in a sandbox of `caps`. If it is handed over, it tells when it has begun, and
/// nobody has to look after it; else [`Run`](crate::Run) does.
pub(crate) fn start(
    command: &Command,
    caps: &CapabilitySet,
    is_handed_over: bool,
) -> Result<Child, Error> {
    let start = Instant::now();
    let landlock = Landlock::detect()?;
    if command.input.is_some() && command.terminal.is_some() {
        return Err(Error::InputToTerminal);
    }
    let ids = ids(command)?;
    let environment = command.environment()?;
    let image = Image::new(command, &environment.variables)?;
    let with_terminal = command.terminal.map(|_| terminal_of_its_own(caps)).transpose()?;
    let caps = with_terminal.as_ref().unwrap_or(caps);
    let judge = supervisor::judge(landlock, caps)?;
    let asks = asks(command, judge)?;
    let exceptions = Exceptions::of(caps)?;
    let hands_over_at_once =
        asks == Asks::Observer || command.probe.is_some() || command.keeps_background;
    let ChildRuleset { ruleset, own } = landlock.child_ruleset(caps, &exceptions, judge)?;
    let pipes = |source| Error::Spawn { step: Step::Pipes, path: None, source };
    let handover = (asks != Asks::Nobody)
        .then(|| Handover::new(command.keeps_background).map_err(pipes))
        .transpose()?;
    // The `landlock` crate gives no descriptor only for a kernel without Landlock.
    let ruleset = ruleset.ok_or_else(|| pipes(io::ErrorKind::Unsupported.into()))?;
    let ruleset = beyond_stdio(ruleset).map_err(pipes)?;
    let streams = command.stdio.each_ref();
    let mut ends = connect(streams, command.input.as_deref(), command.terminal).map_err(pipes)?;

    let can_scope = landlock.scopes_signals() && is_in_reach(ids);
    let group = group(&command.limits, ids, can_scope)?;
    let deadline = command.timeout.and_then(|timeout| start.checked_add(timeout));
    let candidate = image.candidate(command, deadline);
    let facts = Facts {
        start,
        deadline,
        program: image.path,
        directory: command.cwd.clone(),
        enforcement: report(landlock, caps, judge),
        limits: held(command, ids, group.as_ref())?,
        cpu_limit: command.limits.max_cpu_seconds.map(Duration::from_secs),
        dropped_variables: environment.dropped,
        keeps_background: command.keeps_background,
    };
    let plan = sys::Plan {
        program: image.program,
        argv: image.argv,
        envp: image.envp,
        cwd: image.cwd,
        is_terminal: command.terminal.is_some(),
        filter: filter::filter(caps, asks)?,
        hands_over_at_once,
        capabilities: kept(caps),
        own_rules: own_rules(&own)?,
        probe: command.probe.clone(),
        limits: resource_limits(&command.limits, group.as_ref()),
        group,
        ids,
        watch: sys::Watch {
            announces: is_handed_over || !own.is_empty() || candidate.is_some(),
            ..watch(command, can_scope, deadline)
        },
    };
    let fds = sys::Descriptors {
        stdio: ends.child().map_err(pipes)?,
        ruleset: ruleset.as_fd(),
        handover: handover.as_ref().map(Handover::child),
    };
    let tree = sys::Tree::start(plan, &fds).map_err(|failure| facts.failure(failure))?;
    ends.close_childs();
    let mut child = Child::new(tree, ends, facts);
    if let Some(handover) = handover {
        child.supervise(handover.ready(service(command, caps, &exceptions, ids)));
        if is_handed_over || hands_over_at_once {
            // Nobody else would notice the first call.
            child.serve().map_err(pipes)?;
        }
    }
    if let Some(candidate) = candidate {
        child.identify(&candidate)?;
    }
    if !own.is_empty() {
        child.wait_begun()?;
        child.hold(hold(&own, child.number()));
    }
    Ok(child)
}

/// Whom the command runs as, if not as the caller.
fn ids(command: &Command) -> Result<Option<sys::Ids>, Error> {
    match command.ids {
        Some((u32::MAX, _) | (_, u32::MAX)) => Err(Error::NobodysId),
        ids => Ok(ids.map(|(uid, gid)| sys::Ids { uid, gid })),
    }
}

/// Whether the caller's signals reach whoever has these ids.
fn is_in_reach(ids: Option<sys::Ids>) -> bool {
    let is_own = |uid| [getuid(), geteuid()].iter().any(|own| own.as_raw() == uid);
    ids.is_none_or(|ids| is_own(ids.uid) || sys::has_capability(KILL))
}

/// The control group of the command, where it has one; it must have if no signal ends it.
fn group(limits: &Limits, ids: Option<sys::Ids>, can_scope: bool) -> Result<Option<Group>, Error> {
    let group = Group::for_program(limits, can_scope);
    match ids.filter(|_| !is_in_reach(ids)) {
        Some(ids) if group.as_ref().and_then(Group::kill).is_none() => {
            Err(Error::OutOfReach { uid: ids.uid })
        }
        _ => Ok(group),
    }
}

/// Who is asked of the child's calls.
fn asks(command: &Command, judge: Judge) -> Result<Asks, Error> {
    match (&command.observed, judge) {
        (None, Judge::Landlock | Judge::Surrounding) => Ok(Asks::Nobody),
        (None, Judge::Supervisor) => Ok(Asks::Supervisor),
        (Some(_), Judge::Supervisor | Judge::Surrounding) => Err(Error::ObservedNetwork),
        (Some(_), Judge::Landlock) if supervisor::can_supervise() => Ok(Asks::Observer),
        (Some(_), Judge::Landlock) => Err(Error::Unsupported { feature: Feature::Supervisor }),
    }
}

/// What the supervisor of the command is told.
fn service(
    command: &Command,
    caps: &CapabilitySet,
    exceptions: &Exceptions,
    ids: Option<sys::Ids>,
) -> Service {
    Service {
        caps: caps.clone(),
        denied: exceptions.names().map(Path::to_owned).collect(),
        ids,
        observed: command.observed.clone(),
        is_lasting: command.keeps_background,
    }
}

/// By what each limit is enforced; an error if one is not, and must be.
fn held(
    command: &Command,
    ids: Option<sys::Ids>,
    group: Option<&Group>,
) -> Result<Vec<(&'static str, Mechanism)>, Error> {
    let limits = enforced(&command.limits, ids, group);
    match limits.iter().find(|(_, by)| *by == Mechanism::IgnoredForRoot) {
        Some((limit, _)) if command.requires_limits => Err(Error::LimitNotHeld { limit }),
        _ => Ok(limits),
    }
}

/// How it is watched that begins unannounced.
fn watch(command: &Command, can_scope: bool, deadline: Option<Instant>) -> sys::Watch {
    let deadline = deadline.and_then(from_now);
    sys::Watch { can_scope, deadline, keeps_background: command.keeps_background, announces: false }
}

/// The same by the monotonic clock. A time beyond its range never comes.
fn from_now(deadline: Instant) -> Option<u64> {
    let left = deadline.saturating_duration_since(Instant::now());
    sys::monotonic().checked_add(u64::try_from(left.as_nanos()).ok()?)
}

/// The grants, and the name by which a program asks for its terminal.
fn terminal_of_its_own(caps: &CapabilitySet) -> Result<CapabilitySet, Error> {
    let mut caps = caps.clone();
    caps.allow_file("/dev/tty", Access::ReadWrite)?;
    Ok(caps)
}

fn own_rules(own: &[(OwnPath, u64)]) -> Result<Vec<sys::OwnRule>, Error> {
    let rule = |(path, rights): &(OwnPath, u64)| {
        let path = c_string(path.of_self().as_os_str(), "a granted path")?;
        Ok(sys::OwnRule { path, rights: *rights })
    };
    own.iter().map(rule).collect()
}

/// Keeps a child's own grants alive until it ends. A rule belongs to the kernel's object of the
/// moment, and `/proc` makes new ones after memory has run short, unless one is held open.
fn hold(own: &[(OwnPath, u64)], pid: i32) -> Vec<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    own.iter()
        // One that cannot be opened has ended, or loses its grant: never more than it has.
        .filter_map(|(path, _)| rustix::fs::open(path.of(pid), flags, Mode::empty()).ok())
        .collect()
}

/// The program and its surroundings, as the kernel takes them.
struct Image {
    path: PathBuf,
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    cwd: Option<CString>,
}

impl Image {
    fn new(command: &Command, variables: &Variables) -> Result<Self, Error> {
        let program_name = c_string(&command.program, "the program")?;
        let cwd = command.cwd.as_deref();
        let c_cwd = cwd.map(|path| c_string(path.as_os_str(), "the working directory"));
        let Program { path, argv0 } = if command.probe.is_some() {
            Program { path: PathBuf::from(&command.program), argv0: command.program.clone() }
        } else {
            let name = OsStr::from_bytes(program_name.as_bytes());
            lookup::find(name, cwd, search_path(variables))?
        };
        let mut argv = vec![c_string(&argv0, "the program")?];
        for arg in &command.args {
            argv.push(c_string(arg, "an argument")?);
        }
        Ok(Self {
            program: c_string(path.as_os_str(), "the program")?,
            path,
            argv,
            envp: environment(variables)?,
            cwd: c_cwd.transpose()?,
        })
    }

    /// The program's file, if somebody wants to know which it is, and that is found out in time.
    fn candidate(&self, command: &Command, deadline: Option<Instant>) -> Option<Candidate> {
        // From the caller's working directory.
        let seen = command.cwd.clone().unwrap_or_default().join(&self.path);
        command.identifies.then(|| Candidate::read(seen, deadline)).flatten()
    }
}

fn environment(variables: &Variables) -> Result<Vec<CString>, Error> {
    let entry = |(name, value): (&OsString, &OsString)| {
        let mut line = name.clone();
        line.push("=");
        line.push(value);
        c_string(&line, "an environment variable")
    };
    variables.iter().map(entry).collect()
}

fn c_string(value: &OsStr, what: &'static str) -> Result<CString, Error> {
    CString::new(value.as_bytes()).map_err(|_| Error::NulByte { what })
}
