//! Denied paths within grants: kept out by granting around them, or refused.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use nono_sandbox::{Access, CapabilitySet, DenyFault, Error, PathAnswer, Query};
use support::isolated;
use support::sandboxed::{User, run_as, run_probe, system, text};
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
    let error = run_probe(PROBE, &["list", "/usr"], &caps).unwrap_err();
    assert!(matches!(error, Error::Deny { fault: DenyFault::OtherName, .. }), "{error}");
    assert!(matches!(Query::new(caps).path(&link, Access::Read), PathAnswer::Refused(_)));
}

#[test]
fn a_denied_directory_is_not_granted_where_it_is_mounted_again() {
    isolated("a_denied_directory_is_not_granted_where_it_is_mounted_again", || {
        let (home, again) = (home(), tempdir().unwrap());
        let mut mount = Command::new("mount");
        let mounted = mount.arg("--bind").arg(home.path()).arg(again.path()).status().unwrap();
        assert!(mounted.success());
        let mut caps = system();
        caps.allow_path(again.path(), Access::Read).unwrap();
        caps.deny_path(home.path().join("keys")).unwrap();
        let error = run_probe(PROBE, &["list", "/usr"], &caps).unwrap_err();
        assert!(matches!(error, Error::Deny { fault: DenyFault::OtherName, .. }), "{error}");
    });
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
    assert_eq!(Query::new(system()).refusal(), None);
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
        support::sandboxed::allow(&mut caps, granted, access);
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

    let crowd = home.path().join("work/src");
    for number in 0..4100 {
        fs::File::create(crowd.join(number.to_string())).unwrap();
    }
    assert!(matches!(fault("work", Access::Read, "work/src/7"), DenyFault::TooMany { .. }));
}
