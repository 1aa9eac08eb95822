//! What a command does is noted as it does it: files by where their paths lead, sockets by their
//! addresses; and nothing is noted that could not have been done.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nono_sandbox::{Access, Act, CapabilitySet, Command, Error, Observed, Output};
use tempfile::{TempDir, tempdir};

fn place() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    fs::create_dir(place.join("real")).unwrap();
    fs::write(place.join("real/note"), "x").unwrap();
    symlink("real", place.join("link")).unwrap();
    (dir, place)
}

fn everything() -> CapabilitySet {
    let mut caps = CapabilitySet::new();
    caps.allow_path("/", Access::ReadWrite).unwrap();
    caps
}

/// Runs a script in `place`, and gives what it did there, with paths relative to it.
fn acts_of(script: &str, place: &Path) -> (Output, Vec<(&'static str, PathBuf)>) {
    let observed = Arc::new(Observed::default());
    let mut command = Command::new("sh");
    command.args(["-c", script]).cwd(place).observe(Arc::clone(&observed));
    let output = command.run(&everything()).unwrap();
    let here = |act: Act| match &act {
        Act::Read(path) | Act::Write(path) | Act::Make(path) | Act::UnixSocket(path) => {
            Some((act.name(), path.strip_prefix(place).ok()?.to_owned()))
        }
        _ => None,
    };
    (output, observed.acts().into_iter().filter_map(here).collect())
}

#[test]
fn a_file_is_noted_by_where_its_path_leads() {
    let (_dir, place) = place();
    let acts = |script: &str| acts_of(script, &place).1;
    let note = PathBuf::from("real/note");
    assert_eq!(acts("cat link/../link/note"), [("read", note.clone())]);
    assert_eq!(acts("cd link; cat note"), [("read", note.clone())]);
    assert_eq!(acts("echo >> link/note"), [("write", note.clone())]);
    assert_eq!(acts("touch real/note"), [("write", note.clone())]);
    assert_eq!(acts("ls real >&2"), [("read", "real".into())]);
    assert_eq!(
        acts("exec 7< real; cat /proc/self/fd/7/note"),
        [("read", "real".into()), ("read", note)]
    );
}

#[test]
fn what_is_made_and_removed_is_noted_in_its_directory() {
    let (_dir, place) = place();
    let script = "echo > link/a; mv link/a b; mkdir c; ln -s x d; rm b; rmdir c";
    let (output, acts) = acts_of(script, &place);
    assert_eq!(output.exit_code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    let made = acts.iter().filter(|(name, _)| *name == "make").map(|(_, path)| path.as_path());
    let expected = ["b", "c", "d", "real/a"].map(Path::new);
    assert_eq!(made.collect::<Vec<_>>(), expected);
}

#[test]
fn what_has_no_name_is_not_noted() {
    let (_dir, place) = place();
    let script = "exec 7< real/note; rm real/note; cat /proc/self/fd/7; echo | cat /dev/stdin";
    let (output, acts) = acts_of(script, &place);
    assert_eq!((output.exit_code, output.stdout), (0, b"x\n".to_vec()));
    assert_eq!(acts, [("read", "real/note".into()), ("make", "real/note".into())]);
}

#[test]
fn what_is_not_there_is_not_noted() {
    let (_dir, place) = place();
    let script = "cat none; cat none/none; rm -f none; mkdir -p real; test -e real/note; : < x";
    assert_eq!(acts_of(script, &place).1, []);
}

#[test]
fn a_program_is_noted_with_its_interpreter() {
    let (_dir, place) = place();
    let script = place.join("script");
    fs::write(&script, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let observed = Arc::new(Observed::default());
    let mut command = Command::new(&script);
    let output = command.observe(Arc::clone(&observed)).run(&everything()).unwrap();
    assert_eq!(output.exit_code, 7);
    let acts = observed.acts();
    let shell = Path::new("/bin/sh").canonicalize().unwrap();
    for path in [&script, &shell] {
        assert!(acts.contains(&Act::Read(path.clone())), "{}: {acts:?}", path.display());
    }
    let is_loader =
        |act: &Act| matches!(act, Act::Read(path) if path.to_string_lossy().contains("ld-"));
    assert!(acts.iter().any(is_loader), "{acts:?}");
}

#[test]
fn what_is_a_processs_own_is_noted_as_such() {
    let observed = Arc::new(Observed::default());
    let mut command = Command::new("sh");
    command.args(["-c", "cat /proc/self/status /proc/$$/maps /etc/mtab > /dev/null"]);
    command.observe(Arc::clone(&observed)).run(&everything()).unwrap();
    let acts = observed.acts();
    assert!(acts.contains(&Act::Read("/proc/self/status".into())), "{acts:?}");
    if Path::new("/etc/mtab").exists() {
        assert!(acts.contains(&Act::Read("/proc/self/mounts".into())), "{acts:?}");
    }
}

#[test]
fn a_network_is_limited_or_observed() {
    let mut caps = everything();
    caps.block_network();
    caps.allow_localhost_port(8080).unwrap();
    let mut command = Command::new("true");
    let failure = command.observe(Arc::default()).run(&caps).unwrap_err();
    assert!(matches!(failure, Error::ObservedNetwork), "{failure}");
    assert!(failure.is_bad_argument());
}
