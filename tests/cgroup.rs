//! Limits by control groups. Each test divides a tree of its own, and is run again in there as
//! whoever a service manager would have given that to. Few machines let a test do that, so these
//! are left out unless asked for: `make check-kernels` runs them in virtual machines.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use nono_sandbox::{Access, CapabilitySet, Command, Limits, Mechanism, Output};
use support::sandboxed::{User, allow, command_as, shell, system};

/// Where the whole tree is.
const TREE: &str = "/sys/fs/cgroup";
/// Set in the process that a test runs in, to the group that it began in.
const MARK: &str = "NONO_TEST_GROUP";
/// One of these has all its memory in use for as long as `sleep` runs.
const EATER: &str = "dd if=/dev/zero bs=30M count=1 2>/dev/null | sleep 10";
const MEBIBYTE: u64 = 1 << 20;

/// How a test's group is given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// Marked, as systemd does it.
    Marked,
    /// By its owner, who is not root.
    Owned,
    /// The group above is marked, as systemd does it for a service that is put into a leaf.
    Above,
    /// Not at all.
    Not,
}

/// Runs the test called `name` in a group of its own, and tells it where that is.
fn in_group(name: &str, given: Given, test: impl FnOnce(&Path)) {
    if let Some(own) = std::env::var_os(MARK) {
        return test(Path::new(&own));
    }
    let group = Path::new(TREE).join(format!("{name}-{}", std::process::id()));
    let own = if given == Given::Above { group.join("leaf") } else { group.clone() };
    fs::create_dir_all(&own).unwrap();
    fs::write(Path::new(TREE).join("cgroup.subtree_control"), "+memory +pids").unwrap();
    if matches!(given, Given::Marked | Given::Above) {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&group, "user.delegate", b"1", flags).unwrap();
    }
    let user = if given == Given::Owned { User::Nobody } else { User::Own };
    if user == User::Nobody {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            std::os::unix::fs::chown(group.join(file), Some(65534), Some(65534)).unwrap();
        }
    }
    let mut command = std::process::Command::new("/bin/sh");
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", own.display());
    let as_user = command_as(user);
    command.args(["-c", &enter, "sh"]).arg(as_user.get_program()).args(as_user.get_args());
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture"]).env(MARK, &own);
    let output = command.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success() && said.concat().contains("1 passed"), "{}", said.concat());
    assert_eq!(left_in(&group), Vec::<PathBuf>::new());
}

/// What groups of programs are in a group.
fn left_in(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_dir() && !path.ends_with("nono-caller") && is_ours(path))
        .collect()
}

fn is_ours(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with("nono-")
}

fn caps() -> CapabilitySet {
    let mut caps = system();
    allow(&mut caps, "/dev/zero", Access::Read);
    caps
}

fn run(command: &mut Command, limits: Limits) -> Output {
    command.env("PATH", "/usr/bin:/bin").limits(limits).run(&caps()).unwrap()
}

fn memory(mebibytes: u64) -> Limits {
    Limits { max_memory_bytes: Some(mebibytes * MEBIBYTE), ..Limits::default() }
}

fn processes(most: u64) -> Limits {
    Limits { max_processes: Some(most), ..Limits::default() }
}

fn mechanism(output: &Output, limit: &str) -> Mechanism {
    output.limits.iter().find(|(name, _)| *name == limit).unwrap().1
}

/// What holds wherever groups are to be had.
fn limits_hold() {
    let output =
        run(&mut shell(&format!("{EATER} & {EATER} & {EATER} & {EATER} & wait")), memory(64));
    assert_eq!(mechanism(&output, "max_memory_bytes"), Mechanism::ControlGroup);
    assert_eq!((output.oom_killed, output.signal), (true, Some(libc::SIGKILL)));
    if let Some(peak) = output.max_rss {
        assert!((32 * MEBIBYTE..=65 * MEBIBYTE).contains(&peak), "{peak}");
    }
    // More address space than memory is no offence.
    let output = run(&mut shell("dd if=/dev/zero bs=30M count=1 of=/dev/null"), memory(64));
    assert_eq!((output.oom_killed, output.exit_code), (false, 0));

    let fork = "for n in 1 2 3 4 5 6 7 8; do sleep 10 & done; echo all";
    let output = run(&mut shell(fork), processes(4));
    assert_eq!(mechanism(&output, "max_processes"), Mechanism::ControlGroup);
    assert!(output.stdout.is_empty() && output.exit_code != 0, "{output:?}");
    assert_eq!(run(&mut shell(fork), processes(20)).stdout, b"all\n");
}

#[test]
#[ignore = "needs a tree of control groups"]
fn a_marked_group_limits_all_together() {
    in_group("a_marked_group_limits_all_together", Given::Marked, |own| {
        limits_hold();
        // The caller has stepped aside, and nobody else was there.
        assert!(own.join("nono-caller").exists());
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn a_users_own_group_limits_all_together() {
    in_group("a_users_own_group_limits_all_together", Given::Owned, |_| limits_hold());
}

#[test]
#[ignore = "needs a tree of control groups"]
fn a_leaf_of_a_marked_group_is_left_as_it_is() {
    in_group("a_leaf_of_a_marked_group_is_left_as_it_is", Given::Above, |own| {
        limits_hold();
        assert!(!own.join("nono-caller").exists());
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn what_is_not_given_is_not_taken() {
    in_group("what_is_not_given_is_not_taken", Given::Not, |own| {
        let output = run(&mut shell("true"), memory(512));
        assert_eq!(mechanism(&output, "max_memory_bytes"), Mechanism::ResourceLimit);
        assert!(!output.oom_killed);
        let control = fs::read_to_string(own.join("cgroup.subtree_control")).unwrap();
        assert_eq!(control.trim(), "");
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn nobody_else_is_moved() {
    in_group("nobody_else_is_moved", Given::Marked, |own| {
        let mut other = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let output = run(&mut shell("true"), memory(512));
        assert_eq!(mechanism(&output, "max_memory_bytes"), Mechanism::ResourceLimit);
        let inside = fs::read_to_string(own.join("cgroup.procs")).unwrap();
        assert_eq!(inside.lines().count(), 2);
        other.kill().unwrap();
        other.wait().unwrap();
        let output = run(&mut shell("true"), memory(512));
        assert_eq!(mechanism(&output, "max_memory_bytes"), Mechanism::ControlGroup);
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn a_small_programs_memory_is_known_to_a_large_caller() {
    in_group("a_small_programs_memory_is_known_to_a_large_caller", Given::Marked, |own| {
        let held = vec![1_u8; 64 << 20];
        let output = run(&mut shell("true"), memory(512));
        drop(std::hint::black_box(held));
        // The kernel tells the peak from Linux 5.19 on.
        if own.join("nono-caller/memory.peak").exists() {
            let peak = output.max_rss.unwrap();
            assert!((1..32 * MEBIBYTE).contains(&peak), "{peak}");
        }
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn nothing_gets_out_of_reach() {
    in_group("nothing_gets_out_of_reach", Given::Marked, |own| {
        let script = "setsid sh -c 'setsid sleep 100 & sleep 100' >/dev/null 2>&1 & echo there";
        for limits in [Limits::default(), processes(50)] {
            let output = run(&mut shell(script), limits);
            assert_eq!(output.stdout, b"there\n");
            assert!(!output.left_running);
            let missing = output.enforcement.missing();
            assert!(!missing.iter().any(|what| what.contains("group")), "{missing:?}");
            assert_eq!(left_in(own), Vec::<PathBuf>::new());
        }
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn fifty_threads_have_a_group_for_each_run() {
    in_group("fifty_threads_have_a_group_for_each_run", Given::Marked, |own| {
        run(&mut shell("true"), processes(5));
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let output = run(&mut shell("true"), processes(5));
                        assert_eq!(mechanism(&output, "max_processes"), Mechanism::ControlGroup);
                        assert_eq!(output.exit_code, 0);
                    }
                });
            }
        });
        assert_eq!(left_in(own), Vec::<PathBuf>::new());
    });
}

#[test]
#[ignore = "needs a tree of control groups"]
fn a_group_ends_with_its_caller() {
    const NAME: &str = "a_group_ends_with_its_caller";
    in_group(NAME, Given::Marked, |own| {
        if std::env::var_os("NONO_TEST_CALLER").is_some() {
            run(&mut shell("sleep 100"), processes(5));
            return;
        }
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--include-ignored", "--nocapture"]);
        // It has to be alone in what it divides.
        let inner = own.join("inner");
        fs::create_dir(&inner).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&inner, "user.delegate", b"1", flags).unwrap();
        run(&mut shell("true"), memory(512));
        let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", inner.display());
        let mut caller = std::process::Command::new("/bin/sh")
            .args(["-c", &enter, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .env("NONO_TEST_CALLER", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        while left_in(&inner).iter().all(|group| is_empty(group)) {
            thread::yield_now();
        }
        caller.kill().unwrap();
        caller.wait().unwrap();
        // Whoever is left of its tree holds this open.
        let mut said = String::new();
        caller.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        while !left_in(&inner).is_empty() {
            thread::yield_now();
        }
    });
}

fn is_empty(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.procs")).map_or(true, |processes| processes.is_empty())
}
