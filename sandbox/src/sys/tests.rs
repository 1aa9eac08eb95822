//! The shim where the kernel cannot scope signals: there it must make do with the process group.
//! And calls that wait, while signals come.

use std::ffi::{CString, c_int, c_long};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, ExitStatus};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::process::getpid;
use rustix::thread::gettid;
use seccompiler::sock_filter;

use super::{
    Answer, Cause, Descriptors, Plan, Reach, Report, Tree, Watch, answer, call, listen, monotonic,
    no_new_privileges, receive,
};
use crate::capability::{Access, CapabilitySet};
use crate::deny::Exceptions;
use crate::landlock::Landlock;
use crate::network::Judge;

/// What a shell script needs that is run without a scope: its plan, and a ruleset.
pub(super) fn shell(script: &str) -> (Plan, OwnedFd) {
    let mut caps = CapabilitySet::new();
    caps.allow_path("/", Access::ReadWrite).unwrap();
    let landlock = Landlock::detect().unwrap();
    let ruleset = landlock
        .child_ruleset(&caps, &Exceptions::default(), Judge::Landlock)
        .unwrap()
        .ruleset
        .unwrap();
    let watch =
        Watch { can_scope: false, deadline: None, keeps_background: false, announces: false };
    let plan = Plan {
        program: CString::new("/bin/sh").unwrap(),
        argv: ["sh", "-c", script].map(|word| CString::new(word).unwrap()).into(),
        envp: Vec::new(),
        cwd: None,
        is_terminal: false,
        filter: crate::filter::filter(&caps, crate::filter::Asks::Nobody).unwrap(),
        hands_over_at_once: false,
        capabilities: 0,
        own_rules: Vec::new(),
        limits: Vec::new(),
        group: None,
        ids: None,
        probe: None,
        watch,
    };
    (plan, ruleset)
}

/// A filter by which one call waits for an answer, if its first argument is this one.
pub(super) fn waits_at(number: c_long, first: u32) -> Vec<sock_filter> {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let does = |code, k, jf| sock_filter { code, jt: 0, jf, k };
    let number = u32::try_from(number).unwrap();
    vec![
        does(LOAD, 0, 0),
        does(IF_EQUAL, number, 3),
        does(LOAD, 16, 0),
        does(IF_EQUAL, first, 1),
        does(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0),
        does(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ]
}

/// Runs a shell script without a scope, and gives what it said once nobody held its output.
fn run_unscoped(script: &str, deadline: Option<u64>) -> (Report, Vec<u8>) {
    let (mut plan, ruleset) = shell(script);
    plan.watch.deadline = deadline;
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let stdio = [null.as_fd(), theirs.as_fd(), null.as_fd()];
    let fds = Descriptors { stdio, ruleset: ruleset.as_fd(), handover: None };
    let mut tree = Tree::start(plan, &fds).unwrap();
    drop(theirs);
    let report = tree.wait().unwrap();
    let mut said = Vec::new();
    ours.read_to_end(&mut said).unwrap();
    (report, said)
}

#[test]
fn without_a_scope_the_group_is_killed_and_nobody_else() {
    let mut bystander = Command::new("/bin/sleep").arg("100").spawn().unwrap();
    // Whatever is waited for too long here outlasts the test, which is killed then.
    let (report, said) = run_unscoped("sleep 100 & (sleep 100 &); echo up; exit 4", None);
    assert_eq!(said, b"up\n");
    assert_eq!((report.cause, report.is_reached), (Cause::Exit, false));
    let status: ExitStatus = std::os::unix::process::ExitStatusExt::from_raw(report.status);
    assert_eq!(status.code(), Some(4));

    let soon = monotonic() + 200_000_000;
    let (report, said) = run_unscoped("sleep 100 & echo up; sleep 100", Some(soon));
    assert_eq!((said.as_slice(), report.cause), (&b"up\n"[..], Cause::Deadline));
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// How many signals have been handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_signal: c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Has a signal handled so that it interrupts calls.
fn handle_signal(signal: c_int) {
    let handler: extern "C" fn(c_int) = handle;
    // SAFETY: all zeroes are an action without flags and mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handler changes an atomic and nothing else.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
}

#[test]
fn signals_do_not_keep_a_call_from_being_taken_and_answered() {
    const SIGNAL: c_int = libc::SIGUSR1;
    handle_signal(SIGNAL);
    let (give, listener) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let caller = thread::spawn(move || {
        no_new_privileges().unwrap();
        give.send(listen(&waits_at(libc::SYS_getpgid, 0), Reach::ThisThread).unwrap()).unwrap();
        gone.recv().unwrap();
        // SAFETY: takes a number only.
        unsafe { call(libc::SYS_getpgid, [0]) }
    });
    let listener = listener.recv().unwrap();
    let (give, thread) = mpsc::channel();
    let supervisor = thread::spawn(move || {
        give.send(gettid()).unwrap();
        let taken = receive(listener.as_fd()).unwrap();
        answer(listener.as_fd(), taken.id, Answer::Fail(libc::EDOM));
    });
    let process = getpid().as_raw_nonzero().get();
    let thread = thread.recv().unwrap().as_raw_nonzero().get();
    // Most of them come while it waits for a call.
    while HANDLED.load(Ordering::Relaxed) < 100 && !supervisor.is_finished() {
        // SAFETY: takes numbers only; the signal is handled.
        let _ = unsafe { libc::tgkill(process, thread, SIGNAL) };
        thread::yield_now();
    }
    go.send(()).unwrap();
    supervisor.join().unwrap();
    assert_eq!(caller.join().unwrap(), Err(libc::EDOM));
}
