//! Probes of what a sealed network still reaches, and a parent that seals one by what it is told.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use nono_sandbox::policy::check_overlaps;
use nono_sandbox::{Access, CapabilitySet, Command, PathAnswer, Query, apply};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use support::sandboxed::{allow, system, text};

pub(super) fn run(args: &[&str]) -> io::Result<()> {
    match *args {
        ["inside", ref rest @ ..] => inside(rest),
        ["asked", ref rest @ ..] => {
            asked(rest);
            Ok(())
        }
        ["overlaps", ref rest @ ..] => overlaps(rest),
        ["held", ref rest @ ..] => {
            held(rest, super::run);
            Ok(())
        }
        ["held-child", ref rest @ ..] => {
            held(rest, as_child);
            Ok(())
        }
        ["unix-connect", path] => {
            let mut stream = UnixStream::connect(path)?;
            stream.write_all(b"x")
        }
        ["unix-own", path] => own_server(path),
        ["unix-again", path] => listen_again(path),
        ["abstract-own", name] => own_name(name),
        ["abstract-lost", name] => lost_name(name),
        ["quick-connect", address] => quick_connect(address.parse().unwrap()),
        ["slow-connect", path, own] => slow_connect(path, own),
        ["make", kind, path] => make(kind, path),
        ["control", path] => {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
            rustix::termios::tcgetwinsize(file).map(drop).map_err(Into::into)
        }
        ["change", what, path] => change(what, path),
        ["peer", address] => {
            let mut text = String::new();
            TcpStream::connect(address)?.read_to_string(&mut text)?;
            print!("{text}");
            Ok(())
        }
        _ => unreachable!("listed in `run`"),
    }
}

/// `inside WHAT=VALUE... then PROBE...`: runs a probe in a sandbox of these grants.
fn inside(args: &[&str]) -> io::Result<()> {
    let (caps, probe) = granted(args);
    match Command::new(std::env::current_exe()?).args(probe).run(&caps) {
        Ok(output) => println!("{}", text(&output)),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// `asked WHAT=VALUE... then PATH...`: tells whether these grants would let paths be read.
fn asked(args: &[&str]) {
    let (caps, paths) = granted(args);
    let query = Query::new(caps);
    for path in paths {
        let answer = query.path(Path::new(path), Access::Read);
        println!("{}", matches!(answer, PathAnswer::Allowed(_)));
    }
}

/// `overlaps WHAT=VALUE... then PATH...`: tells whether these grants reach paths.
fn overlaps(args: &[&str]) -> io::Result<()> {
    let (caps, paths) = granted(args);
    let denied: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    check_overlaps(&denied, &caps).map_err(io::Error::other)
}

/// `held WHAT=VALUE... then PROBE...`: holds this process to these grants and runs a probe in it.
fn held(args: &[&str], run: impl FnOnce(&[&str]) -> io::Result<()>) {
    let (caps, probe) = granted(args);
    match apply(&caps) {
        Ok(report) if probe == ["report"] => println!("{report}"),
        Ok(_) => super::say(run(probe)),
        Err(error) => println!("{error}"),
    }
}

/// Runs a probe in a child.
fn as_child(probe: &[&str]) -> io::Result<()> {
    let output = std::process::Command::new(std::env::current_exe()?).args(probe).output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn granted<'a>(args: &'a [&'a str]) -> (CapabilitySet, &'a [&'a str]) {
    let at = args.iter().position(|arg| *arg == "then").unwrap();
    let mut caps = system();
    allow(&mut caps, std::env::current_exe().unwrap(), Access::Read);
    for grant in &args[..at] {
        let (what, value) = grant.split_once('=').unwrap();
        add(&mut caps, what, value);
    }
    (caps, &args[at + 1..])
}

fn add(caps: &mut CapabilitySet, what: &str, value: &str) {
    let port = || value.parse().unwrap();
    match what {
        "block" => caps.block_network(),
        "proxy" => caps.proxy_only(value.parse().unwrap()),
        "connect" => caps.allow_tcp_connect_port(port()).unwrap(),
        "bind" => caps.allow_bind_port(port()).unwrap(),
        "localhost" => caps.allow_localhost_port(port()).unwrap(),
        "unix" => caps.allow_unix_socket(value).unwrap(),
        "read" => allow(caps, value, Access::Read),
        "write" => allow(caps, value, Access::ReadWrite),
        "only-write" => allow(caps, value, Access::Write),
        "no-exec" => caps.allow_path_no_exec(value, Access::ReadWrite).unwrap(),
        "deny" => caps.deny_path(value).unwrap(),
        "container" => forbid_taking_descriptors().unwrap(),
        "less" => caps.accept_less(),
        "hold" => hold(value).unwrap(),
        _ => unreachable!("no such grant: {what}"),
    }
}

/// Keeps a file open, for as long as this process is there, by a number that is known.
fn hold(path: &str) -> io::Result<()> {
    let held = rustix::io::fcntl_dupfd_cloexec(std::fs::File::open(path)?, super::own::SHARED)?;
    let _ = held.into_raw_fd();
    Ok(())
}

/// Does to the calling process what containers do to theirs: no descriptor of another process can
/// be taken (`pidfd_getfd`).
fn forbid_taking_descriptors() -> io::Result<()> {
    // Instructions of the filter: code, jump if true, jump if false, operand.
    let instruction = |code: u64, jump: u64, operand: u64| code | jump << 24 | operand << 32;
    let call = u64::try_from(libc::SYS_pidfd_getfd).unwrap();
    let program = [
        instruction(0x20, 0, 0),
        instruction(0x15, 1, call),
        instruction(0x06, 0, 0x0005_0001),
        instruction(0x06, 0, 0x7FFF_0000),
    ];
    let description = [i64::try_from(program.len()).unwrap(), program.as_ptr() as i64];
    super::syscall(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 1, 0, 0])?;
    let (mode, description) = (i64::from(libc::SECCOMP_SET_MODE_FILTER), description.as_ptr());
    super::syscall(libc::SYS_seccomp, [mode, 0, description as i64, 0])
}

/// Changes something about a file that is not its content.
fn change(what: &str, path: &str) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Mode, Timestamps, XattrFlags};
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    Ok(match what {
        "mode" => rustix::fs::chmod(path, Mode::from_raw_mode(0o700)),
        "owner" => rustix::fs::chown(path, Some(rustix::process::geteuid()), None),
        "times" => {
            let times = Timestamps { last_access: now, last_modification: now };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())
        }
        _ => rustix::fs::setxattr(path, "user.x", b"x", XattrFlags::empty()),
    }?)
}

/// Makes what is no plain file.
fn make(kind: &str, path: &str) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let (kind, device) = match kind {
        "fifo" => (FileType::Fifo, 0),
        "socket" => (FileType::Socket, 0),
        // The null device, so that one that is made by mistake does no harm.
        "character" => (FileType::CharacterDevice, makedev(1, 3)),
        "block" => (FileType::BlockDevice, makedev(1, 3)),
        _ => (FileType::RegularFile, 0),
    };
    Ok(mknodat(CWD, path, kind, Mode::RUSR, device)?)
}

/// Serves at a name, and has a child of its own connect to it.
fn own_name(name: &str) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&Name::from_abstract_name(name)?)?;
    let own = std::env::current_exe()?;
    let child = std::process::Command::new(own).args(["abstract-connect", name]).output()?;
    assert_eq!(child.stdout, b"ok\n");
    let stream = UnixStream::connect_addr(&Name::from_abstract_name(name)?)?;
    drop((listener.accept()?, listener.accept()?, stream));
    Ok(())
}

/// Serves at a name, gives it up, says so, and connects to it when told to.
fn lost_name(name: &str) -> io::Result<()> {
    let address = Name::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address)?;
    drop(listener);
    println!("free");
    io::stdin().read_line(&mut String::new())?;
    UnixStream::connect_addr(&address).map(drop)
}

/// Serves at a path and connects to itself.
pub(super) fn own_server(path: &str) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let server = thread::spawn(move || -> io::Result<u8> {
        let mut byte = [0];
        listener.accept()?.0.read_exact(&mut byte)?;
        Ok(byte[0])
    });
    // By a path from the working directory, if there is one.
    std::env::set_current_dir(Path::new(path).parent().unwrap())?;
    let mut stream = UnixStream::connect(Path::new(path).file_name().unwrap())?;
    stream.write_all(b"x")?;
    assert_eq!(server.join().unwrap()?, b'x');
    Ok(())
}

/// Begins to listen once more, as event loops do that are given a server, while a client waits.
fn listen_again(path: &str) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let mut client = UnixStream::connect(path)?;
    client.write_all(b"x")?;
    rustix::net::listen(&listener, 8)?;
    listener.set_nonblocking(true)?;
    let mut byte = [0];
    listener.accept()?.0.read_exact(&mut byte)?;
    assert_eq!(byte, *b"x");
    // It is reached as before.
    UnixStream::connect(path).map(drop)
}

/// Connects without blocking, as event loops do.
fn quick_connect(address: SocketAddr) -> io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)], None)?;
            rustix::net::sockopt::socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    // What the socket was before, it still is.
    let flags = rustix::fs::fcntl_getfl(&socket)?;
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    rustix::net::getpeername(&socket)?;
    println!("{}", socket.as_raw_fd() > 2);
    Ok(())
}

/// Blocks in a connection to a server with no room left, while another thread connects to its
/// own.
fn slow_connect(full: &str, own: &str) -> io::Result<()> {
    let full = full.to_owned();
    thread::spawn(move || {
        let mut held = Vec::new();
        // Each takes a place of the queue; the last waits for one.
        loop {
            held.push(UnixStream::connect(&full).unwrap());
        }
    });
    for turn in 0..20 {
        own_server(&format!("{own}/{turn}"))?;
    }
    Ok(())
}
