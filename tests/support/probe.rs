//! What tests run inside a sandbox, or as the parent of one: does one thing, named by the first
//! argument, and prints `ok`, or the number of the error it met.

#![expect(clippy::unwrap_used, reason = "a probe that cannot go on should say so and stop")]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod own;
mod pressed;
mod reach;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nono_sandbox::{Access, CapabilitySet, apply};
use support::sandboxed::{shell, system, text};

mod threads;

/// Ends a process that takes or gives back memory in another's: a copy of a process must do
/// neither, as the threads that it was copied without may have held the allocator's lock.
struct OwnMemory;

#[global_allocator]
static OWN_MEMORY: OwnMemory = OwnMemory;

/// The process that took memory first.
static OWNER: AtomicI32 = AtomicI32::new(0);

impl OwnMemory {
    fn check() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        match OWNER.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {}
            Err(owner) if owner == own => {}
            Err(_) => std::process::abort(),
        }
    }
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: the system's, in the same process.
unsafe impl GlobalAlloc for OwnMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: upheld by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: upheld by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Number of `MSG_FASTOPEN`.
const FAST_OPEN: i64 = 0x2000_0000;
/// `PTRACE_SEIZE` of `linux/ptrace.h`.
const SEIZE: i64 = 0x4206;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    say(run(&args));
}

fn say(result: io::Result<()>) {
    match result {
        Ok(()) => println!("ok"),
        Err(error) => match error.raw_os_error() {
            Some(number) => println!("{number}"),
            None => println!("{error}"),
        },
    }
}

fn run(args: &[&str]) -> io::Result<()> {
    match args {
        [
            "socket" | "socketpair" | "fastopen" | "fastopen-option" | "connect" | "bind"
            | "listen-unbound" | "abstract-connect",
            ..,
        ] => network(args),
        [
            "signal-parent" | "trace-parent" | "limit-parent" | "nice-parent" | "ioctl" | "call"
            | "calls",
            ..,
        ] => outside(args),
        ["env" | "own-group" | "fds" | "stdin" | "session" | "limits" | "cwd" | "args", ..] => {
            inside(args)
        }
        ["apply", ..] => apply_and(args),
        ["threads", scenario, path] => threads::run(scenario, path),
        [
            "inside" | "asked" | "overlaps" | "held" | "held-child" | "unix-connect" | "unix-own"
            | "unix-again" | "slow-connect" | "quick-connect" | "peer" | "make" | "control"
            | "change" | "abstract-own" | "abstract-lost",
            ..,
        ] => reach::run(args),
        ["own-changes" | "own-sockets" | "others-changes", ..] => own::run(args),
        ["flag-taken" | "time-out-taken" | "many-connect" | "many-servers" | "own-errors", ..] => {
            pressed::run(args)
        }
        [
            "nested" | "leaks" | "closed-stdio" | "blocked-signals" | "ignored-children" | "orphan"
            | "orphan-tree",
            ..,
        ] => parent(args),
        _ => files(args),
    }
}

/// Operations on paths.
fn files(args: &[&str]) -> io::Result<()> {
    match *args {
        ["read", path] => {
            let mut text = String::new();
            File::open(path)?.read_to_string(&mut text)?;
            print!("{text}");
            Ok(())
        }
        ["list", path] => fs::read_dir(path).map(drop),
        // Which paths can be opened: `r` to read, `w` to write.
        ["survey", ..] => {
            for path in args.iter().skip(1) {
                let read = File::open(path).is_ok();
                let write = OpenOptions::new().append(true).open(path).is_ok();
                println!("{}{}", if read { "r" } else { "-" }, if write { "w" } else { "-" });
            }
            Ok(())
        }
        ["write", path] => OpenOptions::new().append(true).open(path)?.write_all(b"x"),
        ["create", path] => OpenOptions::new().write(true).create_new(true).open(path).map(drop),
        ["truncate", path] => {
            let path = std::ffi::CString::new(path)?;
            syscall(libc::SYS_truncate, [path.as_ptr() as i64, 0, 0, 0])
        }
        ["remove", path] => fs::remove_file(path),
        ["mkdir", path] => fs::create_dir(path),
        ["rmdir", path] => fs::remove_dir(path),
        ["rename", from, to] => fs::rename(from, to),
        ["link", from, to] => fs::hard_link(from, to),
        ["symlink", to, path] => std::os::unix::fs::symlink(to, path),
        ["device", path] => {
            let path = std::ffi::CString::new(path)?;
            let null = 0o020_666;
            // Device 1, 3.
            syscall(libc::SYS_mknodat, [libc::AT_FDCWD.into(), path.as_ptr() as i64, null, 0x103])
        }
        // Nothing but zeros is what a file is to get.
        ["request", number, path] => {
            let (file, zeros) = (File::open(path)?, [0_u8; 4096]);
            let place = zeros.as_ptr() as i64;
            syscall(libc::SYS_ioctl, [file.as_raw_fd().into(), self::number(number), place, 0])
        }
        ["execute", path] => std::process::Command::new(path).status().map(drop),
        _ => Err(io::Error::other(format!("no such probe: {args:?}"))),
    }
}

fn network(args: &[&str]) -> io::Result<()> {
    match *args {
        ["socket", family, kind, protocol] => {
            syscall(libc::SYS_socket, [number(family), number(kind), number(protocol), 0])
        }
        ["socketpair", family, kind] => {
            let pair = [0_i32; 2];
            syscall(libc::SYS_socketpair, [number(family), number(kind), 0, pair.as_ptr() as i64])
        }
        ["connect", address] => TcpStream::connect(address).map(drop),
        ["bind", address] => TcpListener::bind(address).map(drop),
        ["listen-unbound"] => {
            let socket = stream_socket()?;
            syscall(libc::SYS_listen, [socket, 8, 0, 0])
        }
        ["fastopen", call, address] => fast_open(call, address.parse().unwrap()),
        ["fastopen-option"] => {
            let on = 1_i32;
            // `TCP_FASTOPEN_CONNECT` is 30.
            let level = i64::from(libc::IPPROTO_TCP);
            syscall6(
                libc::SYS_setsockopt,
                [stream_socket()?, level, 30, std::ptr::from_ref(&on) as i64, 4, 0],
            )
        }
        ["abstract-connect", name] => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&address).map(drop)
        }
        _ => unreachable!("listed in `run`"),
    }
}

fn fast_open(call: &str, address: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(address) = address else { unreachable!("tests use IPv4") };
    let mut raw = [0_u8; 16];
    raw[0] = 2;
    raw[2..4].copy_from_slice(&address.port().to_be_bytes());
    raw[4..8].copy_from_slice(&address.ip().octets());
    let (socket, text) = (stream_socket()?, b"leak");
    let (raw, text) = (raw.as_ptr() as i64, text.as_ptr() as i64);
    // `struct iovec`, then `struct msghdr` and `struct mmsghdr` over it.
    let vector = [text, 4];
    let message = [raw, 16, vector.as_ptr() as i64, 1, 0, 0, 0, 0];
    let message = message.as_ptr() as i64;
    match call {
        "sendto" => syscall6(libc::SYS_sendto, [socket, text, 4, FAST_OPEN, raw, 16]),
        "sendmsg" => syscall(libc::SYS_sendmsg, [socket, message, FAST_OPEN, 0]),
        _ => syscall(libc::SYS_sendmmsg, [socket, message, 1, FAST_OPEN]),
    }
}

/// Acts on what is outside the sandbox.
fn outside(args: &[&str]) -> io::Result<()> {
    let parent = i64::from(std::os::unix::process::parent_id());
    match *args {
        ["signal-parent"] => syscall(libc::SYS_kill, [parent, 0, 0, 0]),
        ["limit-parent"] => {
            let limit = [1_u64 << 40; 2];
            let resource = i64::from(libc::RLIMIT_CORE);
            syscall(libc::SYS_prlimit64, [parent, resource, limit.as_ptr() as i64, 0])
        }
        ["trace-parent"] => syscall(libc::SYS_ptrace, [SEIZE, parent, 0, 0]),
        ["nice-parent"] => syscall(libc::SYS_setpriority, [0, parent, 0, 0]),
        ["ioctl", request, argument] => {
            let fd = io::stdin().as_raw_fd().into();
            syscall(libc::SYS_ioctl, [fd, number(request), number(argument), 0])
        }
        // Many calls, each by its number with arguments between commas.
        ["calls", ref calls @ ..] => {
            for call in calls {
                let mut numbers = call.split(',').map(number);
                let (call, mut six) = (numbers.next().unwrap(), [0; 6]);
                six.iter_mut().zip(numbers).for_each(|(place, argument)| *place = argument);
                let error = syscall6(call, six).err().and_then(|error| error.raw_os_error());
                println!("{}", error.unwrap_or(0));
            }
            Ok(())
        }
        // A call by its bare number; arguments that are left out are zero.
        ["call", call, ref arguments @ ..] => {
            let mut six = [0; 6];
            for (place, argument) in six.iter_mut().zip(arguments) {
                *place = number(argument);
            }
            syscall6(number(call), six)
        }
        _ => unreachable!("listed in `run`"),
    }
}

/// Tells what the process finds itself with.
fn inside(args: &[&str]) -> io::Result<()> {
    match *args {
        ["env"] => {
            let variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
            for (name, value) in variables {
                println!("{}={}", name.display(), value.display());
            }
        }
        ["args", ..] => {
            for arg in std::env::args() {
                println!("{arg}");
            }
        }
        ["fds"] => {
            let is_open = |fd| syscall(libc::SYS_fcntl, [fd, libc::F_GETFD.into(), 0, 0]).is_ok();
            println!("{:?}", (0..1024).filter(|fd| is_open(*fd)).collect::<Vec<_>>());
        }
        ["stdin"] => {
            let mut text = Vec::new();
            println!("{}", io::stdin().read_to_end(&mut text)?);
        }
        ["session"] => {
            let own = rustix::process::getpid();
            println!("{}", rustix::process::getsid(None)? == own);
            println!("{}", rustix::process::getpgrp() == own);
        }
        ["own-group", fifo] => {
            use std::os::unix::process::CommandExt as _;
            let fifo = OpenOptions::new().write(true).open(fifo)?;
            let mut script = std::process::Command::new("/bin/sh");
            script.args(["-c", "echo; sleep 100"]).process_group(0).stdout(fifo);
            script.spawn()?.wait()?;
        }
        ["cwd"] => println!("{}", std::env::current_dir()?.display()),
        ["limits"] => {
            use rustix::process::{Resource, getrlimit};
            for resource in [Resource::Nproc, Resource::Cpu, Resource::Fsize, Resource::Nofile] {
                let limit = getrlimit(resource);
                println!("{:?} {:?}", limit.current, limit.maximum);
            }
        }
        _ => unreachable!("listed in `run`"),
    }
    Ok(())
}

/// `apply [block|open] DIRECTORY then PROBE...`, with `again` for a second layer first.
fn apply_and(args: &[&str]) -> io::Result<()> {
    let ["apply", network, directory, times, "then", rest @ ..] = args else {
        return Err(io::Error::other("usage"));
    };
    let mut caps = CapabilitySet::new();
    caps.allow_path(directory, Access::ReadWrite).unwrap();
    if *network == "block" {
        caps.block_network();
    }
    for _ in 0..number(times) {
        println!("{}", apply(&caps).unwrap());
    }
    run(rest)
}

/// Is the parent of a sandbox, in a state that the test's own process must not be in.
fn parent(args: &[&str]) -> io::Result<()> {
    match *args {
        ["leaks"] => leaks(),
        ["nested"] => {
            let output = shell("wc -c; echo nested").run(&system()).unwrap();
            println!("{} {}", output.exit_code, text(&output).replace('\n', " "));
            let output = shell("sleep 100").timeout(Duration::ZERO).run(&system()).unwrap();
            println!("{}", output.exit_code);
            Ok(())
        }
        ["closed-stdio", result] => {
            // Made before, so that the numbers are free for what the run opens.
            let caps = system();
            for fd in 0..3 {
                syscall(libc::SYS_close, [fd, 0, 0, 0])?;
            }
            let output = shell("echo out; echo err >&2").run(&caps).unwrap();
            fs::write(result, [output.stdout, output.stderr].concat())
        }
        ["blocked-signals"] => {
            let all = u64::MAX;
            let mask = std::ptr::from_ref(&all) as i64;
            syscall(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK.into(), mask, 0, 8])?;
            println!("{}", shell("kill -TERM $$").run(&system()).unwrap().exit_code);
            let mut after = 0_u64;
            let mask = std::ptr::from_mut(&mut after) as i64;
            syscall(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK.into(), 0, mask, 8])?;
            // The kernel never blocks these two.
            let always = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
            println!("{}", after | always == u64::MAX);
            Ok(())
        }
        ["ignored-children"] => {
            // `SIG_IGN` is 1.
            let action = [1_u64, 0, 0, 0];
            let action = action.as_ptr() as i64;
            syscall(libc::SYS_rt_sigaction, [libc::SIGCHLD.into(), action, 0, 8])?;
            println!("{}", shell("exit 7").run(&system()).unwrap().exit_code);
            println!("{}", shell("kill -TERM $$").run(&system()).unwrap().exit_code);
            Ok(())
        }
        ["orphan-tree", directory, fifo, script] => {
            let mut caps = system();
            caps.allow_path(directory, Access::ReadWrite).unwrap();
            let script = format!("exec 9>\"$0\"; echo begun >&9; {script}; echo; sleep 100");
            let mut command = shell(&script);
            command.arg(fifo).stdout(io::stdout().as_fd().try_clone_to_owned()?);
            command.run(&caps).unwrap();
            Ok(())
        }
        ["orphan", directory, fifo] => {
            let mut caps = system();
            caps.allow_path(directory, Access::ReadWrite).unwrap();
            shell("exec 1>\"$0\"; exec sleep 100").arg(fifo).run(&caps).unwrap();
            Ok(())
        }
        _ => unreachable!("listed in `run`"),
    }
}

/// Runs commands in all the ways they can end and counts what is left of them.
fn leaks() -> io::Result<()> {
    let caps = system();
    let before = fs::read_dir("/proc/self/fd")?.count();
    for _ in 0..50 {
        shell("echo x").run(&caps).unwrap();
        shell("sleep 100").timeout(Duration::ZERO).run(&caps).unwrap();
        shell("true").cwd("/nonexistent").run(&caps).unwrap_err();
        shell("true").run(&CapabilitySet::new()).unwrap_err();
    }
    let after = fs::read_dir("/proc/self/fd")?.count();
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
    let children = rustix::process::waitid(rustix::process::WaitId::All, options);
    println!("{before} {after} {:?}", children.err());
    Ok(())
}

fn stream_socket() -> io::Result<i64> {
    use rustix::net::{AddressFamily, SocketType, socket};
    use std::os::fd::IntoRawFd as _;
    Ok(socket(AddressFamily::INET, SocketType::STREAM, None)?.into_raw_fd().into())
}

fn number(text: &str) -> i64 {
    text.parse().unwrap()
}

fn syscall(call: i64, arguments: [i64; 4]) -> io::Result<()> {
    let mut six = [0; 6];
    six[..4].copy_from_slice(&arguments);
    syscall6(call, six)
}

#[expect(unsafe_code, reason = "the probes are of calls that no safe interface makes")]
fn syscall6(call: i64, args: [i64; 6]) -> io::Result<()> {
    // SAFETY: each caller passes numbers, null, or pointers to locals of the size the call wants.
    let result =
        unsafe { libc::syscall(call, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
