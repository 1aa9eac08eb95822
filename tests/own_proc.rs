//! What is named by `/proc/self` is the caller's own, whoever makes the call for it: the same
//! number is another file to the process that judges.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use support::sandboxed::{User, run_as};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// Who is in a sandbox, by what way, with which limit of the network; with the last, nobody judges.
fn cases() -> impl Iterator<Item = (User, &'static str, &'static str)> {
    let ways = ["inside", "held", "held-child"];
    let networks = ["proxy=127.0.0.1:9", "block=", "less="];
    User::ALL.into_iter().flat_map(move |user| {
        ways.into_iter().flat_map(move |way| networks.map(move |network| (user, way, network)))
    })
}

/// A directory that everybody may change, with a file that nobody changes.
fn place() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "").unwrap();
    for (path, mode) in [(dir.path(), 0o777), (&victim, 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    (dir, victim)
}

fn is_unchanged(victim: &Path) -> bool {
    fs::metadata(victim).unwrap().permissions().mode() & 0o777 == 0o666
}

/// What a probe says that may change a directory. Whoever makes its calls has the victim open.
fn inside(user: User, grants: &[&str], victim: &Path, probe: &[&str]) -> String {
    let directory = victim.parent().unwrap().display();
    let (hold, write) = (format!("hold={}", victim.display()), format!("write={directory}"));
    let (way, grants) = grants.split_first().unwrap();
    let all = [&[way, hold.as_str(), &write], grants, &["then"], probe].concat();
    run_as(user, PROBE, &all)
}

/// Has `probe` do its work in each case; the file that nobody changes stays as it is.
fn each_case(probe: &str) {
    for (user, way, network) in cases() {
        let (dir, victim) = place();
        let probe = [probe, dir.path().to_str().unwrap()];
        let said = inside(user, &[way, network], &victim, &probe);
        assert!(said.starts_with("ok"), "{way} {network} {user:?}: {said}");
        assert!(is_unchanged(&victim), "{way} {network} {user:?}");
    }
}

#[test]
fn changes_are_of_the_callers_own_files() {
    each_case("own-changes");
}

#[test]
fn own_sockets_are_reached_by_every_name() {
    each_case("own-sockets");
}

#[test]
fn what_another_process_has_open_is_not_reached() {
    for user in User::ALL {
        for network in ["proxy=127.0.0.1:9", "block="] {
            let (dir, victim) = place();
            let held = File::open(&victim).unwrap();
            let name = format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd());
            let link = dir.path().join("link");
            let probe = ["others-changes", link.to_str().unwrap(), &name];
            let said = inside(user, &["inside", network], &victim, &probe);
            assert_eq!(said, "ok\nok", "{network} {user:?}");
            assert!(is_unchanged(&victim), "{network} {user:?}");
        }
    }
}
