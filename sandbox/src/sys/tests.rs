//! The shim where the kernel cannot scope signals: there it must make do with the process group.

use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Command, ExitStatus};

use super::{Cause, Descriptors, Plan, Report, Tree, Watch, monotonic};
use crate::capability::{Access, CapabilitySet};
use crate::landlock::Landlock;
use crate::network::Judge;

/// Runs a shell script without a scope, and gives what it said once nobody held its output.
fn run_unscoped(script: &str, deadline: Option<u64>) -> (Report, Vec<u8>) {
    let mut caps = CapabilitySet::new();
    caps.allow_path("/", Access::ReadWrite).unwrap();
    let landlock = Landlock::detect().unwrap();
    let ruleset = landlock.child_ruleset(&caps, Judge::Landlock).unwrap().ruleset.unwrap();
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
        watch: Watch { can_scope: false, deadline, keeps_background: false, announces: false },
    };
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
