//! What a process may touch: a description ([`CapabilitySet`]), and two ways to be held to it:
//! [`apply()`] for the calling process, for ever, and [`Command`] for a program of its own.
//!
//! ```
//! # fn main() -> Result<(), nono_sandbox::Error> {
//! use nono_sandbox::{Access, CapabilitySet, Command};
//!
//! let mut caps = CapabilitySet::new();
//! caps.allow_system()?; // the system's programs and libraries, to be read
//! caps.allow_path(".", Access::Read)?;
//! caps.block_network();
//! let output = Command::new("ls").arg("/root").run(&caps)?;
//! assert!(output.exit_code != 0 && output.stdout.is_empty());
//! println!("{}", output.enforcement); // what the kernel judged
//! # Ok(())
//! # }
//! ```
//!
//! # Whom it holds
//!
//! The sandboxed code is taken to be hostile and to know this crate. It runs with the user's own
//! rights, so the kernel would let it do all the user may do. The sandbox takes away what was not
//! granted, by the kernel's own means:
//!
//! * **Files**: Landlock. What is not granted can be neither opened, executed nor changed.
//! * **Network**: a system call filter for all that is not plain TCP (other protocols and
//!   families, fast open, `io_uring`) and Landlock for TCP ports. Where addresses matter, the
//!   calls that have one wait for a supervisor, which judges a copy of the address and makes the
//!   call itself: there is nothing to be swapped between check and use. It is a thread of a
//!   [`Command`]'s parent; [`apply()`] starts a process. Only with [`block_network`](CapabilitySet::block_network),
//!   [`proxy_only`](CapabilitySet::proxy_only) or granted ports.
//! * **Other processes**: no signal reaches one outside the sandbox, nor does an abstract unix
//!   socket (Landlock ABI 6); their limits, priorities, processors and memory stay as they are.
//!   What all processes of a user share is closed: shared memory, semaphores and message queues of
//!   the System V kind, and POSIX message queues. (POSIX shared memory is files.)
//! * **Goings-on at files**: `inotify` is not there (`ENOSYS`), as it tells of all files that have a
//!   name. Programs that watch files fall back to looking at them.
//! * **The kernel**: mounts, `chroot`, namespaces, modules, `bpf`, `perf`, keys, `userfaultfd`,
//!   `io_uring` and the like are closed, for root and for everybody.
//! * **Root**: of its capabilities those are left that its grants need: over files of other owners
//!   where files are granted, over their owners and modes where they can be written, over low
//!   ports where one is granted or the network is open.
//! * **Lent rights**: nobody gains privileges by executing a program, and no file can be made one
//!   that lends its owner's or group's.
//! * **The terminal**: no session has one, and no keystroke can be pushed into one.
//! * **`/proc/self`**: granted to a [`Command`], it is the child's and not the caller's; and in the
//!   paths of calls that a supervisor makes, it is the calling process's.
//! * **The caller**: no descriptor, no environment, no input and no signal disposition of the
//!   parent's reaches a [`Command`]; it cannot keep the call from returning at its timeout, nor
//!   make the parent store more output than it was given room for.
//! * **Time**: whatever a [`Command`] has started ends with it, at its timeout, and with the
//!   caller: nothing can hide from that, and nobody else is hit by it.
//!
//! [`apply()`] holds every thread of the process, or refuses and holds none.
//!
//! What is asked for and cannot be had is an [`Error`], before anything runs. What the kernel is
//! too old to judge is in the [`Enforcement`] that every way into the sandbox returns.
//!
//! # Learning what to grant
//!
//! [`Command::observe`] notes what a program does ([`Act`]), by the same waiting calls, of which none
//! is refused. It is a way to look and no boundary.
//!
//! # What is not covered
//!
//! * There is one supervisor for a process. In a sandbox that has one, another that lets as much or
//!   more pass is judged by it; for one that lets less pass there is nobody to judge its addresses.
//!   That is an error, unless [less is accepted](CapabilitySet::accept_less).
//! * The supervisor of [`apply()`] must be let look into other processes. Where Yama lets only
//!   ancestors do that (`ptrace_scope` 1), and it has no privilege, it can look into the process
//!   that called and into none that is started later: those can connect to nothing.
//! * In a call that a supervisor makes, nothing can be named by what another process has open
//!   (`/proc/PID/fd`), be it one of the same sandbox.
//! * Where a supervisor is killed, what it would have judged fails with `ENOSYS`. Before Landlock
//!   ABI 6 the sandboxed process can do that.
//! * With the network open, every unix socket with a path can be connected to. With it limited, and
//!   nobody there to judge addresses, that is so before Landlock ABI 9; and from then on of one that
//!   is denied within a granted directory of sockets.
//! * With it limited, an abstract unix socket of the same sandbox can be connected to as long as
//!   the process that began to listen at it keeps it open under the same number; and whoever is
//!   connected to sees the number of a process of the supervisor's, not the child's. Of its own
//!   sockets a sandbox can connect to 512 that have a path and 256 that have a name.
//! * With it limited, 64 connections of a sandbox are looked after at a time, besides those that
//!   come about at once; 256 more wait for their turn, and where there are even more, all that the
//!   supervisor judges waits. None fails for that.
//! * Where a container forbids `pidfd_getfd`, a limited process cannot connect to unix sockets of
//!   its own, nor listen if it has TCP, and sockets lose the options set before they are connected.
//! * `stat`, `readlink` and `chdir` work on files that are not granted. `chmod`, `chown`, `utimes`
//!   and extended attributes work on none where nothing may be written, and on what may be written
//!   and is no device where a supervisor judges; but where there is none (with the network open) and
//!   something may be written, they work as far as the user's own rights go: Landlock does not
//!   judge them.
//! * Executing can be withheld from a grant, but nothing keeps code from being made in memory, as
//!   pages or as a file (`memfd_create`): Landlock does not judge it, and to close it would stop
//!   every interpreter that compiles.
//! * A process can learn that another exists, and when it ends (`pidfd_open`).
//! * With the network limited, `NETLINK_ROUTE` is left: the C library lists interfaces by it.
//! * A directory cannot be granted without what is beneath it, but for denied paths within a grant
//!   to read. Around those what is there at the beginning is granted, one by one: what comes
//!   later, or takes the place of a file, is not; and a directory with a denied directory beneath
//!   cannot be listed. One with a denied file, or with what is denied and not there, can be, and so
//!   can directories that come to be in it, the denied one included: their names are told.
//! * What is denied is denied by its path, and wherever the same is mounted in the caller's mount
//!   namespace when the sandbox is made (if the caller can read `/proc/self/mountinfo`, which one
//!   that is in a sandbox itself, or has no `/proc`, cannot). Where it is granted by another name
//!   besides, a hard link beneath a granted directory, an overlay or a mount made later, it can be had
//!   by that one.
//! * Flags and other attributes of files that are set by `ioctl` (`chattr`, file system encryption,
//!   verity, subvolumes) stay as they are, and f2fs begins no atomic write, also where files may be
//!   written: the kernel asks nobody whether a file that is open for reading may be changed so.
//! * Before Landlock ABI 6, and without a delegated control group, a program that leaves its process
//!   group survives the end and the timeout of its [`Command`]. It stays sandboxed.
//! * Where the kernel kills the caller for want of memory, it kills what ends the tree of a
//!   [`Command`] with it, as their memory is the same. The program ends too; what it has started goes
//!   on, sandboxed. Where only that supervisor is killed (nothing in a sandbox can, from Landlock ABI
//!   6 on), the caller ends all by the program's control group or, where it has none, returns
//!   [`Error::LeftRunning`].
//! * Granting all of `/proc` shows the names and arguments of all processes.
//! * Where no control group is delegated to the caller, memory is limited for each process and not
//!   for all together, and processes only through a limit that counts all of the user's.
//! * Time and caches: nothing is done about side channels, nor about faults of the kernel.
//!
//! # Platforms
//!
//! Linux 5.13 with Landlock; network limits from 6.7 on. On macOS, [`apply()`] holds the process to
//! a Seatbelt profile, which has never been tried there: its text is tested, the call is not.
//! Descriptions, policies and questions about them are the same everywhere. All else that would
//! enforce, run a [`Command`] or make a [snapshot] is there by name, and returns
//! [`Error::Unsupported`] or [its like](snapshot::SnapshotError::Unsupported).

mod capability;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod child;
mod denial;
mod denied;
mod deny;
mod diagnose;
mod enforcement;
mod environ;
mod error;
mod exec;
mod grants;
mod limits;
mod mounts;
mod network;
mod object;
mod observe;
pub mod policy;
mod processes;
mod query;
mod quoted;
mod rules;
#[cfg(target_os = "linux")]
mod run;
mod seatbelt;
pub mod snapshot;
mod source;
mod state;
mod stdio;
mod summary;
mod verification;

#[cfg(target_os = "linux")]
mod apply;
#[cfg(target_os = "linux")]
mod around;
#[cfg(all(unix, feature = "tokio"))]
mod asynchronous;
#[cfg(target_os = "linux")]
mod executable;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(unix)]
mod interpreter;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod lookup;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod own_proc;
#[cfg(target_os = "linux")]
mod privilege;
#[cfg(target_os = "linux")]
mod removal;
#[cfg(target_os = "linux")]
mod spawn;
#[cfg(target_os = "linux")]
mod supervisor;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "macos")]
#[path = "sys/seatbelt.rs"]
mod sys;
#[cfg(target_os = "linux")]
mod threads;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(target_os = "linux")]
mod verify;

#[cfg(target_os = "linux")]
pub use apply::{apply, landlock_abi, support};
#[cfg(all(unix, feature = "tokio"))]
pub use asynchronous::Process;
pub use capability::{Access, CapabilitySet, FsCapability, Grant};
#[cfg(target_os = "linux")]
pub use child::Child;
pub use denial::{Action, Denial, Target};
pub use denied::DeniedPath;
pub use diagnose::{Detail, Diagnostic, Kind, Report};
pub use enforcement::{Enforcement, Support};
pub use environ::is_loader_variable;
pub use error::{DenyFault, Error, Feature, Step};
pub use exec::{Command, Executable, Output};
pub use limits::{Limits, Mechanism};
pub use network::{Network, UnixSocket};
pub use observe::{Act, Observed};
pub use processes::{ProcessAction, ProcessAnswer};
pub use query::{NetworkAnswer, PathAnswer, Query, Suggestion};
#[cfg(target_os = "linux")]
pub use run::Run;
pub use source::Source;
pub use state::State;
pub use stdio::{Stdio, WindowSize};
#[cfg(not(target_os = "linux"))]
pub use unsupported::{Child, Run, apply, landlock_abi, support};
pub use verification::{Check, Verification};
