//! What can go wrong, one variant per operation, with the path and the operating system's own
//! error kept as values so that a caller can decide and need not read text.

use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::io;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;

use crate::quoted::quoted;

/// An error of a library underneath, kept for its text.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a sandbox could not be described, entered or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path to be granted does not exist; `source` carries the error number.
    #[error("path does not exist: {}", path.display())]
    PathMissing {
        /// The path as it was given.
        path: PathBuf,
        /// `ENOENT`, as the kernel said it.
        source: io::Error,
    },
    /// A directory was wanted.
    #[error("expected a directory but got a file: {}", path.display())]
    ExpectedDirectory {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Anything but a directory was wanted.
    #[error("expected a file but got a directory: {}", path.display())]
    ExpectedFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A unix socket or a directory was wanted.
    #[error("expected a unix socket or a directory: {}", path.display())]
    ExpectedSocket {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Port zero was to be granted; it stands for any port of the kernel's choice.
    #[error("port 0 cannot be granted: it stands for any port")]
    PortZero,
    /// A limit was to be held for certain, and the kernel does not apply it to root.
    #[error(
        "the kernel does not hold root to {limit} without a control group that is delegated to the \
         caller: run as another user (`uid`), or as a service with `Delegate=yes`"
    )]
    LimitNotHeld {
        /// The name of its field in [`Limits`](crate::Limits).
        limit: &'static str,
    },
    /// A denied path cannot be kept out of a grant.
    #[error("cannot deny {} within the grant of {}: {fault}", denied.display(), grant.display())]
    Deny {
        /// The denied path.
        denied: PathBuf,
        /// The resolved path of the grant.
        grant: PathBuf,
        /// Why not.
        fault: DenyFault,
    },
    /// A path could not be resolved: a component is no directory, may not be searched, changed
    /// while it was looked at, or the name cannot be a path at all.
    #[error("failed to resolve path: {}", path.display())]
    Resolve {
        /// The path as it was given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A rule of the platform's own language cannot be taken.
    #[error("the platform rule `{rule}` is refused: {reason}")]
    PlatformRule {
        /// The rule as it was given.
        rule: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The child that was to try what is denied ended before it was through.
    #[error("the sandbox could not be verified: its probe ended with {exit_code}")]
    Verify {
        /// The probe's exit code, `-N` if signal `N` ended it.
        exit_code: i32,
    },
    /// The text of a state is not one.
    #[error("Invalid JSON")]
    StateFormat {
        /// Where, and what is wrong there.
        source: serde_json::Error,
    },
    /// A path of a set has no place in the text of a state.
    #[error("{} is no UTF-8: the JSON of a state cannot have it", quoted(path))]
    StatePathText {
        /// The path, as it was given or without links.
        path: PathBuf,
    },
    /// A path in a state does not lead to where the state says.
    #[error(
        "`{}` leads to `{}` and not to `{}`, as the state has it",
        original.display(), now.display(), recorded.display()
    )]
    StatePath {
        /// The path as it was given.
        original: PathBuf,
        /// Where the state says that it leads.
        recorded: PathBuf,
        /// Where it leads.
        now: PathBuf,
    },
    /// The platform or the running kernel lacks something that was asked for.
    #[error("not supported here: {feature}")]
    Unsupported {
        /// What is missing.
        feature: Feature,
    },
    /// A thread cannot be restricted together with the others; nothing was applied.
    #[error(
        "thread {thread} (`{name}`) {}; nothing was applied",
        if *is_ring {
            "serves an io_uring of this process and cannot be restricted: close the ring first"
        } else {
            "does not answer, so that it cannot be restricted: it blocks all signals, or waits in \
             the kernel"
        }
    )]
    ThreadSilent {
        /// The thread's number.
        thread: i32,
        /// What it is called.
        name: String,
        /// Whether it is the kernel's own, of an `io_uring`.
        is_ring: bool,
    },
    /// There are more threads than can be restricted together; nothing was applied.
    #[error("the process has more than {most} threads; nothing was applied")]
    TooManyThreads {
        /// How many can be.
        most: usize,
    },
    /// Some threads could not restrict themselves after the others had: the kernel ran out of
    /// memory, or they had more Landlock layers than the others. The process should end.
    #[error("{failed} thread(s) could not be restricted and the others are: end this process")]
    ThreadsDiffer {
        /// How many are not restricted.
        failed: usize,
        /// What the kernel told one of them.
        source: io::Error,
    },
    /// It could not be found out whether other threads exist; nothing was applied.
    #[error("failed to count the threads of this process; nothing was applied")]
    CountThreads {
        /// What reading `/proc/self/task` said.
        source: io::Error,
    },
    /// The Landlock ruleset could not be built.
    #[error("failed to build the Landlock ruleset")]
    BuildRuleset {
        /// The `landlock` crate's error; it names the system call.
        source: Source,
    },
    /// The rule of one grant could not be added.
    #[error("failed to add the Landlock rule for {}", path.display())]
    AddRule {
        /// The resolved path of the grant.
        path: PathBuf,
        /// The `landlock` crate's error.
        source: Source,
    },
    /// A step of [`apply`](crate::apply()) failed, in a trial run or with all threads standing
    /// still; no thread was left in a Landlock domain.
    #[error("failed to {step}; the sandbox was not applied")]
    Apply {
        /// The step that failed.
        step: Step,
        /// What the step said.
        source: Source,
    },
    /// The command is the empty string.
    #[error("command must not be empty")]
    EmptyCommand,
    /// An argument, a variable or a path contains a NUL byte.
    #[error("{what} must not contain a NUL byte")]
    NulByte {
        /// Which kind of value it was.
        what: &'static str,
    },
    /// The name of an environment variable is empty or contains `=` or NUL.
    #[error("invalid name of an environment variable: {}", name.display())]
    VariableName {
        /// The name as it was given.
        name: OsString,
    },
    /// The environment variable would steer the dynamic loader.
    #[error("environment variable is not allowed in a sandbox: {}", name.display())]
    LoaderVariable {
        /// The name as it was given.
        name: OsString,
    },
    /// Input is given to a program with a terminal.
    #[error("input cannot be given together with a terminal: write to the terminal instead")]
    InputToTerminal,
    /// A user or group of no number is to run a program: to the kernel it means that nothing is to
    /// change.
    #[error("{number} is the number of no user or group", number = u32::MAX)]
    NobodysId,
    /// A program is to run as a user whose processes the caller cannot end.
    #[error(
        "a program of user {uid} could not be ended from here: give the caller `CAP_KILL`, or a \
         control group of its own (`Delegate=yes`)"
    )]
    OutOfReach {
        /// The user that was asked for.
        uid: u32,
    },
    /// A command is to be observed whose network is limited.
    #[error("a command can be observed or its network limited, not both")]
    ObservedNetwork,
    /// No file of this name exists where the program was looked for.
    #[error("program not found: {}", program.display())]
    ProgramNotFound {
        /// The program as it was given.
        program: OsString,
    },
    /// The program exists but is no executable regular file.
    #[error("program is not an executable file: {}", path.display())]
    ProgramNotExecutable {
        /// Where it was found.
        path: PathBuf,
    },
    /// A step between the call and the first instruction of the program failed; the program
    /// did not run.
    #[error("failed to {step}{}", Quoted(path.as_ref()))]
    Spawn {
        /// The step that failed.
        step: Step,
        /// The path the step was about, if it was about one.
        path: Option<PathBuf>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The run was cancelled by the caller; the child has been killed.
    #[error("the sandboxed process was cancelled")]
    Cancelled,
    /// What ends the program's tree was killed, or did not answer and had to be. The program is
    /// killed with it, and nothing here can end what it had started.
    #[error(
        "the supervisor of the sandboxed process was killed: processes that the program had \
         started may go on, in their sandbox"
    )]
    LeftRunning {
        /// That it is not there any more (`ESRCH`), or was not in time.
        source: io::Error,
    },
    /// The running child could not be watched; it has been killed.
    #[error("failed to watch the sandboxed process: {syscall}")]
    Watch {
        /// The system call that failed.
        syscall: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Tells a path that is not there from one that cannot be resolved.
    #[cfg(unix)]
    pub(crate) fn resolve(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::PathMissing { path, source },
            _ => Self::Resolve { path, source },
        }
    }

    /// Whether the caller's argument was at fault, before anything was tried.
    pub fn is_bad_argument(&self) -> bool {
        matches!(
            self,
            Self::EmptyCommand
                | Self::NulByte { .. }
                | Self::VariableName { .. }
                | Self::LoaderVariable { .. }
                | Self::InputToTerminal
                | Self::NobodysId
                | Self::ObservedNetwork
                | Self::ExpectedDirectory { .. }
                | Self::ExpectedFile { .. }
                | Self::ExpectedSocket { .. }
                | Self::PortZero
                | Self::PlatformRule { .. }
                | Self::Deny { .. }
                | Self::StateFormat { .. }
                | Self::StatePathText { .. }
                | Self::StatePath { .. }
        )
    }
}

/// Why a denied path cannot be kept out of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenyFault {
    /// The grant is of the denied path itself, or of something beneath.
    Covered,
    /// The grant is to write: the right to make files would reach into the denied path.
    Writable,
    /// The grant is of what is the process's own beneath `/proc`.
    OwnProcess,
    /// The grant is of the denied path, or of what it is beneath, by another name: a hard link, or
    /// another place where the directory is mounted.
    OtherName,
    /// There is too much besides to be granted one by one.
    TooMany {
        /// The largest number of objects.
        most: usize,
    },
}

impl Display for DenyFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Covered => f.write_str("the whole grant is denied; remove one of them"),
            Self::Writable => f.write_str(
                "a grant to write reaches everything beneath; grant the directories in it that \
                 are to be written, or the whole to read only",
            ),
            Self::OtherName => {
                f.write_str("it is the same, or above it, by another name; remove one of them")
            }
            Self::OwnProcess => f.write_str("a process has all of its own `/proc` or none"),
            Self::TooMany { most } => {
                write!(f, "more than {most} files beside it would have to be granted one by one")
            }
        }
    }
}

/// What a platform or kernel can lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// There is no enforcement for this operating system.
    Platform,
    /// Only Linux has what this needs.
    OfLinux {
        /// What, in words.
        what: &'static str,
    },
    /// The kernel was built without Landlock or is older than 5.13.
    Landlock,
    /// Landlock is built in but switched off at boot.
    LandlockDisabled,
    /// Network limits need Landlock ABI 4 (Linux 6.7).
    LandlockNetwork {
        /// The ABI the kernel has.
        abi: u32,
    },
    /// The system call filter has no form for this processor.
    FilterArchitecture,
    /// Something was granted or denied that this platform cannot enforce.
    Grant {
        /// What, in words.
        what: &'static str,
    },
    /// Network limits by address need a supervisor, and a surrounding sandbox has one already.
    Supervisor,
    /// Network limits by address need a supervisor, and the kernel lets no process look into
    /// another.
    Inspection,
}

impl Display for Feature {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => write!(f, "sandboxing on {}", std::env::consts::OS),
            Self::OfLinux { what } => {
                write!(f, "{what} (on Linux only; this is {})", std::env::consts::OS)
            }
            Self::Landlock => f.write_str("Landlock (Linux 5.13 or newer, built with it)"),
            Self::LandlockDisabled => f.write_str("Landlock (disabled at boot, see `lsm=`)"),
            Self::LandlockNetwork { abi } => {
                write!(f, "network limits (Landlock ABI 4 or newer, this kernel has {abi})")
            }
            Self::Grant { what } => write!(f, "enforcing {what}"),
            Self::Supervisor => f.write_str(
                "network limits by address (a surrounding sandbox judges addresses already)",
            ),
            Self::Inspection => f.write_str(
                "network limits by address (no process may read another's memory here: see \
                 `ptrace_scope` of Yama, and `process_vm_readv` in the container's profile)",
            ),
            Self::FilterArchitecture => {
                write!(f, "system call filter on {}", std::env::consts::ARCH)
            }
        }
    }
}

/// A step on the way into a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum Step {
    /// Create the pipes and open `/dev/null`.
    Pipes = 1,
    /// Allocate the stack the new process starts on.
    Stack,
    /// Create the process.
    Clone,
    /// Set up the process that supervises the program's tree.
    Shim,
    /// Connect standard input, output and error.
    Stdio,
    /// Keep inherited descriptors from the program.
    Descriptors,
    /// Give up gaining privileges.
    NoNewPrivileges,
    /// Set the tree apart by a Landlock scope of its own.
    Scope,
    /// Start a session of its own.
    Session,
    /// Make standard input the session's terminal.
    Terminal,
    /// Change to the working directory.
    WorkingDirectory,
    /// Set the resource limits.
    ResourceLimits,
    /// Grant the child what is its own beneath `/proc`.
    OwnProc,
    /// Become another user.
    Ids,
    /// Give up root's capabilities.
    Capabilities,
    /// Ask for the program to end with its supervisor.
    ParentDeath,
    /// Enter the Landlock domain.
    Landlock,
    /// Install the system call filter.
    Filter,
    /// Start the process that judges addresses.
    Supervisor,
    /// Let system calls wait for the supervisor.
    Listener,
    /// Unblock the signals.
    SignalMask,
    /// Execute the program.
    Execute,
}

#[cfg(target_os = "linux")]
impl Step {
    /// Every step, in the order in which they are taken.
    pub(crate) const ALL: [Self; 22] = [
        Self::Pipes,
        Self::Stack,
        Self::Clone,
        Self::Shim,
        Self::Stdio,
        Self::Descriptors,
        Self::NoNewPrivileges,
        Self::Scope,
        Self::Session,
        Self::Terminal,
        Self::WorkingDirectory,
        Self::OwnProc,
        Self::Ids,
        Self::Capabilities,
        Self::ParentDeath,
        Self::Landlock,
        Self::Filter,
        Self::Supervisor,
        Self::Listener,
        Self::ResourceLimits,
        Self::SignalMask,
        Self::Execute,
    ];
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipes => "create the pipes to the sandboxed process",
            Self::Stack => "allocate a stack for the sandboxed process",
            Self::Clone => "create the sandboxed process",
            Self::ParentDeath => "tie the sandboxed process to its supervisor",
            Self::Shim => "set up the supervisor of the sandboxed process",
            Self::Scope => "set the process tree apart by a Landlock scope",
            Self::Terminal => "take the terminal",
            Self::Ids => "become another user",
            Self::Session => "start a new session",
            Self::WorkingDirectory => "change to the working directory",
            Self::Stdio => "connect the standard streams",
            Self::Descriptors => "close inherited descriptors",
            Self::ResourceLimits => "set the resource limits",
            Self::NoNewPrivileges => "give up new privileges",
            Self::Capabilities => "give up capabilities",
            Self::OwnProc => "grant what is beneath `/proc/self`",
            Self::Landlock => "enter the Landlock domain",
            Self::Filter => "install the system call filter",
            Self::Supervisor => "start the process that judges addresses",
            Self::Listener => "let system calls wait for the supervisor",
            Self::SignalMask => "unblock signals",
            Self::Execute => "execute the program",
        })
    }
}

/// Prints ` PATH` with quotes if there is one.
struct Quoted<'a>(Option<&'a PathBuf>);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " `{}`", path.display()),
            None => Ok(()),
        }
    }
}
