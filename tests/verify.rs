//! Sandboxes that try themselves out: what is not granted is tried and denied, for every set.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nono_sandbox::{Access, CapabilitySet, Verification};
use support::isolated;
use support::sandboxed::system;
use tempfile::tempdir;

fn verified(caps: &CapabilitySet) -> Verification {
    let verification = caps.verify().unwrap();
    let failures: Vec<_> = verification.failures().map(ToString::to_string).collect();
    assert!(verification.is_passed(), "{caps}: {failures:?}");
    verification
}

fn has(verification: &Verification, what: &str) -> bool {
    verification.checks.iter().any(|check| check.what == what)
}

#[test]
fn files_and_processes_are_always_tried() {
    for caps in [CapabilitySet::new(), system()] {
        let verification = verified(&caps);
        for what in
            ["read /", "read /etc/passwd", "write below /tmp", "signal another process", "mount"]
        {
            assert!(has(&verification, what), "{what}");
        }
        assert!(!has(&verification, "connect by TCP"));
        assert!(verification.enforcement.landlock_abi() > 0);
    }
}

#[test]
fn what_is_granted_is_not_tried() {
    let mut caps = system();
    caps.allow_path("/tmp", Access::ReadWrite).unwrap();
    caps.allow_file("/etc/passwd", Access::Read).unwrap();
    let verification = verified(&caps);
    assert!(!has(&verification, "write below /tmp") && !has(&verification, "read /etc/passwd"));
    assert!(has(&verification, "make a device node") && has(&verification, "read /etc"));
    let left: Vec<_> = fs::read_dir("/tmp")
        .unwrap()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.contains(&format!("nono-device-{}", std::process::id())).then_some(name)
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_limit_of_the_network_is_tried() {
    let (mut ports, mut blocked, mut proxied) = (system(), system(), system());
    ports.allow_tcp_connect_port(443).unwrap();
    blocked.block_network();
    proxied.proxy_only(([127, 0, 0, 1], 9).into());
    for caps in [&ports, &blocked, &proxied] {
        let verification = verified(caps);
        for what in [
            "connect by TCP",
            "send by TCP Fast Open",
            "bind to a port",
            "serve without binding",
            "make a MPTCP socket",
        ] {
            assert!(has(&verification, what), "{caps}: {what}");
        }
    }
    assert!(has(&verified(&proxied), "make a socket: UDP"));
}

#[test]
fn what_nobody_could_write_proves_nothing() {
    isolated("what_nobody_could_write_proves_nothing", || {
        let dir = tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "ro", "none"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).status().unwrap();
        assert!(mounted.success());
        let mut caps = system();
        caps.deny_path(dir.path()).unwrap();
        let verification = verified(&caps);
        let place = dir.path().display();
        assert!(has(&verification, &format!("read {place}")));
        assert!(!has(&verification, &format!("write below {place}")));
    });
}

#[test]
fn an_ordinary_user_is_held_as_well() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempdir().unwrap();
    let probe = dir.path().join("probe");
    fs::copy(env!("CARGO_BIN_EXE_probe"), &probe).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&probe).args(["threads", "verify", "-"]).uid(1000).gid(1000).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "true \ntrue \nok\n", "{}", String::from_utf8_lossy(&output.stderr));
}
