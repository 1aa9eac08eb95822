//! `apply` in a process with other threads: all are restricted, or none.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::process::Command;

use tempfile::tempdir;

/// Runs a scenario of `support/threads.rs` in a process of its own, with a file that is granted
/// to nobody, and gives what it printed.
fn threads(scenario: &str) -> String {
    let dir = tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let args = ["threads", scenario, secret.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_probe")).args(args).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    printed.trim_end().trim_end_matches("ok").trim_end().to_owned()
}

/// How many domains there are with this many threads: before Landlock ABI 8, one for each.
fn domains(threads: usize) -> usize {
    let is_shared =
        ["ABI 8", "ABI 9"].iter().any(|abi| nono_sandbox::support().details.contains(abi));
    if is_shared { 1 } else { threads }
}

/// Whether a thread that cannot be told was restricted by the kernel itself: from Landlock ABI 8 on,
/// if there is nothing else for each thread to give up.
fn is_restricted_anyway(said: &str) -> bool {
    domains(2) == 1 && said.starts_with("Ok(")
}

#[test]
fn every_thread_is_restricted_wherever_it_waits() {
    let expected = format!("{} domains, here false; main false, others 0", domains(6));
    assert_eq!(threads("waiting"), expected);
}

#[test]
fn any_thread_can_apply() {
    let expected = format!("{} domains, here false; main false, others 0", domains(7));
    assert_eq!(threads("from-a-thread"), expected);
}

#[test]
fn two_threads_can_apply_at_once() {
    let said = threads("at-once");
    assert_eq!(said.matches("domains, here false").count(), 2, "{said}");
    assert!(said.ends_with("; main false, others 0"), "{said}");
}

#[test]
fn the_threads_are_found_again_when_proc_is_out_of_reach() {
    let one = format!("{} domains, here false", domains(6));
    assert_eq!(threads("twice"), format!("{one}; {one}; main false, others 0"));
}

#[test]
fn many_threads_are_restricted() {
    assert_eq!(threads("many"), format!("{} domains, 0 free", domains(201)));
}

#[test]
fn threads_made_meanwhile_do_not_slip_through() {
    for _ in 0..5 {
        assert_eq!(threads("churn"), "0 free");
    }
}

#[test]
fn a_thread_that_hears_no_signal_keeps_all_others_unrestricted() {
    let said = threads("deaf");
    let is_held = is_restricted_anyway(&said) && said.ends_with("\nfalse false 0");
    assert!(said == "deaf false\ntrue true 5" || is_held, "{said}");
}

#[test]
fn a_thread_of_the_kernel_is_told_from_others() {
    let said = threads("ring");
    let is_left_out = said.starts_with("left out");
    assert!(said == "true true true" || is_left_out || is_restricted_anyway(&said), "{said}");
}

#[test]
fn the_first_thread_may_have_ended() {
    let said = threads("leaderless");
    assert!(said.ends_with("domains, here false; others 0"), "{said}");
}

#[test]
fn no_thread_keeps_a_capability_or_lacks_the_filter() {
    let said = threads("capabilities");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(lines[0], lines[1]);
    let kept: u64 = [0, 1, 3, 4, 5, 6, 7, 10, 31].into_iter().map(|number| 1 << number).sum();
    let effective = lines[0].split(' ').next().unwrap().trim_start_matches("CapEff:");
    assert_eq!(u64::from_str_radix(effective, 16).unwrap() & !kept, 0);
    assert!(lines[0].contains("NoNewPrivs:1 Seccomp:2 Seccomp_filters:1"), "{said}");
}

#[test]
fn one_layer_too_many_is_refused_by_all_threads() {
    let said = threads("layers");
    assert!(
        said.starts_with("17 failed to enter the Landlock domain; the sandbox was not"),
        "{said}"
    );
    assert!(said.ends_with("others 5"), "{said}");
}
