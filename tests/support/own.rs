//! Probes of what leads through `/proc/self`: to what is the caller's own, however it is named.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timestamps, UTIME_NOW, chmod, chmodat, openat, utimensat,
};
use rustix::io::fcntl_dupfd_cloexec;

/// The first number of a descriptor that the processes around have too, for another file.
pub(super) const SHARED: i32 = 40;

pub(super) fn run(args: &[&str]) -> io::Result<()> {
    match *args {
        ["own-changes", directory] => {
            changes(directory)?;
            // A thread that is not the process's first has names of its own.
            thread::scope(|scope| scope.spawn(|| changes(directory)).join()).unwrap()
        }
        ["own-sockets", directory] => sockets(directory),
        ["others-changes", link, name] => others_changes(link, name),
        _ => unreachable!("listed in `run`"),
    }
}

/// The names that a path in the directory that is open as `directory` has beneath `/proc`.
fn names_of(directory: i32, name: &str, link: &str) -> io::Result<Vec<String>> {
    std::env::set_current_dir(format!("/proc/self/fd/{directory}"))?;
    let here = std::env::current_dir()?;
    let _ = fs::remove_file(link);
    symlink(format!("/proc/self/fd/{directory}"), link)?;
    let pid = std::process::id();
    Ok(vec![
        format!("/proc/self/fd/{directory}/{name}"),
        format!("/proc/{pid}/fd/{directory}/{name}"),
        format!("/proc/thread-self/fd/{directory}/{name}"),
        format!("//proc/./self//cwd/{name}"),
        format!("/proc/self/task/{pid}/cwd/{name}"),
        format!("/dev/fd/{directory}/{name}"),
        format!("/proc/self/root{}/{name}", here.display()),
        format!("{link}/{name}"),
    ])
}

/// Changes the mode of a file by each of its names, and looks whether it has changed.
fn changes(directory: &str) -> io::Result<()> {
    let path = format!("{directory}/own");
    let file = fcntl_dupfd_cloexec(File::create(&path)?, SHARED)?;
    let place = File::open(directory)?;
    let number = file.as_raw_fd();
    let mut names = names_of(place.as_raw_fd(), "own", "link")?;
    for names_process in ["self", "thread-self", &std::process::id().to_string()] {
        names.push(format!("/proc/{names_process}/fd/{number}"));
    }
    names.push(format!("/dev/fd/{number}"));
    let mut modes = (1..).map(|number| 0o600 + number);
    let mut changed = |what: &str, change: &dyn Fn(Mode) -> rustix::io::Result<()>| {
        let mode = modes.next().unwrap();
        change(Mode::from_raw_mode(mode))?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, mode, "by {what}");
        io::Result::Ok(())
    };
    for name in &names {
        changed(name, &|mode| chmod(name.as_str(), mode))?;
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        utimensat(CWD, name.as_str(), &times, AtFlags::empty())?;
    }
    let own = openat(CWD, "/proc/self/fd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let number = number.to_string();
    changed("a directory", &|mode| chmodat(&own, number.as_str(), mode, AtFlags::empty()))?;
    std::env::set_current_dir("/proc")?;
    let beneath = format!("self/fd/{number}");
    changed("a path from /proc", &|mode| chmod(beneath.as_str(), mode))?;
    std::env::set_current_dir(directory)
}

/// Serves in a directory, and connects by each name that the socket has.
fn sockets(directory: &str) -> io::Result<()> {
    let place = File::open(directory)?;
    std::env::set_current_dir(directory)?;
    let listener = UnixListener::bind("own")?;
    for name in names_of(place.as_raw_fd(), "own", "link")? {
        UnixStream::connect(&name).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        listener.accept()?;
    }
    // By the name that it was bound to, too.
    let other = UnixListener::bind("/proc/self/cwd/other")?;
    UnixStream::connect("other")?;
    other.accept().map(drop)
}

/// Tries to change a file by the name that it has because another process has it open, and by a
/// link to that name.
fn others_changes(link: &str, name: &str) -> io::Result<()> {
    symlink(name, link)?;
    for name in [name, link] {
        let changed = chmod(name, Mode::from_raw_mode(0o600));
        assert_eq!(changed, Err(rustix::io::Errno::ACCESS), "{name}");
    }
    Ok(())
}
