//! Probes that press a supervisor: by what they share with it, and by numbers.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};

use super::reach::own_server;
use super::syscall;

/// How many clients wait at once: more than a supervisor looks after.
const CLIENTS: usize = 90;
/// Nobody's descriptor.
const CLOSED: i64 = 999;

pub(super) fn run(args: &[&str]) -> io::Result<()> {
    match *args {
        ["flag-taken", directory] => flag_taken(directory),
        ["time-out-taken", directory] => time_out_taken(directory),
        ["many-connect", directory] => many_connect(directory),
        ["many-servers", directory, many] => many_servers(directory, many.parse().unwrap()),
        ["own-errors", directory] => own_errors(directory),
        _ => unreachable!("listed in `run`"),
    }
}

/// Connects to a server of its own that has no room, while threads take away the flag by which the
/// connection would not wait; and serves meanwhile.
fn flag_taken(directory: &str) -> io::Result<()> {
    // Nobody else's: a supervisor may have the socket for a moment after its program has ended.
    let name = &*format!("nono-flag-{directory}");
    let server = UnixListener::bind_addr(&Name::from_abstract_name(name)?)?;
    listen(&server, 0)?;
    let address = server.local_addr()?;
    let _first = UnixStream::connect_addr(&address)?;
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let second = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    // Neither ends before the process does.
    for _ in 0..3 {
        let second = second.try_clone()?;
        thread::spawn(move || while fcntl_setfl(&second, OFlags::empty()).is_ok() {});
    }
    thread::spawn(move || connect(&second, &address));
    for turn in 0..5 {
        own_server(&format!("{directory}/{turn}"))?;
    }
    Ok(())
}

/// Begins to listen at a socket whose name leads to another, while a thread takes away the
/// time-out by which nobody would wait for a client there; and serves afterwards.
fn time_out_taken(directory: &str) -> io::Result<()> {
    let path = format!("{directory}/one");
    let _other = UnixListener::bind(format!("{directory}/other"))?;
    let server = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    bind(&server, &SocketAddrUnix::new(&*path)?)?;
    fs::remove_file(&path)?;
    fs::hard_link(format!("{directory}/other"), &path)?;
    let same = server.try_clone()?;
    thread::spawn(move || while set_socket_timeout(&same, Timeout::Recv, None).is_ok() {});
    listen(&server, 1)?;
    own_server(&format!("{directory}/own"))
}

/// Has many clients wait for a place in the queue of its server, of which none is turned away.
fn many_connect(directory: &str) -> io::Result<()> {
    let path = format!("{directory}/full");
    let server = UnixListener::bind(&path)?;
    listen(&server, 0)?;
    let begin = Barrier::new(CLIENTS + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    UnixStream::connect(&path)
                })
            })
            .collect();
        begin.wait();
        for turn in 0..5 {
            own_server(&format!("{directory}/{turn}"))?;
        }
        for _ in 0..CLIENTS {
            server.accept()?;
        }
        clients.into_iter().try_for_each(|client| client.join().unwrap().map(drop))
    })
}

/// Listens at so many paths, one after the other, says so, and waits for a word.
fn many_servers(directory: &str, many: usize) -> io::Result<()> {
    for number in 0..many {
        UnixListener::bind(Path::new(directory).join(number.to_string()))?;
    }
    println!("made");
    io::stdin().read_exact(&mut [0])
}

/// Changes what is not there, and what has no name.
fn own_errors(directory: &str) -> io::Result<()> {
    let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    let relative = c"file".as_ptr() as i64;
    fs::write(format!("{directory}/file"), "")?;
    for (number, arguments) in [
        (libc::SYS_fchmod, [CLOSED, 0o600, 0, 0]),
        (libc::SYS_utimensat, [CLOSED, 0, 0, 0]),
        (libc::SYS_fchmodat, [CLOSED, relative, 0o600, 0]),
        (libc::SYS_fchownat, [CLOSED, relative, -1, -1]),
    ] {
        assert_eq!(errno(syscall(number, arguments)), Some(libc::EBADF), "{number}");
    }
    std::env::set_current_dir(directory)?;
    assert_eq!(
        errno(syscall(libc::SYS_fchmodat, [CLOSED, c"".as_ptr() as i64, 0o600, 0])),
        Some(libc::ENOENT)
    );
    let absolute = std::ffi::CString::new(format!("{directory}/file"))?;
    syscall(libc::SYS_fchmodat, [CLOSED, absolute.as_ptr() as i64, 0o600, 0])?;
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(b"x")?;
    let memory = memfd_create(c"own", MemfdFlags::CLOEXEC)?;
    let (socket, _other) = UnixStream::pair()?;
    for own in [reader.as_fd(), memory.as_fd(), socket.as_fd()] {
        rustix::fs::fchmod(own, rustix::fs::Mode::RWXU)?;
        let mode = rustix::fs::fstat(own)?.st_mode;
        assert_eq!(mode & 0o777, 0o700, "{}", own.as_raw_fd());
    }
    Ok(())
}
