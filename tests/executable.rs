//! Which file a command executed, and limits that must hold.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use nono_sandbox::{Access, Command, Error, Executable, Limits};
use support::sandboxed::{allow, shell, system};
use tempfile::tempdir;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// What is executed of the program at `path`, which is granted.
fn executed(command: &mut Command, path: &Path) -> Option<Executable> {
    let mut caps = system();
    allow(&mut caps, path, Access::Read);
    let output = command.identify(true).run(&caps).unwrap();
    assert_eq!(output.exit_code, 0);
    output.executable
}

fn sum(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn the_file_is_known_by_its_place_and_content() {
    let dir = tempdir().unwrap();
    let link = dir.path().join("link");
    symlink(PROBE, &link).unwrap();
    let known = executed(Command::new(&link).arg("cwd"), Path::new(PROBE)).unwrap();
    assert_eq!(known.path, fs::canonicalize(PROBE).unwrap());
    assert_eq!(known.sha256.to_string(), sum(Path::new(PROBE)));
    // Nobody asked.
    assert_eq!(shell("true").run(&system()).unwrap().executable, None);
}

#[test]
fn a_script_is_itself_and_not_its_interpreter() {
    let dir = tempdir().unwrap();
    let script = dir.path().canonicalize().unwrap().join("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("./script");
    let known = executed(command.cwd(dir.path()), &script).unwrap();
    assert_eq!((known.path, known.sha256.to_string()), (script.clone(), sum(&script)));
}

#[test]
fn what_a_program_does_to_its_own_file_later_changes_nothing() {
    let dir = tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let script = place.join("script");
    // It is told to go on only when it is known.
    fs::write(&script, "#!/bin/sh\nread line\nrm \"$0\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let before = sum(&script);
    let mut caps = system();
    caps.allow_path(&place, Access::ReadWrite).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let mut command = Command::new(&script);
    command.identify(true).stdin(std::os::fd::OwnedFd::from(read));
    let mut run = command.start(&caps).unwrap();
    drop(write);
    let output = loop {
        if let Some(output) = run.advance(None).unwrap() {
            break output;
        }
    };
    assert!(!script.exists());
    assert_eq!(output.executable.unwrap().sha256.to_string(), before);
}

#[test]
fn what_is_too_large_to_be_read_is_executed_and_not_known() {
    let dir = tempdir().unwrap();
    let script = dir.path().canonicalize().unwrap().join("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // Without a block more of it.
    let file = fs::OpenOptions::new().write(true).open(&script).unwrap();
    file.set_len(1 << 40).unwrap();
    drop(file);
    let mut command = Command::new(&script);
    assert_eq!(executed(command.timeout(Duration::from_mins(1)), &script), None);
}

#[test]
fn a_program_that_could_not_begin_is_an_error_as_ever() {
    let denied = Command::new("/bin/true").identify(true).run(&nono_sandbox::CapabilitySet::new());
    assert!(matches!(denied, Err(Error::Spawn { .. })));
}

#[test]
fn a_limit_that_must_hold_and_does_not_is_an_error() {
    let limits = Limits { max_processes: Some(4000), ..Limits::default() };
    let mut command = shell("true");
    let done = command.limits(limits).require_limits(true).run(&system());
    if rustix::process::geteuid().is_root() {
        assert!(matches!(done, Err(Error::LimitNotHeld { limit: "max_processes" })));
        // Who becomes an ordinary user is held.
        assert_eq!(command.ids(65534, 65534).run(&system()).unwrap().exit_code, 0);
        // And root by the others.
        let others = Limits { max_memory_bytes: Some(1 << 30), ..Limits::default() };
        let mut command = shell("true");
        assert!(command.limits(others).require_limits(true).run(&system()).is_ok());
    } else {
        assert_eq!(done.unwrap().exit_code, 0);
    }
}
