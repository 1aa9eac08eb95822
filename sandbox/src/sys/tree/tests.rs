//! Memory that a shim and its child run in, when the shim has ended before its child.

use std::fs::File;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::thread;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, recvmsg};

use super::*;
use crate::limits::Limits;
use crate::sys::tests::{shell, waits_at};
use crate::sys::{Answer, answer, is_waiting, receive};

/// Takes the descriptor at which calls wait, when one does.
fn take_listener(line: &OwnedFd) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(line, &mut [IoSliceMut::new(&mut [0])], &mut control, flags).unwrap();
    let message = control.drain().next();
    let Some(RecvAncillaryMessage::ScmRights(mut fds)) = message else { panic!("no descriptor") };
    fds.next().unwrap()
}

/// Whether the memory of a launch is kept for who may run in it.
fn is_kept(launch: usize) -> bool {
    let ending = ENDING.lock().unwrap();
    ending.iter().any(|running| ptr::from_ref(&*running.launch) as usize == launch)
}

#[test]
fn memory_is_kept_for_a_child_that_did_not_follow_its_killed_shim() {
    let (mut plan, ruleset) = shell("echo began");
    // There the child stands still: before the shim's death is its own.
    plan.filter = waits_at(libc::SYS_prctl, libc::PR_SET_PDEATHSIG.cast_unsigned());
    let kind = SocketType::DGRAM;
    let (line, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (mut ours, output) = std::io::pipe().unwrap();
    let stdio = [null.as_fd(), output.as_fd(), null.as_fd()];
    let (ruleset, handover) = (ruleset.as_fd(), Some(theirs.as_fd()));
    let mut tree = Tree::start(plan, &Descriptors { stdio, ruleset, handover }).unwrap();
    drop(output);
    let listener = take_listener(&line);
    let call = receive(listener.as_fd()).unwrap();

    let launch = ptr::from_ref(&*tree.running.as_ref().unwrap().launch) as usize;
    pidfd_send_signal(&tree.running.as_ref().unwrap().pidfd, Signal::KILL).unwrap();
    assert!(matches!(tree.wait(), Err(Ended::Loose)));
    sweep();
    assert!(is_waiting(listener.as_fd(), call.id) && is_kept(launch));

    // Its call fails, and with it all that it was to do.
    answer(listener.as_fd(), call.id, Answer::Fail(libc::EPERM));
    let mut said = Vec::new();
    ours.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"");
    // Somebody else may be at it.
    while is_kept(launch) {
        sweep();
        thread::yield_now();
    }
}

/// Starts a script whose output is a pipe, and waits until it has said "up".
fn start(plan: Plan, ruleset: &OwnedFd) -> (Tree, std::io::PipeReader) {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (mut ours, output) = std::io::pipe().unwrap();
    let stdio = [null.as_fd(), output.as_fd(), null.as_fd()];
    let fds = Descriptors { stdio, ruleset: ruleset.as_fd(), handover: None };
    let tree = Tree::start(plan, &fds).unwrap();
    let mut said = [0; 3];
    ours.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"up\n");
    (tree, ours)
}

/// One that holds its output for longer than any test may take.
const FORKING: &str = "sleep 100000 & echo up; wait";

#[test]
fn what_a_killed_shim_has_left_ends_by_its_group() {
    for is_dropped in [false, true] {
        let (mut plan, ruleset) = shell(FORKING);
        plan.group = Group::for_program(&Limits::default(), false);
        if plan.group.as_ref().and_then(Group::kill).is_none() {
            // None is to be had here.
            return;
        }
        let (mut tree, mut ours) = start(plan, &ruleset);
        let running = tree.running.as_ref().unwrap();
        pidfd_send_signal(&running.pidfd, Signal::KILL).unwrap();
        if is_dropped {
            assert!(running.ends_soon());
            drop(tree);
        } else {
            assert!(matches!(tree.wait(), Err(Ended::Lost(libc::ESRCH))));
        }
        // Whoever is left of its tree holds this open.
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_stopped_shim_is_let_end_its_tree() {
    let (plan, ruleset) = shell(FORKING);
    let (mut tree, mut ours) = start(plan, &ruleset);
    pidfd_send_signal(&tree.running.as_ref().unwrap().pidfd, Signal::STOP).unwrap();
    tree.abandon();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    assert_eq!(tree.wait().unwrap().cause, Cause::Killed);
}
