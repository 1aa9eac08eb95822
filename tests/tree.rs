//! A sandboxed command ends with all that it has started, wherever that hid, and nothing else does.

#![expect(clippy::unwrap_used, reason = "test helpers fail their test")]

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nono_sandbox::{Access, CapabilitySet, Command, Error};
use support::sandboxed::{shell, system, text};
use tempfile::{TempDir, tempdir};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
/// Far longer than anything here takes, far shorter than what must not be waited for.
const SOON: Duration = Duration::from_secs(10);

/// A pipe with a name, which every process of a tree holds open for as long as it lives.
struct Leash {
    _dir: TempDir,
    path: PathBuf,
    caps: CapabilitySet,
}

impl Leash {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let path = dir.path().join("leash");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        let mut caps = system();
        caps.allow_path(dir.path(), Access::ReadWrite).unwrap();
        Self { _dir: dir, path, caps }
    }

    /// A script that begins with taking the leash.
    fn shell(&self, script: &str) -> Command {
        let mut command = shell(&format!("exec 9>\"$0\"; echo begun >&9; {script}"));
        command.arg(&self.path);
        command
    }

    /// Opens the other end, and says how long after the start of it all nobody held it any more.
    fn watch(&self) -> thread::JoinHandle<Instant> {
        let path = self.path.clone();
        thread::spawn(move || {
            let mut said = Vec::new();
            File::open(path).unwrap().read_to_end(&mut said).unwrap();
            assert!(said.starts_with(b"begun"));
            Instant::now()
        })
    }
}

/// A process of the same user that no sandbox has started.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Left the session, was left by its parent, and ignores what can be ignored.
const DAEMON: &str = "(setsid sh -c 'trap \"\" TERM HUP INT; sleep 30' &)";
/// Twenty chains of processes of which each starts the next and ends.
const CHURN: &str = "f() { f & }; for i in 1 2 3 4 5 6 7 8 9 10; do f; f; done";

#[test]
fn daemons_end_with_the_program() {
    let (leash, mut bystander) = (Leash::new(), Bystander::new());
    let watch = leash.watch();
    let start = Instant::now();
    let output = leash.shell(&format!("{DAEMON}; echo done; exit 3")).run(&leash.caps).unwrap();
    assert_eq!((text(&output).as_str(), output.exit_code), ("done", 3));
    assert!(!output.left_running && !output.timed_out);
    assert!(watch.join().unwrap() - start < SOON);
    assert!(bystander.is_alive());
}

#[test]
fn at_the_deadline_nothing_is_left() {
    for script in [format!("{DAEMON}; sleep 30"), format!("{CHURN}; sleep 30")] {
        let (leash, mut bystander) = (Leash::new(), Bystander::new());
        let watch = leash.watch();
        let start = Instant::now();
        let mut command = leash.shell(&script);
        let output = command.timeout(Duration::from_millis(300)).run(&leash.caps).unwrap();
        assert_eq!((output.timed_out, output.exit_code), (true, 124));
        assert_eq!(output.signal, Some(libc::SIGKILL));
        assert!(!output.left_running, "{script}");
        assert!(watch.join().unwrap() - start < SOON);
        assert!(bystander.is_alive());
    }
}

#[test]
fn a_deadline_holds_while_the_caller_does_something_else() {
    let leash = Leash::new();
    let watch = leash.watch();
    let mut command = leash.shell("sleep 30");
    let mut run = command.timeout(Duration::from_secs(2)).start(&leash.caps).unwrap();
    // Nobody asks for the end before it has come.
    watch.join().unwrap();
    let output = loop {
        if let Some(output) = run.advance(None).unwrap() {
            break output;
        }
    };
    assert!(output.timed_out);
}

#[test]
fn several_trees_do_not_end_each_other() {
    let long = Leash::new();
    let watch = long.watch();
    let other = thread::spawn(move || {
        let output = long.shell("sleep 2; echo unharmed").run(&long.caps).unwrap();
        text(&output)
    });
    for _ in 0..20 {
        let short = Leash::new();
        let ended = short.watch();
        short.shell(DAEMON).run(&short.caps).unwrap();
        ended.join().unwrap();
    }
    assert_eq!(other.join().unwrap(), "unharmed");
    watch.join().unwrap();
}

#[test]
fn a_tree_ends_with_its_caller() {
    for script in [DAEMON, CHURN] {
        let leash = Leash::new();
        let watch = leash.watch();
        let directory = leash.path.parent().unwrap().to_str().unwrap();
        let mut caller = std::process::Command::new(PROBE)
            .args(["orphan-tree", directory, leash.path.to_str().unwrap(), script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Said when the tree is there.
        caller.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let start = Instant::now();
        caller.kill().unwrap();
        caller.wait().unwrap();
        assert!(watch.join().unwrap() - start < SOON);
    }
}

#[test]
fn a_tree_ends_when_it_is_dropped_or_cancelled() {
    for cancel in [false, true] {
        let leash = Leash::new();
        let watch = leash.watch();
        let command = leash.shell(&format!("{DAEMON}; echo there; sleep 30"));
        let mut run = command.start(&leash.caps).unwrap();
        // Until there is something to be read: that the tree is there.
        let output = run.fds().nth(1).unwrap().try_clone_to_owned().unwrap();
        let mut fds = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        if cancel {
            run.cancel();
            let end = loop {
                match run.advance(None) {
                    Ok(None) => {}
                    end => break end,
                }
            };
            assert!(matches!(end, Err(Error::Cancelled)));
        }
        drop(run);
        watch.join().unwrap();
    }
}

#[test]
fn what_goes_on_in_the_background_can_be_kept() {
    let leash = Leash::new();
    let watch = leash.watch();
    let start = Instant::now();
    let mut command = leash.shell("(sleep 1; echo alive >&9) & exit 0");
    let output = command.keep_background(true).run(&leash.caps).unwrap();
    assert_eq!((output.exit_code, output.left_running), (0, false));
    assert!(output.duration < Duration::from_secs(1));
    assert!(watch.join().unwrap() - start >= Duration::from_secs(1));
}

#[test]
fn the_program_cannot_reach_its_supervisor() {
    let mut caps = system();
    support::sandboxed::allow(&mut caps, PROBE, Access::Read);
    let output = Command::new(PROBE).arg("signal-parent").run(&caps).unwrap();
    assert_eq!(text(&output), libc::EPERM.to_string());
    let output = Command::new(PROBE).arg("limit-parent").run(&caps).unwrap();
    assert_eq!(text(&output), libc::EPERM.to_string());
}

#[test]
fn this_kernel_reaches_the_whole_tree() {
    let output = shell("true").run(&system()).unwrap();
    let missing = output.enforcement.missing();
    assert!(!missing.iter().any(|what| what.contains("group")), "{missing:?}");
}
