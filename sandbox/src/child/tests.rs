//! Ends that are late, and shims that end before their time.

use std::fs::File;
use std::io::Read as _;

use rustix::io::retry_on_intr;
use rustix::process::{Signal, pidfd_send_signal};

use super::*;
use crate::capability::{Access, CapabilitySet};
use crate::exec::Command;
use crate::privilege::KILL;
use crate::run::Run;
use crate::stdio::Stdio;
use crate::sys::keep_capabilities;

/// A program that has begun, with a pipe for its output.
fn spawn(words: &[&str]) -> Child {
    let mut caps = CapabilitySet::new();
    caps.allow_path("/", Access::Read).unwrap();
    let mut command = Command::new("/usr/bin/env");
    command.env("PATH", "/usr/bin:/bin").args(words).stdout(Stdio::Pipe);
    let mut child = command.spawn(&caps).unwrap();
    child.wait_begun().unwrap();
    child
}

fn is_overdue(error: &Error) -> bool {
    let (Error::Watch { source, .. } | Error::LeftRunning { source }) = error else {
        return false;
    };
    source.kind() == io::ErrorKind::TimedOut
}

/// Looks after a child whose end is overdue, without waiting.
fn advance_late(mut child: Child) -> Result<Option<Output>, Error> {
    child.overdue = Some(Instant::now());
    Run::new(child, 100, None).advance(Some(Duration::ZERO))
}

#[test]
fn signal_zero_is_none() {
    let mut child = spawn(&["sleep", "100"]);
    child.signal(0);
    child.signal(libc::SIGTERM.unsigned_abs().try_into().unwrap());
    assert_eq!(child.wait().unwrap().signal, Some(libc::SIGTERM));
}

#[test]
fn an_end_is_found_however_late() {
    let child = spawn(&["echo", "hi"]);
    let mut ended = [PollFd::from_borrowed_fd(child.ended_fd().unwrap(), PollFlags::IN)];
    retry_on_intr(|| poll(&mut ended, None)).unwrap();
    let output = advance_late(child).unwrap().unwrap();
    assert_eq!((output.exit_code, output.stdout), (0, b"hi\n".to_vec()));
}

/// A program that has started another, which holds the output for longer than any test may take.
fn spawn_forking() -> (Child, File) {
    let child = spawn(&["sh", "-c", "sleep 100000 & echo up; wait"]);
    let mut output = File::from(child.stdout.as_ref().unwrap().try_clone().unwrap());
    assert!(is_readable(output.as_fd(), None).unwrap());
    assert_eq!(output.read(&mut [0; 3]).unwrap(), 3);
    (child, output)
}

#[test]
fn an_end_that_is_overdue_is_given_up() {
    let (child, mut output) = spawn_forking();
    pidfd_send_signal(child.ended_fd().unwrap(), Signal::STOP).unwrap();
    assert!(is_overdue(&advance_late(child).unwrap_err()));
    // Nobody of the tree is left to write.
    is_readable(output.as_fd(), None).unwrap();
    assert_eq!(output.read(&mut [0; 3]).unwrap(), 0);
}

#[test]
fn a_shim_that_was_killed_is_told_of() {
    // What goes on ends by itself when nobody reads what it says.
    let mut child = spawn(&["sh", "-c", "while echo up; do sleep 1; done & wait"]);
    assert!(is_readable(child.stdout.as_ref().unwrap().as_fd(), None).unwrap());
    pidfd_send_signal(child.ended_fd().unwrap(), Signal::KILL).unwrap();
    // Where signals are scoped a program without limits has no control group.
    match (crate::landlock::Landlock::detect().unwrap().scopes_signals(), child.wait()) {
        (true, Err(Error::LeftRunning { .. }))
        | (false, Err(Error::LeftRunning { .. } | Error::Watch { .. })) => {}
        (_, ended) => panic!("{ended:?}"),
    }
}

#[test]
fn whom_no_signal_reaches_is_not_begun_or_ended_by_a_group() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let run = |uid| {
        keep_capabilities(!KILL).unwrap();
        let mut caps = CapabilitySet::new();
        caps.allow_path("/", Access::Read).unwrap();
        let mut command = Command::new("/usr/bin/env");
        command.args(["sleep", "100000"]).timeout(Duration::from_millis(100));
        command.env("PATH", "/usr/bin:/bin").ids(uid, 65534).run(&caps)
    };
    match std::thread::spawn(move || run(65534)).join().unwrap() {
        Err(Error::OutOfReach { uid: 65534 }) => {}
        ended => {
            let output = ended.unwrap();
            assert!(output.timed_out && !output.left_running);
        }
    }
    // The caller's own are.
    let output = std::thread::spawn(move || run(0)).join().unwrap().unwrap();
    assert!(output.timed_out && !output.left_running);
}

#[test]
fn who_waits_for_a_stopped_shim_is_told_that_the_end_is_overdue() {
    let mut child = spawn(&["sleep", "100"]);
    pidfd_send_signal(child.ended_fd().unwrap(), Signal::STOP).unwrap();
    child.kill();
    child.overdue = Some(Instant::now());
    assert!(is_overdue(&child.wait().unwrap_err()));
}

#[test]
fn who_waits_for_the_beginning_is_told_that_the_end_is_overdue() {
    let mut child = spawn(&["sleep", "100"]);
    // As before it has said so.
    child.number = None;
    child.overdue = Some(Instant::now());
    assert!(is_overdue(&child.wait_begun().unwrap_err()));
}
