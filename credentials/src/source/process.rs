//! Runs the program of a password manager or cloud, for what it prints.
//!
//! By its arguments, not by a shell; without input, so that it cannot ask anything; in a process
//! group of its own, which is killed with all its children when the time is over.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use super::Fault;
use crate::environment::with_environment;
use crate::{Secret, SecretBuf};

/// More than any key; a bound, so that a wrong program cannot fill memory.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// How much is read at once.
const CHUNK: usize = 4096;

/// How much of its complaints is kept.
const ERROR_LIMIT: usize = 4 * 1024;

/// How long output is waited for before the program's end is looked for: it may leave a
/// process of its own behind that keeps the pipe open.
const GLANCE: Duration = Duration::from_millis(20);

/// What a program that failed said.
pub(super) struct Failed {
    status: ExitStatus,
    stderr: SecretBuf,
}

/// Runs `argv` for what it prints, for at most `limit`.
///
/// # Errors
/// [`Fault`], by `explain` when it ran and failed.
pub(super) fn run(
    argv: &[String],
    limit: Duration,
    explain: impl FnOnce(&Failed) -> Fault,
) -> Result<Secret, Fault> {
    let deadline = Instant::now() + limit;
    let [program, arguments @ ..] = argv else {
        return Err(Fault::Unavailable("there is no program to run".into()));
    };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = with_environment(|| command.spawn())?.map_err(|error| {
        let program = Path::new(program).display();
        Fault::Unavailable(format!("`{program}` cannot be run: {error}; is it installed?"))
    })?;
    let mut group = Group(child);
    let (stdout, stderr) = collect(&mut group.0, deadline)?;
    let status = group.end(deadline)?;
    if !status.success() {
        return Err(explain(&Failed { status, stderr }));
    }
    Ok(Secret::from(stdout).without_line_ending())
}

/// A program and its children; killed when dropped before their end.
struct Group(Child);

impl Group {
    /// Waits for the program's end.
    fn end(&mut self, deadline: Instant) -> Result<ExitStatus, Fault> {
        loop {
            match self.0.try_wait().map_err(|error| untold(&error))? {
                Some(status) => return Ok(status),
                None if Instant::now() >= deadline => return Err(Fault::TimedOut),
                None => std::thread::park_timeout(GLANCE),
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Once it has been waited for, its number may belong to another group.
        if let Ok(None) = self.0.try_wait() {
            let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}

type Output = (SecretBuf, SecretBuf);

/// Reads both outputs to their end, or to the program's.
fn collect(child: &mut Child, deadline: Instant) -> Result<Output, Fault> {
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Fault::Unavailable("its output cannot be read".into()));
    };
    for pipe in [stdout.as_fd(), stderr.as_fd()] {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| unavailable(&error))?;
    }
    let mut out = Buffer::new(OUTPUT_LIMIT);
    let mut err = Buffer::new(ERROR_LIMIT);
    while !(out.is_ended && err.is_ended) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::TimedOut);
        }
        // What is wrong when its end is not told, is said when that is asked for.
        let has_ended = !matches!(child.try_wait(), Ok(None));
        let mut pipes = Vec::with_capacity(2);
        if !out.is_ended {
            pipes.push(PollFd::new(stdout.as_fd(), PollFlags::POLLIN));
        }
        if !err.is_ended {
            pipes.push(PollFd::new(stderr.as_fd(), PollFlags::POLLIN));
        }
        let wait = PollTimeout::try_from(left.min(GLANCE)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut pipes, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        out.fill(&mut stdout).map_err(|error| unavailable(&error))?;
        err.fill(&mut stderr).map_err(|error| unavailable(&error))?;
        if out.is_over {
            return Err(Fault::Unavailable(format!("it printed more than {OUTPUT_LIMIT} bytes")));
        }
        if has_ended {
            break;
        }
    }
    Ok((out.bytes, err.bytes))
}

/// Output with a bound.
struct Buffer {
    bytes: SecretBuf,
    limit: usize,
    /// There was more.
    is_over: bool,
    is_ended: bool,
}

impl Buffer {
    fn new(limit: usize) -> Self {
        Self { bytes: SecretBuf::default(), limit, is_over: false, is_ended: false }
    }

    /// Takes what is there now, but no more than is kept and one read beyond: from a program that
    /// writes as fast as it is read, nobody would come back to look at the time.
    fn fill(&mut self, pipe: &mut impl Read) -> std::io::Result<()> {
        for _ in 0..=self.limit.div_ceil(CHUNK) {
            if self.is_ended {
                break;
            }
            match self.bytes.read_from(pipe, CHUNK) {
                Ok(0) => self.is_ended = true,
                Ok(_) => {
                    self.is_over |= self.bytes.len() > self.limit;
                    self.bytes.truncate(self.limit);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Failed {
    /// Whether its complaints hold one of `words`, which are lower case.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        let said = Zeroizing::new(String::from_utf8_lossy(&self.stderr).to_lowercase());
        words.iter().any(|word| said.contains(word))
    }

    /// How it ended; and, for those who may see secrets, the first line of its complaints. Words that
    /// look like keys are left out of that, but no one can know what does.
    pub(super) fn summary(&self) -> Fault {
        const MOST: usize = 30;
        let said = Zeroizing::new(String::from_utf8_lossy(&self.stderr).into_owned());
        let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().take(MOST).map(plain).collect();
        let said = if words.is_empty() { "nothing".into() } else { words.join(" ") };
        Fault::Failed { how: format!("it failed ({})", self.status), said }
    }
}

/// A word, if it is one of a language, a name or a small number; keys are longer, and mix.
fn plain(word: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | '&' | '%' | '+');
    let letters = word.trim_matches(|c: char| c.is_ascii_punctuation());
    let mixes = letters.contains(|c: char| c.is_ascii_digit())
        && letters.contains(|c: char| c.is_ascii_alphabetic());
    let is_long = letters.len() > if mixes { 7 } else { 16 };
    if is_long || !word.chars().all(is_plain) { "…" } else { word }
}

/// Why nobody knows how a program ended.
fn untold(error: &std::io::Error) -> Fault {
    if error.raw_os_error() != Some(Errno::ECHILD as i32) {
        return unavailable(error);
    }
    // What it printed may be what it had to complain of.
    let reason = "how it ended is not known, and so not whether it printed a key: this process \
                  ignores SIGCHLD or waits for all its children; set that signal to its default";
    Fault::Unavailable(reason.into())
}

fn unavailable(error: &dyn std::error::Error) -> Fault {
    Fault::Unavailable(format!("it could not be run: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::{Buffer, ERROR_LIMIT, Failed, Fault, OUTPUT_LIMIT, run};
    use crate::Secret;

    fn shell(script: &str, limit: Duration) -> Result<Secret, Fault> {
        let argv = ["sh", "-c", script].map(str::to_owned);
        run(&argv, limit, Failed::summary)
    }

    fn reason(script: &str) -> String {
        match shell(script, Duration::from_secs(20)) {
            Err(Fault::Unavailable(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_it_prints_is_the_secret() {
        let secret = shell("echo sk-1; echo a complaint >&2", Duration::from_secs(20)).unwrap();
        assert_eq!(secret.expose(), b"sk-1");
    }

    #[test]
    fn a_failure_is_told_without_what_looks_like_a_secret() {
        let failure = |script: &str| match shell(script, Duration::from_secs(20)) {
            Err(Fault::Failed { how, said }) => (how, said),
            other => panic!("{other:?}"),
        };
        let (how, said) = failure(
            "echo 'token sk-live-0a1b2c3d of user is wrong, ABCDEFGHIJKLMNOPQRST' >&2; exit 3",
        );
        assert_eq!(how, "it failed (exit status: 3)");
        assert_eq!(said, "token … of user is wrong, …");
        assert_eq!(failure("exit 1").1, "nothing");
    }

    #[test]
    fn too_much_is_refused() {
        let script = format!("head -c {} /dev/zero", OUTPUT_LIMIT + 1);
        assert!(reason(&script).contains("more than"), "{}", reason(&script));
        let at_most = format!("head -c {OUTPUT_LIMIT} /dev/zero | tr '\\0' a");
        assert!(shell(&at_most, Duration::from_secs(20)).is_ok());
    }

    #[test]
    fn output_without_end_is_not_read_without_end() {
        let mut buffer = Buffer::new(ERROR_LIMIT);
        for _ in 0..3 {
            buffer.fill(&mut std::io::repeat(b'x')).unwrap();
            assert!(buffer.is_over && buffer.bytes.len() == ERROR_LIMIT);
        }
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
        assert!(matches!(shell(&script, Duration::from_secs(1)), Err(Fault::TimedOut)));
        let pid = fs::read_to_string(pid).unwrap();
        let state = format!("/proc/{}/stat", pid.trim());
        let is_gone = || fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(15);
        while !is_gone() {
            assert!(Instant::now() < deadline, "it lives");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_it_leaves_behind_is_not_waited_for() {
        // Both are longer than a test may take.
        let secret = shell("echo sk-1; sleep 100 &", Duration::from_secs(90)).unwrap();
        assert_eq!(secret.expose(), b"sk-1");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let argv = ["nono-no-such-program".to_owned()];
        let Err(Fault::Unavailable(reason)) =
            run(&argv, Duration::from_secs(1), |_| Fault::TimedOut)
        else {
            panic!("it ran");
        };
        assert!(reason.contains("nono-no-such-program"), "{reason}");
    }
}
