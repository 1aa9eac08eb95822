//! A set tried out: a child is started as a program would be, and tries what it must not be able
//! to do. What the kernel answers is the report.

use std::collections::BTreeSet;
use std::ffi::{CString, c_long};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capability::{Access, CapabilitySet, FsCapability};
use crate::error::Error;
use crate::exec::Command;
use crate::network::{Network, Seal};
use crate::query::{PathAnswer, Query};
use crate::sys::{Attempt, Probe};
use crate::verification::{Check, Verification};

/// Paths that exist almost everywhere and are granted almost nowhere.
const PLACES: [&str; 12] = [
    "/",
    "/etc",
    "/etc/passwd",
    "/proc",
    "/sys",
    "/dev",
    "/home",
    "/root",
    "/tmp",
    "/var",
    "/run",
    "/boot",
];

/// `TIOCSTI` of `asm-generic/ioctls.h`.
const PUSH_KEY: usize = 0x5412;
/// `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR` of `linux/fs.h`.
const SET_FLAGS: usize = 0x4008_6602;
const SET_ATTRIBUTES: usize = 0x401C_5820;
/// `PTRACE_SEIZE` of `linux/ptrace.h`: attaches without stopping.
const SEIZE: usize = 0x4206;
/// `IPC_PRIVATE` of `linux/ipc.h`: nobody else finds what is made by it.
const NOBODYS_KEY: usize = 0;
/// The first version of Landlock that scopes signals and abstract sockets.
const SCOPES: u32 = 6;

impl CapabilitySet {
    /// Starts a child in a sandbox of this set that tries what the set does not grant, and tells
    /// what the kernel answered: files, sockets, other processes, devices, the kernel itself.
    ///
    /// What the child tries does no harm if it is not denied. What this kernel is known not to
    /// judge is left out; it is among [`Enforcement::missing`](crate::Enforcement::missing).
    ///
    /// # Errors
    ///
    /// Those of [`Command::run`](crate::Command::run), and [`Error::Verify`] if the child ended
    /// before it was through.
    pub fn verify(&self) -> Result<Verification, Error> {
        // Kept until the child is through: it is them that it must not reach.
        let servers = Servers::new();
        let mut attempts = files(self);
        attempts.extend(devices(self));
        attempts.extend(processes());
        attempts.extend(closed_calls());
        attempts.extend(servers.attempts(self));
        let (subjects, attempts): (Vec<_>, Vec<_>) = attempts.into_iter().unzip();
        let probe = Arc::new(Probe::new(attempts));
        let output = Command::probe(Arc::clone(&probe)).run(self)?;
        if output.exit_code != 0 {
            return Err(Error::Verify { exit_code: output.exit_code });
        }
        let enforcement = output.enforcement;
        let tried = subjects.into_iter().zip(probe.results());
        let judged = tried.filter(|(subject, result)| {
            let is_known = enforcement.landlock_abi() >= SCOPES;
            (is_known || !matches!(subject, Subject::Scoped(_))) && !is_impossible(*result)
        });
        Ok(Verification { checks: judged.map(check).collect(), enforcement })
    }
}

/// Whether the attempt fails for everybody, before anybody is asked for leave: on a file system
/// that is mounted to be read, or has no files without a name.
fn is_impossible(result: Option<i32>) -> bool {
    matches!(result, Some(libc::EROFS | libc::EOPNOTSUPP))
}

fn check((subject, result): (Subject, Option<i32>)) -> Check {
    let what = match subject {
        Subject::Plain(text) => text,
        Subject::Scoped(text) => text.to_owned(),
    };
    let is_denied = matches!(result, Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
    Check { what, is_denied, errno: result.filter(|errno| *errno != 0) }
}

/// What an attempt is about.
enum Subject {
    /// Something that every kernel with Landlock denies.
    Plain(String),
    /// Something that needs scopes.
    Scoped(&'static str),
}

type Try = (Subject, Attempt);

fn plain(what: impl Into<String>, attempt: Attempt) -> Try {
    (Subject::Plain(what.into()), attempt)
}

/// Opens what is not granted.
fn files(caps: &CapabilitySet) -> Vec<Try> {
    let query = Query::new(caps.clone());
    let own = PathBuf::from(format!("/proc/{}/environ", std::process::id()));
    let denied = caps.denied_paths().iter().map(|path| path.resolved().to_owned());
    let places = PLACES.iter().map(PathBuf::from).chain(std::env::home_dir()).chain([own]);
    let places: BTreeSet<PathBuf> = places.chain(denied).filter(|path| path.exists()).collect();
    let mut attempts = Vec::new();
    for path in places {
        let Ok(text) = CString::new(path.as_os_str().as_bytes()) else { continue };
        let is_granted = |access| matches!(query.path(&path, access), PathAnswer::Allowed(_));
        let shown = path.display();
        if !is_granted(Access::Read) {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK;
            attempts.push(plain(format!("read {shown}"), Attempt::Open(text.clone(), flags)));
        }
        if path.is_dir() && !is_granted(Access::Write) && has_nameless_files(&path) {
            let flags = libc::O_WRONLY | libc::O_TMPFILE;
            attempts.push(plain(format!("write below {shown}"), Attempt::Open(text, flags)));
        }
    }
    attempts
}

/// Whether files without a name can be made in a directory. Where they cannot, the error says so
/// before anybody is asked for leave.
fn has_nameless_files(path: &Path) -> bool {
    !["/proc", "/sys", "/dev"].iter().any(|other| path.starts_with(other))
}

/// Makes a device node where something may be written.
fn devices(caps: &CapabilitySet) -> Option<Try> {
    let is_writable = |grant: &&FsCapability| !grant.is_file() && grant.access().is_write();
    let grant = caps.fs_capabilities().iter().find(is_writable)?;
    let path = grant.resolved().join(format!(".nono-device-{}", std::process::id()));
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    Some(plain("make a device node", Attempt::Device(path)))
}

/// Acts on the process that runs the check. No call changes anything if it is let through.
fn processes() -> Vec<Try> {
    // Nobody's address: what reads from it fails, but not for want of leave.
    const NOBODYS: usize = 1;
    let own = std::process::id();
    let pid = own as usize;
    let scoped = [
        ("signal another process", libc::SYS_kill, [pid, 0, 0, 0]),
        ("signal a thread of another process", libc::SYS_tgkill, [pid, pid, 0, 0]),
    ];
    let plainly = [
        ("trace another process", libc::SYS_ptrace, [SEIZE, pid, 0, 0]),
        ("slow down another process", libc::SYS_setpriority, [0, pid, nice(), 0]),
        ("move another process", libc::SYS_sched_setaffinity, [pid, 8, NOBODYS, 0]),
        ("schedule another process", libc::SYS_sched_setscheduler, [pid, 0, NOBODYS, 0]),
        ("limit another process", libc::SYS_prlimit64, [pid, 0, NOBODYS, 0]),
    ];
    let call = |number, arguments| Attempt::Call(number, arguments);
    let scoped = scoped.map(|(what, number, args)| (Subject::Scoped(what), call(number, args)));
    let plainly = plainly.map(|(what, number, args)| plain(what, call(number, args)));
    let by_descriptor = i32::try_from(own).ok().map(|process| {
        let what = Subject::Scoped("signal another process by descriptor");
        (what, Attempt::SignalByDescriptor(process))
    });
    scoped.into_iter().chain(plainly).chain(by_descriptor).collect()
}

/// The nice value of this process, as the kernel takes it.
fn nice() -> usize {
    let value = rustix::process::getpriority_process(None).unwrap_or(0);
    isize::try_from(value).unwrap_or(0).cast_unsigned()
}

/// Calls that no sandboxed process needs. Each fails when it is let through, for what it is given.
fn closed_calls() -> impl Iterator<Item = Try> {
    let calls: [(&str, c_long, [usize; 4]); 21] = [
        ("push a key into the terminal", libc::SYS_ioctl, [0, PUSH_KEY, 0, 0]),
        // Of standard input, which is no file that has any.
        ("change a file's flags", libc::SYS_ioctl, [0, SET_FLAGS, 0, 0]),
        ("change a file's attributes", libc::SYS_ioctl, [0, SET_ATTRIBUTES, 0, 0]),
        ("add a kernel key", libc::SYS_add_key, [0; 4]),
        ("use a kernel key", libc::SYS_keyctl, [usize::MAX, 0, 0, 0]),
        ("request a kernel key", libc::SYS_request_key, [0; 4]),
        ("mount", libc::SYS_mount, [0; 4]),
        ("change the root", libc::SYS_chroot, [0; 4]),
        ("enter a namespace", libc::SYS_setns, [usize::MAX, 0, 0, 0]),
        ("load a kernel module", libc::SYS_init_module, [0; 4]),
        ("load a kernel", libc::SYS_kexec_load, [0; 4]),
        ("reboot", libc::SYS_reboot, [0; 4]),
        ("load a kernel program", libc::SYS_bpf, [usize::MAX, 0, 0, 0]),
        ("count another's events", libc::SYS_perf_event_open, [0; 4]),
        ("answer page faults", libc::SYS_userfaultfd, [usize::MAX, 0, 0, 0]),
        ("open a file by its handle", libc::SYS_open_by_handle_at, [usize::MAX, 0, 0, 0]),
        // Without a size, without semaphores, by a number that none has.
        ("share memory by System V", libc::SYS_shmget, [NOBODYS_KEY, 0, 0, 0]),
        ("make semaphores of System V", libc::SYS_semget, [NOBODYS_KEY, 0, 0, 0]),
        ("read a message queue of System V", libc::SYS_msgrcv, [usize::MAX, 0, 0, 0]),
        ("open a POSIX message queue", libc::SYS_mq_open, [0; 4]),
        ("watch files", libc::SYS_inotify_add_watch, [usize::MAX, 0, 0, 0]),
    ];
    calls.into_iter().map(|(what, number, args)| plain(what, Attempt::Call(number, args)))
}

/// Servers of this process that nobody in the sandbox must reach.
struct Servers {
    tcp: Option<(TcpListener, SocketAddrV4)>,
    unix: Option<(UnixListener, Vec<u8>)>,
}

impl Servers {
    /// Those that can be made: a caller that is sandboxed itself may not.
    fn new() -> Self {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok().and_then(|listener| {
            match listener.local_addr() {
                Ok(SocketAddr::V4(address)) => Some((listener, address)),
                _ => None,
            }
        });
        let name = format!("nono-verify-{}-{:?}", std::process::id(), std::thread::current().id());
        let unix = UnixAddress::from_abstract_name(&name)
            .and_then(|address| UnixListener::bind_addr(&address))
            .ok()
            .map(|listener| (listener, name.into_bytes()));
        Self { tcp, unix }
    }

    fn attempts(&self, caps: &CapabilitySet) -> Vec<Try> {
        let mut attempts = Vec::new();
        if let Some((_, name)) = &self.unix {
            let what = Subject::Scoped("connect to an abstract unix socket outside");
            attempts.push((what, Attempt::Abstract(name.clone())));
        }
        let seal = caps.seal();
        if seal == Seal::Open {
            return attempts;
        }
        if let Some((_, address)) = &self.tcp
            && !Query::new(caps.clone()).connect(SocketAddr::V4(*address)).is_allowed()
        {
            attempts.push(plain("connect by TCP", Attempt::Connect(*address)));
            attempts.push(plain("send by TCP Fast Open", Attempt::FastOpen(*address)));
        }
        let mptcp = [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP];
        attempts.push(plain("make an io_uring", Attempt::Call(libc::SYS_io_uring_setup, [0; 4])));
        attempts.push(plain("make a MPTCP socket", Attempt::Socket(mptcp)));
        attempts.push(plain("bind to a port", Attempt::Bind));
        let proxy = match caps.network() {
            Network::ProxyOnly(SocketAddr::V4(proxy)) => Some(proxy),
            _ => None,
        };
        if let Some(address) = proxy.or_else(|| self.tcp.as_ref().map(|(_, address)| *address)) {
            attempts.push(plain("serve without binding", Attempt::Listen(address)));
        }
        if seal == Seal::Ports {
            return attempts;
        }
        attempts.extend(sockets());
        attempts
    }
}

/// Sockets that get around TCP.
fn sockets() -> impl Iterator<Item = Try> {
    let kinds = [
        ("UDP", [libc::AF_INET, libc::SOCK_DGRAM, 0]),
        ("UDP over IPv6", [libc::AF_INET6, libc::SOCK_DGRAM, 0]),
        ("SCTP", [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP]),
        ("raw", [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP]),
        ("packet", [libc::AF_PACKET, libc::SOCK_RAW, 0]),
        ("vsock", [libc::AF_VSOCK, libc::SOCK_STREAM, 0]),
        ("kernel crypto", [libc::AF_ALG, libc::SOCK_SEQPACKET, 0]),
        ("audit netlink", [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT]),
        ("unix datagram", [libc::AF_UNIX, libc::SOCK_DGRAM, 0]),
    ];
    let each = |(name, kind)| plain(format!("make a socket: {name}"), Attempt::Socket(kind));
    let pair = Attempt::Pair([libc::AF_UNIX, libc::SOCK_DGRAM]);
    kinds.into_iter().map(each).chain([plain("make a pair of datagram sockets", pair)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the checks are worth: outside a sandbox the same attempts are let through.
    #[test]
    fn without_a_sandbox_the_attempts_succeed_or_fail_otherwise() {
        let mut caps = CapabilitySet::new();
        caps.block_network();
        let servers = Servers::new();
        let attempts = files(&caps).into_iter().chain(processes()).chain(servers.attempts(&caps));
        let attempts = attempts.chain(closed_calls());
        let (subjects, attempts): (Vec<_>, Vec<_>) = attempts.unzip();
        let probe = Probe::new(attempts);
        probe.run();
        let checks: Vec<Check> = subjects.into_iter().zip(probe.results()).map(check).collect();
        for what in [
            "read /",
            "read /etc/passwd",
            "write below /tmp",
            "signal another process",
            "signal another process by descriptor",
            "slow down another process",
            "limit another process",
            "share memory by System V",
            "make semaphores of System V",
            "read a message queue of System V",
            "open a POSIX message queue",
            "watch files",
            "connect to an abstract unix socket outside",
            "connect by TCP",
            "send by TCP Fast Open",
            "bind to a port",
            "serve without binding",
            "make a socket: UDP",
            "make a pair of datagram sockets",
        ] {
            let check = checks.iter().find(|check| check.what == what);
            assert!(check.is_some_and(|check| !check.is_denied), "{what}: {check:?}");
        }
    }
}
