//! How a sandboxed command starts, what it finds itself with, and how it ends.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nono_sandbox::{Access, CapabilitySet, Command, Error, Limits, Mechanism, Output, Step};
use support::sandboxed::{allow, run_probe, shell, system, text};
use tempfile::tempdir;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
/// Longer than a test may take. So is whatever must not be waited for: a test that waits is killed.
const LONG: Duration = Duration::from_secs(100);

fn run(command: &Command) -> Output {
    command.run(&system()).unwrap()
}

fn probe(args: &[&str]) -> String {
    text(&run_probe(PROBE, args, &system()).unwrap())
}

/// Runs a probe outside of any sandbox, as the parent of some.
fn parent(args: &[&str]) -> String {
    let output = std::process::Command::new(PROBE).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn with_probe() -> CapabilitySet {
    let mut caps = system();
    allow(&mut caps, PROBE, Access::Read);
    caps
}

#[test]
fn output_and_exit_code_are_the_programs() {
    let output = run(&shell("echo out; echo err >&2; exit 7"));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((output.exit_code, output.timed_out, output.truncated), (7, false, false));
    assert!(output.duration > Duration::ZERO);
    // A program's own 124 is no timeout.
    let output = run(shell("exit 124").timeout(LONG));
    assert_eq!((output.exit_code, output.timed_out), (124, false));
}

#[test]
fn a_signal_is_a_negative_exit_code() {
    assert_eq!(run(&shell("kill -KILL $$")).exit_code, -libc::SIGKILL);
    assert_eq!(run(&shell("kill -SEGV $$")).exit_code, -libc::SIGSEGV);
}

#[test]
fn signals_have_their_default_action() {
    // Rust ignores SIGPIPE, in this process too, and children inherit that.
    assert_eq!(run(&shell("kill -PIPE $$; echo survived")).exit_code, -libc::SIGPIPE);
    let said = parent(&["blocked-signals"]);
    assert_eq!(said, format!("{}\ntrue\nok", -libc::SIGTERM));
}

#[test]
fn a_parent_that_ignores_its_children_learns_their_end() {
    let said = parent(&["ignored-children"]);
    assert_eq!(said, format!("7\n{}\nok", -libc::SIGTERM));
}

#[test]
fn standard_input_is_empty_and_no_descriptor_is_inherited() {
    assert_eq!(probe(&["stdin"]), "0\nok");
    let file = File::open("/etc/passwd").unwrap();
    // `dup` makes a descriptor that programs inherit.
    let inherited = rustix::io::dup(&file).unwrap();
    assert!(inherited.as_raw_fd() > 2);
    assert_eq!(probe(&["fds"]), "[0, 1, 2]\nok");
}

#[test]
fn a_command_leads_a_session_of_its_own() {
    assert_eq!(probe(&["session"]), "true\ntrue\nok");
}

#[test]
fn the_environment_is_what_was_given() {
    let caps = with_probe();
    let env = |command: &mut Command| text(&command.arg("env").run(&caps).unwrap());
    assert_eq!(env(&mut Command::new(PROBE)), "ok");
    let mut command = Command::new(PROBE);
    command.env("A", "1").envs([("B", "2"), ("A", "3")]);
    assert_eq!(env(&mut command), "A=3\nB=2\nok");

    let inherited = env(Command::new(PROBE).inherit_env(true).env("CARGO", "mine"));
    let has = |line: &str| inherited.lines().any(|own| own == line);
    assert!(has("CARGO=mine") && has(&format!("PATH={}", std::env::var("PATH").unwrap())));
    // Cargo sets `LD_LIBRARY_PATH` for tests, so there is one to leave out.
    assert!(std::env::var_os("LD_LIBRARY_PATH").is_some());
    assert!(!inherited.lines().any(|line| line.starts_with("LD_LIBRARY_PATH=")));
}

#[test]
fn bad_variables_are_refused_by_kind() {
    let attempt = |name: &str, value: &str| Command::new("true").env(name, value).run(&system());
    for name in ["", "A=B", "A\0B"] {
        let error = attempt(name, "x").unwrap_err();
        assert!(matches!(&error, Error::VariableName { .. }), "{error}");
        assert!(error.is_bad_argument());
    }
    for name in ["LD_PRELOAD", "LD_", "DYLD_INSERT_LIBRARIES", "LIBPATH", "SHLIB_PATH"] {
        let error = attempt(name, "x").unwrap_err();
        assert!(matches!(&error, Error::LoaderVariable { name: said } if said == name), "{error}");
    }
    assert!(matches!(attempt("A", "x\0"), Err(Error::NulByte { .. })));
    assert!(attempt("LDFLAGS", "").is_ok());
}

#[test]
fn bad_commands_are_refused_by_kind() {
    let attempt = |program: &str| Command::new(program).run(&system());
    assert!(matches!(attempt(""), Err(Error::EmptyCommand)));
    assert!(matches!(attempt("a\0b"), Err(Error::NulByte { .. })));
    let in_an_argument = Command::new("true").arg("a\0b").run(&system());
    assert!(matches!(in_an_argument, Err(Error::NulByte { .. })));
    for program in ["no-such-program", "/no/such/program", "./no-such-program"] {
        let error = attempt(program).unwrap_err();
        assert!(matches!(&error, Error::ProgramNotFound { program: said } if said == program));
    }
    for program in ["/etc/passwd", "/usr"] {
        let error = attempt(program).unwrap_err();
        assert!(matches!(&error, Error::ProgramNotExecutable { path } if path == program));
    }
}

#[test]
fn a_step_that_fails_is_named_with_its_path() {
    let failure = |command: &Command, caps: &CapabilitySet| match command.run(caps) {
        Err(Error::Spawn { step, path, source }) => (step, path, source.raw_os_error()),
        other => panic!("expected `Spawn`: {other:?}"),
    };
    let caps = system();
    let missing = Path::new("/no/such/directory").to_owned();
    let expected = (Step::WorkingDirectory, Some(missing.clone()), Some(libc::ENOENT));
    assert_eq!(failure(shell("true").cwd(missing), &caps), expected);
    let file = Path::new("/etc/passwd").to_owned();
    let expected = (Step::WorkingDirectory, Some(file.clone()), Some(libc::ENOTDIR));
    assert_eq!(failure(shell("true").cwd(file), &caps), expected);

    let shell_path = Some(Path::new("/bin/sh").to_owned());
    let expected = (Step::Execute, shell_path.clone(), Some(libc::EACCES));
    assert_eq!(failure(&shell("true"), &CapabilitySet::new()), expected);
    let huge = "x".repeat(1 << 20);
    let expected = (Step::Execute, shell_path, Some(libc::E2BIG));
    assert_eq!(failure(shell("true").arg(huge), &caps), expected);

    let dir = tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "neither ELF nor #!").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut caps = system();
    caps.allow_path(dir.path(), Access::Read).unwrap();
    let expected = (Step::Execute, Some(script.clone()), Some(libc::ENOEXEC));
    assert_eq!(failure(&Command::new(script), &caps), expected);
}

/// A directory with executables that say where they are.
fn programs(names: &[&str]) -> tempfile::TempDir {
    let dir = tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho {name}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
fn a_program_is_searched_as_the_child_would() {
    let dir = programs(&["one/tool", "two/tool", "tool"]);
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let mut caps = system();
    caps.allow_path(dir.path(), Access::Read).unwrap();
    let said = |command: &mut Command| text(&command.run(&caps).unwrap());
    let path = format!("{}:{}", one.display(), two.display());
    assert_eq!(said(Command::new("tool").env("PATH", &path)), "one/tool");
    // What cannot be executed, and a directory, are passed over.
    fs::set_permissions(one.join("tool"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(said(Command::new("tool").env("PATH", &path)), "two/tool");
    fs::remove_file(one.join("tool")).unwrap();
    fs::create_dir(one.join("tool")).unwrap();
    assert_eq!(said(Command::new("tool").env("PATH", &path)), "two/tool");
    // Relative ones count from the child's working directory.
    assert_eq!(said(Command::new("tool").env("PATH", "two").cwd(dir.path())), "two/tool");
    assert_eq!(said(Command::new("tool").env("PATH", "").cwd(dir.path())), "tool");
    assert_eq!(said(Command::new("./tool").cwd(&two)), "two/tool");
    assert_eq!(said(Command::new("two/tool").cwd(dir.path())), "two/tool");
    let missing = Command::new("tool").env("PATH", "/bin").run(&caps);
    assert!(matches!(missing, Err(Error::ProgramNotFound { .. })));
}

#[test]
fn a_program_knows_itself_by_the_name_it_was_called() {
    // As a virtual environment has it: a link to an interpreter elsewhere.
    let dir = tempdir().unwrap();
    let link = dir.path().join("python");
    symlink(PROBE, &link).unwrap();
    let mut caps = with_probe();
    caps.allow_path(dir.path(), Access::Read).unwrap();
    let name = |command: &mut Command| {
        let said = text(&command.arg("args").run(&caps).unwrap());
        said.lines().next().unwrap().to_owned()
    };
    assert_eq!(name(&mut Command::new(&link)), link.to_str().unwrap());
    // In the child's own PATH it can look itself up.
    assert_eq!(name(Command::new("python").env("PATH", dir.path())), "python");
    // In the parent's PATH it cannot, so it is told where it is.
    let by_parent = text(&Command::new("sh").args(["-c", "echo $0"]).run(&system()).unwrap());
    let found = Path::new(&by_parent);
    assert!(found.is_absolute() && found.ends_with("sh"), "{by_parent}");
    let by_child =
        Command::new("sh").args(["-c", "echo $0"]).env("PATH", "/usr/bin:/bin").run(&system());
    assert_eq!(text(&by_child.unwrap()), "sh");
}

#[test]
fn arguments_pass_unchanged() {
    let odd = OsString::from_vec(vec![b'a', 0xff, b'\n', b' ']);
    let output = Command::new("/bin/echo").arg("-n").arg(&odd).arg("").run(&system()).unwrap();
    assert_eq!(output.stdout, [odd.into_vec(), b" ".to_vec()].concat());
}

#[test]
fn the_working_directory_needs_no_grant() {
    let dir = tempdir().unwrap();
    let output = Command::new(PROBE).arg("cwd").cwd(dir.path()).run(&with_probe()).unwrap();
    assert_eq!(text(&output), format!("{}\nok", dir.path().display()));
    let output = Command::new(PROBE).args(["list", "."]).cwd(dir.path()).run(&with_probe());
    assert_eq!(text(&output.unwrap()), libc::EACCES.to_string());
}

#[test]
fn limits_are_set_and_never_above_the_parents() {
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limits = Limits {
        max_processes: Some(4000),
        max_cpu_seconds: Some(20),
        max_file_size_bytes: Some(0),
        max_open_files: Some(u64::MAX),
        ..Limits::default()
    };
    let output = Command::new(PROBE).arg("limits").limits(limits).run(&with_probe()).unwrap();
    let line = |value: Option<u64>| format!("{value:?} {value:?}\n");
    // A control group leaves the user's processes unlimited.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    let is_grouped = output.limits.contains(&("max_processes", Mechanism::ControlGroup));
    let processes = if is_grouped { most } else { Some(4000) };
    let expected = [processes, Some(20), Some(0), nofile.maximum].map(line).concat();
    assert_eq!(text(&output), expected + "ok");
    // The standard streams and one for the loader; the way there needs none of them.
    let few = Limits { max_open_files: Some(4), ..Limits::default() };
    assert_eq!(text(&run(shell("echo started").limits(few))), "started");
}

/// The steps on the way into the sandbox open more at a time than the loader does.
#[test]
fn a_limit_of_descriptors_leaves_room_for_the_start() {
    let mut caps = with_probe();
    caps.block_network();
    let mut command = Command::new("/bin/echo");
    command.arg("x").limits(Limits { max_open_files: Some(4), ..Limits::default() });
    assert_eq!(command.run(&caps).unwrap().stdout, b"x\n");
}

#[test]
fn limits_end_a_process_that_breaks_them() {
    let dir = tempdir().unwrap();
    let mut caps = system();
    caps.allow_path(dir.path(), Access::ReadWrite).unwrap();
    let limits = Limits { max_file_size_bytes: Some(1000), ..Limits::default() };
    let mut command = shell("exec head -c 2000 /bin/sh >file");
    let output = command.cwd(dir.path()).limits(limits).run(&caps).unwrap();
    assert_eq!(output.exit_code, -libc::SIGXFSZ);
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().len(), 1000);

    let limits = Limits { max_cpu_seconds: Some(1), ..Limits::default() };
    let output = run(shell("while :; do :; done").limits(limits).timeout(LONG));
    assert_eq!((output.exit_code, output.timed_out), (-libc::SIGKILL, false));
    let report = nono_sandbox::Report::new(&output, &system());
    assert!(report.violations.iter().any(|known| known.code == "cpu_limit"), "{report:?}");
}

#[test]
fn the_number_of_nobody_is_no_user_to_run_as() {
    // The kernel would take it to mean that root stays root.
    for (uid, gid) in [(u32::MAX, u32::MAX), (u32::MAX, 1), (1, u32::MAX)] {
        let error = shell("id").ids(uid, gid).run(&system()).unwrap_err();
        assert!(matches!(error, Error::NobodysId) && error.is_bad_argument(), "{error}");
    }
}

#[test]
fn output_beyond_the_limit_is_dropped_and_told() {
    let limits = Limits { max_output_bytes: 1000, ..Limits::default() };
    let flood = "yes | head -c 3000000; yes | head -c 3000000 >&2";
    let output = run(shell(flood).limits(limits));
    assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 1000));
    assert!(output.truncated);
    assert_eq!(output.exit_code, 0);
    // Exactly as much as there is room for is no loss.
    let output = run(shell("yes | head -c 1000").limits(limits));
    assert_eq!((output.stdout.len(), output.truncated), (1000, false));
    let none = Limits { max_output_bytes: 0, ..Limits::default() };
    let output = run(shell("echo x").limits(none));
    assert_eq!((output.stdout.len(), output.truncated), (0, true));
}

#[test]
fn both_streams_are_read_at_the_same_time() {
    let script = "yes | head -c 3000000 >&2 & yes | head -c 3000000; wait";
    let output = run(shell(script).timeout(LONG));
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    assert!(!output.timed_out);
}

#[test]
fn a_timeout_returns_what_there_was() {
    let output =
        run(shell("echo early; echo warn >&2; exec sleep 100").timeout(Duration::from_secs(1)));
    assert_eq!((output.exit_code, output.timed_out), (124, true));
    assert_eq!(text(&output), "earlywarn");
    assert!(output.duration >= Duration::from_secs(1));
}

#[test]
fn no_timeout_is_too_short_or_too_long() {
    let output = run(shell("sleep 100").timeout(Duration::ZERO));
    assert_eq!((output.exit_code, output.timed_out), (124, true));
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_secs(1 << 60)]
    {
        let output = run(shell("echo done").timeout(timeout));
        assert_eq!((text(&output).as_str(), output.timed_out), ("done", false));
    }
}

#[test]
fn a_run_can_be_cancelled_from_another_thread() {
    for close in [false, true] {
        let (receiver, mut sender) = std::io::pipe().unwrap();
        let run = thread::spawn(move || shell("sleep 100").cancel_on(receiver).run(&system()));
        if !close {
            sender.write_all(b"x").unwrap();
        }
        drop(sender);
        assert!(matches!(run.join().unwrap(), Err(Error::Cancelled)));
    }
    // One that is never used changes nothing.
    let (receiver, _sender) = std::io::pipe().unwrap();
    assert_eq!(text(&run(shell("echo done").cancel_on(receiver))), "done");
}

#[test]
fn endless_output_does_not_outlast_the_timeout() {
    let limits = Limits { max_output_bytes: 10, ..Limits::default() };
    let output = run(shell("exec yes").timeout(Duration::from_secs(1)).limits(limits));
    assert!(output.timed_out && output.truncated && output.stdout == b"y\ny\ny\ny\ny\n");
}

#[test]
fn whoever_holds_the_pipe_does_not_delay_the_end() {
    // In a session of its own, where no kill of ours finds it.
    let output = run(&shell("setsid sleep 100 & echo done"));
    assert_eq!((text(&output).as_str(), output.exit_code), ("done", 0));
    let output =
        run(shell("setsid sleep 100 & exec sleep 100").timeout(Duration::from_millis(200)));
    assert!(output.timed_out);
    // One that never stops writing, either.
    let output = run(&shell("setsid timeout 100 yes & echo done"));
    assert!(output.exit_code == 0 && text(&output).contains("done"));
}

/// A pipe with a name in a directory of its own, and a set that lets a command open it.
fn named_pipe() -> (tempfile::TempDir, PathBuf, CapabilitySet) {
    let dir = tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut caps = with_probe();
    caps.allow_path(dir.path(), Access::ReadWrite).unwrap();
    (dir, fifo, caps)
}

#[test]
fn what_is_left_of_the_group_is_killed_at_the_end() {
    let (_dir, fifo, caps) = named_pipe();
    let path = fifo.clone();
    // Opening waits for the writer, and reading for the end of all writers.
    let reader = thread::spawn(move || File::open(path).unwrap().read_to_end(&mut Vec::new()));
    shell("exec 9>\"$0\"; sleep 100 & exit 0").arg(&fifo).run(&caps).unwrap();
    reader.join().unwrap().unwrap();
}

#[test]
fn what_is_left_of_the_session_is_killed_when_a_run_is_cut_short() {
    let (_dir, fifo, caps) = named_pipe();
    let path = fifo.clone();
    let (receiver, sender) = std::io::pipe().unwrap();
    let run = thread::spawn(move || {
        Command::new(PROBE).arg("own-group").arg(&path).cancel_on(receiver).run(&caps)
    });
    let mut reader = File::open(&fifo).unwrap();
    // Said when the process is in its own group.
    let mut ready = [0];
    reader.read_exact(&mut ready).unwrap();
    drop(sender);
    assert!(matches!(run.join().unwrap(), Err(Error::Cancelled)));
    reader.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_child_ends_with_its_parent() {
    let (dir, fifo, _) = named_pipe();
    let mut parent = std::process::Command::new(PROBE)
        .args(["orphan", dir.path().to_str().unwrap(), fifo.to_str().unwrap()])
        .spawn()
        .unwrap();
    // Returns when the child has it open.
    let mut reader = File::open(&fifo).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn nothing_is_left_of_two_hundred_commands() {
    let said = parent(&["leaks"]);
    let (counts, rest) = said.split_once(" Some(").unwrap();
    let (before, after) = counts.split_once(' ').unwrap();
    assert_eq!(before, after);
    assert!(rest.contains(&libc::ECHILD.to_string()), "{said}");
}

#[test]
fn fifty_threads_can_run_commands_at_once() {
    let threads: Vec<_> = (0..50)
        .map(|number| thread::spawn(move || text(&run(&shell(&format!("echo {number}"))))))
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), number.to_string());
    }
}

#[test]
fn a_parent_without_standard_streams_gets_the_output() {
    let dir = tempdir().unwrap();
    let result = dir.path().join("result");
    parent(&["closed-stdio", result.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(result).unwrap(), "out\nerr\n");
}
