//! Denied paths within grants: kept out by granting around them, or refused.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use nono_sandbox::policy::check_overlaps;
use nono_sandbox::{
    Access, CapabilitySet, DenyFault, Error, NetworkAnswer, PathAnswer, Query, Stdio,
};
use support::isolated;
use support::sandboxed::{User, allow, run_as, run_probe, shell, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const DENIED: &str = "13\nok";
const OK: &str = "ok\nok";

/// A home with what is secret in it, what is not, and links to both.
fn home() -> TempDir {
    let home = tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    for directory in ["keys/deep", "work/src", "config"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for file in ["keys/id", "keys/deep/id", "work/src/main", "config/token", "config/theme", "note"]
    {
        fs::write(at(file), "x").unwrap();
    }
    symlink(at("keys/id"), at("work/link")).unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    home
}

fn path(home: &Path, name: &str) -> String {
    home.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_denied_path_is_left_out_of_a_grant_to_read() {
    let home = home();
    let at = |name: &str| path(home.path(), name);
    let grants = [
        format!("read={}", home.path().display()),
        format!("deny={}", at("keys")),
        format!("deny={}", at("config/token")),
        format!("deny={}", at("work/missing")),
    ];
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    for user in User::ALL {
        let inside = |probe: &[&str]| {
            run_as(user, PROBE, &[&["inside"], &grants[..], &["then"], probe].concat())
        };
        for secret in ["keys/id", "keys/deep/id", "config/token", "work/link", "config/../keys/id"]
        {
            assert_eq!(inside(&["read", &at(secret)]), DENIED, "{secret}");
        }
        // Neither its names nor those beside it: the right to these would reach in.
        for directory in ["keys", "keys/deep", ""] {
            assert_eq!(inside(&["list", &at(directory)]), DENIED, "{directory}");
        }
        for open in ["note", "work/src/main", "config/theme"] {
            assert!(inside(&["read", &at(open)]).ends_with(OK), "{open}");
        }
        // A denied file does not hide its neighbours' names, nor does one that is not there.
        for directory in ["work", "work/src", "config"] {
            assert_eq!(inside(&["list", &at(directory)]), OK, "{directory}");
        }
    }
    // What comes later is not granted, least of all under a denied name.
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    caps.deny_path(at("work/missing")).unwrap();
    fs::write(at("work/missing"), "x").unwrap();
    let said = run_probe(PROBE, &["read", &at("work/missing")], &caps).unwrap();
    assert_eq!(said.stdout, b"13\n");
}

#[test]
fn questions_are_answered_as_the_kernel_does() {
    let home = home();
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    for denied in ["keys", "config/token"] {
        caps.deny_path(home.path().join(denied)).unwrap();
    }
    let query = Query::new(caps);
    let table = [
        ("keys", false),
        ("keys/id", false),
        ("", false),
        ("config/token", false),
        ("config", true),
        ("config/theme", true),
        ("work", true),
        ("note", true),
    ];
    for (name, expected) in table {
        let answer = query.path(&home.path().join(name), Access::Read);
        assert_eq!(matches!(answer, PathAnswer::Allowed(_)), expected, "{name}: {answer:?}");
        let operation = if home.path().join(name).is_dir() { "list" } else { "read" };
        let said = run_probe(PROBE, &[operation, &path(home.path(), name)], query.caps()).unwrap();
        assert_eq!(text(&said).ends_with("ok"), expected, "{name}");
    }
}

#[test]
fn a_denied_file_is_not_granted_by_another_name() {
    let home = home();
    let (secret, link) = (home.path().join("config/token"), home.path().join("config/copy"));
    fs::hard_link(&secret, &link).unwrap();
    let reads = |caps: &CapabilitySet, path: &Path| {
        text(&run_probe(PROBE, &["read", path.to_str().unwrap()], caps).unwrap())
    };
    // A rule on the other name would be one on the file.
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    caps.deny_path(&secret).unwrap();
    assert!(reads(&caps, &secret).ends_with("13"));
    assert!(reads(&caps, &home.path().join("config/theme")).ends_with("ok"));

    let mut caps = system();
    caps.allow_file(&link, Access::Read).unwrap();
    caps.deny_path(&secret).unwrap();
    assert_eq!(fault_of(&caps), DenyFault::OtherName);
    assert!(matches!(Query::new(caps).path(&link, Access::Read), PathAnswer::Refused(_)));
}

#[test]
fn a_denied_directory_is_not_granted_where_it_is_mounted_again() {
    isolated("a_denied_directory_is_not_granted_where_it_is_mounted_again", || {
        let (home, again) = (home(), tempdir().unwrap());
        bind(home.path(), again.path());
        for granted in ["", "keys", "keys/deep"] {
            let mut caps = system();
            caps.allow_path(again.path().join(granted), Access::Read).unwrap();
            let denied = home.path().join("keys");
            assert!(check_overlaps(std::slice::from_ref(&denied), &caps).is_err(), "{granted}");
            caps.deny_path(denied).unwrap();
            assert_eq!(fault_of(&caps), DenyFault::OtherName, "{granted}");
        }
    });
}

#[test]
fn a_denied_path_is_left_out_where_it_is_mounted_from_and_mounted_again() {
    isolated("a_denied_path_is_left_out_where_it_is_mounted_from_and_mounted_again", || {
        let (source, again) = (home(), tempdir().unwrap());
        let at = |name: &str| source.path().join(name);
        fs::create_dir_all(at("keys/deep/inner")).unwrap();
        fs::write(at("keys/deep/inner/id"), "x").unwrap();
        bind(&at("keys"), again.path());
        for (what, place) in [("keys/deep", "work/whole"), ("keys/deep/inner", "work/part")] {
            fs::create_dir(at(place)).unwrap();
            bind(&at(what), &at(place));
        }
        let denied = again.path().join("deep");
        let mut caps = system();
        caps.allow_path(source.path(), Access::Read).unwrap();
        assert!(check_overlaps(std::slice::from_ref(&denied), &caps).is_err());
        caps.deny_path(&denied).unwrap();
        // Not there yet.
        caps.deny_path(again.path().join("none")).unwrap();
        assert!(check_overlaps(std::slice::from_ref(&denied), &caps).is_ok());
        let query = Query::new(caps.clone());
        let secrets = ["keys/deep/id", "work/whole/id", "work/part/id", "work/whole/inner/id"];
        let open = ["keys/id", "note", "work/src/main"];
        for (names, said) in [(&secrets[..], "13"), (&open[..], "ok")] {
            for name in names {
                let path = path(source.path(), name);
                let output = run_probe(PROBE, &["read", &path], &caps).unwrap();
                assert!(text(&output).ends_with(said), "{name}");
                let answer = query.path(Path::new(&path), Access::Read);
                assert_eq!(matches!(answer, PathAnswer::Allowed(_)), said == "ok", "{answer:?}");
            }
        }
        assert!(matches!(query.path(&at("keys/none"), Access::Read), PathAnswer::Denied(_)));
        // What is written by one name is there by the other.
        let mut caps = system();
        caps.allow_path(source.path(), Access::ReadWrite).unwrap();
        caps.deny_path(denied).unwrap();
        assert_eq!(fault_of(&caps), DenyFault::OtherName);
    });
}

fn bind(what: &Path, place: &Path) {
    let mounted = Command::new("mount").arg("--bind").arg(what).arg(place).status().unwrap();
    assert!(mounted.success());
}

fn fault_of(caps: &CapabilitySet) -> DenyFault {
    let error = run_probe(PROBE, &["list", "/usr"], caps).unwrap_err();
    let Error::Deny { fault, .. } = error else { unreachable!("{error}") };
    fault
}

#[test]
fn in_a_sandbox_that_hides_what_is_mounted_paths_are_denied_all_the_same() {
    let home = home();
    let at = |name: &str| path(home.path(), name);
    let mut caps = system();
    allow(&mut caps, PROBE, Access::Read);
    caps.allow_path(home.path(), Access::Read).unwrap();
    let inside = format!("{PROBE} inside read={} deny={} then read", at(""), at("keys"));
    let script = format!("{inside} {}; {inside} {}", at("note"), at("keys/id"));
    assert_eq!(text(&shell(&script).run(&caps).unwrap()), "xok\nok\n13\nok");
}

#[test]
fn where_proc_is_missing_paths_are_denied_all_the_same() {
    isolated("where_proc_is_missing_paths_are_denied_all_the_same", || {
        let home = home();
        let at = |name: &str| path(home.path(), name);
        let mut mount = Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "none", "/proc"]).status().unwrap().success());
        let mut caps = system();
        caps.allow_path(home.path(), Access::Read).unwrap();
        caps.deny_path(at("keys")).unwrap();
        check_overlaps(&[at("keys").into()], &caps).unwrap();
        let reads = |name: &str| run_probe(PROBE, &["read", &at(name)], &caps);
        assert_eq!(text(&reads("keys/id").unwrap()), "13");
        assert_eq!(text(&reads("note").unwrap()), "xok");
        // If what is mounted could be had and is not, nothing begins, and answers deny no less.
        fs::create_dir_all("/proc/self/mountinfo").unwrap();
        assert!(matches!(reads("note"), Err(Error::Resolve { .. })));
        assert!(caps.path_covered(at("note")) && !caps.path_covered(at("keys/id")));
        let answer = |name: &str| Query::new(caps.clone()).path(Path::new(&at(name)), Access::Read);
        assert!(matches!(answer("keys/id"), PathAnswer::Denied(_)));
        assert!(matches!(answer("note"), PathAnswer::Refused(_)));
        // Nothing that is denied is mounted anywhere.
        check_overlaps(&[], &caps).unwrap();
        run_probe(PROBE, &["list", "/usr"], &system()).unwrap();
    });
}

#[test]
fn what_cannot_be_listed_is_left_out_around_a_denied_path() {
    let home = home();
    let at = |name: &str| path(home.path(), name);
    // Nor can its owner list it, if he is not root.
    fs::set_permissions(at("config"), Permissions::from_mode(0o311)).unwrap();
    let as_nobody = |args: &[&str]| run_as(User::Nobody, PROBE, args);
    if as_nobody(&["list", &at("config")]) == "ok" {
        // Root who can become nobody else.
        return;
    }
    let [granted, denied] = [format!("read={}", at("")), format!("deny={}", at("config/token"))];
    for (operation, name, said) in [
        ("read", "note", "xok\nok"),
        ("list", "work", OK),
        ("read", "config/theme", DENIED),
        ("list", "", DENIED),
    ] {
        let path = at(name);
        let inside = as_nobody(&["inside", &granted, &denied, "then", operation, &path]);
        assert_eq!(inside, said, "{name}");
        let answer = as_nobody(&["asked", &granted, &denied, "then", &path]);
        assert_eq!(answer, format!("{}\nok", said.ends_with(OK)), "{name}");
    }
    fs::set_permissions(at("config"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_to_be_denied_and_cannot_be_seen_is_judged_by_its_names() {
    let home = home();
    let at = |name: &str| path(home.path(), name);
    symlink("keys/id", at("link")).unwrap();
    fs::set_permissions(at("keys"), Permissions::from_mode(0o000)).unwrap();
    let as_nobody = |args: &[&str]| run_as(User::Nobody, PROBE, args);
    if as_nobody(&["list", &at("keys")]) == "ok" {
        // Root who can become nobody else.
        return;
    }
    for (granted, denied, said) in [
        ("work", "keys/id", "ok"),
        ("work", "link", "ok"),
        ("", "keys/deep/id", "overlaps allowed parent"),
        ("", "link", "overlaps allowed parent"),
        ("work", "keys/deep/../id", "cannot be found out"),
    ] {
        let granted = format!("read={}", at(granted));
        let overlaps = as_nobody(&["overlaps", &granted, "then", &at(denied)]);
        assert!(overlaps.contains(said), "{denied}: {overlaps}");
    }
    fs::set_permissions(at("keys"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_a_processes_own_is_not_granted_around_a_denied_path() {
    let mut caps = system();
    caps.allow_system().unwrap();
    caps.deny_path("/proc/self/environ").unwrap();
    assert_eq!(fault_of(&caps), DenyFault::OwnProcess);
    let mut caps = system();
    caps.allow_file("/proc/self/environ", Access::Read).unwrap();
    caps.deny_path("/proc/self").unwrap();
    assert_eq!(fault_of(&caps), DenyFault::Covered);
}

#[test]
fn other_names_of_a_denied_file_beside_it_are_denied_in_answers_too() {
    let home = home();
    let (secret, link) = (home.path().join("config/token"), home.path().join("config/copy"));
    fs::hard_link(&secret, &link).unwrap();
    // Beneath a directory that is granted whole nobody looks for it.
    let deeper = home.path().join("work/copy");
    fs::hard_link(&secret, &deeper).unwrap();
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    caps.deny_path(&secret).unwrap();
    let query = Query::new(caps);
    for (path, expected) in [(&link, false), (&deeper, true)] {
        let answer = query.path(path, Access::Read);
        assert_eq!(matches!(answer, PathAnswer::Allowed(_)), expected, "{answer:?}");
        let said = run_probe(PROBE, &["read", path.to_str().unwrap()], query.caps()).unwrap();
        assert_eq!(text(&said).ends_with("ok"), expected);
    }
}

#[test]
fn of_a_directory_that_comes_later_only_the_names_can_be_had() {
    let home = home();
    let at = |name: &str| path(home.path(), name);
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    caps.deny_path(at("later")).unwrap();
    allow(&mut caps, PROBE, Access::Read);
    let script = format!("read go; {PROBE} list {0}; {PROBE} read {0}/id", at("later"));
    let mut child = shell(&script).stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn(&caps).unwrap();
    child.wait_begun().unwrap();
    fs::create_dir(at("later")).unwrap();
    fs::write(at("later/id"), "x").unwrap();
    File::from(child.stdin.take().unwrap()).write_all(b"go\n").unwrap();
    child.wait().unwrap();
    let mut said = [0; 64];
    let length = File::from(child.stdout.take().unwrap()).read(&mut said).unwrap();
    assert_eq!(said.get(..length), Some(&b"ok\n13\n"[..]));
}

#[test]
fn a_denied_link_denies_what_it_leads_to_there_or_not() {
    let home = home();
    let at = |name: &str| home.path().join(name);
    symlink("missing/target", at("link")).unwrap();
    symlink("link/", at("other")).unwrap();
    for name in ["link", "link/", "other", "other/", "other/."] {
        let mut caps = system();
        caps.deny_path(at(name)).unwrap();
        let denied = caps.denied_paths()[0].resolved();
        assert_eq!(denied, home.path().canonicalize().unwrap().join("missing/target"), "{name}");
    }
    symlink("circle", at("circle")).unwrap();
    assert!(system().deny_path(at("circle")).is_err());
    // Beneath a file there is nothing; the file is granted as ever.
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    caps.allow_file(at("config/token"), Access::Read).unwrap();
    caps.deny_path(at("note/x")).unwrap();
    caps.deny_path(at("config/token/x")).unwrap();
    for name in ["note", "config/token"] {
        let said = run_probe(PROBE, &["read", &path(home.path(), name)], &caps).unwrap();
        assert!(text(&said).ends_with("ok"), "{name}");
        let answer = Query::new(caps.clone()).path(&at(name), Access::Read);
        assert!(matches!(answer, PathAnswer::Allowed(_)), "{answer:?}");
    }
}

#[test]
fn a_set_that_is_refused_allows_nothing() {
    let home = home();
    let mut caps = system();
    caps.allow_path(home.path(), Access::ReadWrite).unwrap();
    caps.deny_path(home.path().join("keys")).unwrap();
    let query = Query::new(caps.clone());
    let refused = PathAnswer::Refused(caps_error(&caps));
    for path in [home.path().join("note"), "/usr".into()] {
        assert_eq!(query.path(&path, Access::Read), refused);
        assert_eq!(query.suggest_path(&path, Access::Read), None);
    }
    assert_eq!(query.refusal(), Some(caps_error(&caps).as_str()));
    // Nor of the network, but for what it would not anyway.
    let address: SocketAddr = ([192, 0, 2, 1], 443).into();
    let said = [query.connect(address), query.bind(None, 80), query.unix_socket(home.path())];
    assert_eq!(said, [NetworkAnswer::Refused; 3]);
    caps.block_network();
    assert_eq!(Query::new(caps.clone()).connect(address), NetworkAnswer::Blocked);
    assert_eq!(Query::new(system()).refusal(), None);
}

#[test]
fn directories_are_read_by_the_first_question_that_needs_it() {
    let home = home();
    let mut caps = system();
    caps.allow_path(home.path(), Access::Read).unwrap();
    caps.deny_path(home.path().join("work/src/main")).unwrap();
    let query = Query::new(caps);
    assert!(query.is_covered(&home.path().join("note")));
    assert!(!query.is_covered(&home.path().join("work/src/main")));
    let answer = |name: &str| query.path(&home.path().join(name), Access::Read);
    assert!(matches!(answer("work/src/main"), PathAnswer::Denied(_)));
    assert_eq!(answer(".."), PathAnswer::NotGranted);
    // As it would be for a sandbox that begins now.
    crowd(&home.path().join("work/src"));
    assert!(matches!(answer("note"), PathAnswer::Refused(_)));
}

/// Makes more files than can be granted one by one.
fn crowd(directory: &Path) {
    for number in 0..4100 {
        File::create(directory.join(number.to_string())).unwrap();
    }
}

fn caps_error(caps: &CapabilitySet) -> String {
    run_probe(PROBE, &["list", "/usr"], caps).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_left_out_is_refused_with_the_reason() {
    let home = home();
    let fault = |granted: &str, access, denied: &str| {
        let mut caps = system();
        let granted = home.path().join(granted);
        allow(&mut caps, granted, access);
        caps.deny_path(home.path().join(denied)).unwrap();
        match run_probe(PROBE, &["list", "/usr"], &caps) {
            Err(error @ Error::Deny { fault, .. }) => {
                assert!(error.is_bad_argument() && error.to_string().contains("within the grant"));
                fault
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault("", Access::ReadWrite, "keys"), DenyFault::Writable);
    assert_eq!(fault("", Access::Write, "keys/none"), DenyFault::Writable);
    assert_eq!(fault("keys", Access::Read, "keys"), DenyFault::Covered);
    assert_eq!(fault("keys/id", Access::Read, "keys"), DenyFault::Covered);

    crowd(&home.path().join("work/src"));
    assert!(matches!(fault("work", Access::Read, "work/src/7"), DenyFault::TooMany { .. }));
}
