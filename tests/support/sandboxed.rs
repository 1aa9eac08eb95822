//! Sandboxes for programs that a test can count on: the system's own, and the probe.

use std::path::Path;

use nono_sandbox::{Access, CapabilitySet, Command, Error, Output};

/// A set that lets ordinary programs start: the system's directories, to be read, and `/dev/null`,
/// which a shell gives to its background jobs.
///
/// # Panics
///
/// If one cannot be granted; no test could go on.
pub fn system() -> CapabilitySet {
    let mut caps = CapabilitySet::new();
    for path in ["/usr", "/bin", "/lib", "/lib64"] {
        if Path::new(path).exists() {
            allow(&mut caps, path, Access::Read);
        }
    }
    allow(&mut caps, "/dev/null", Access::ReadWrite);
    caps
}

/// Grants a file or a directory, whatever it is.
///
/// # Panics
///
/// If it cannot be granted.
#[expect(clippy::expect_used, reason = "no test could go on")]
pub fn allow(caps: &mut CapabilitySet, path: impl AsRef<Path>, access: Access) {
    let path = path.as_ref();
    let granted =
        if path.is_dir() { caps.allow_path(path, access) } else { caps.allow_file(path, access) };
    granted.expect("a fixture's path can be granted");
}

/// A shell script, without environment.
pub fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

/// Runs a probe in a sandbox of `caps` and what the probe itself needs.
///
/// # Errors
///
/// Those of [`Command::run`].
pub fn run_probe(probe: &str, args: &[&str], caps: &CapabilitySet) -> Result<Output, Error> {
    let mut caps = caps.clone();
    allow(&mut caps, probe, Access::Read);
    Command::new(probe).args(args).run(&caps)
}

/// What a command printed.
pub fn text(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
    format!("{}{}", stdout.trim_end(), stderr.trim_end())
}

/// Whom a test's process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Own,
    /// A user without any privilege, if whoever runs the tests is root.
    Nobody,
}

impl User {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Own, Self::Nobody];
}

/// Runs a probe outside of any sandbox, as `user`, and gives what it printed. An ordinary user
/// who runs the tests is one without privilege already.
///
/// # Panics
///
/// If it cannot be run; no test could go on.
#[expect(clippy::unwrap_used, reason = "no test could go on")]
pub fn run_as(user: User, probe: &str, args: &[&str]) -> String {
    let mut command = command_as(user);
    let output = command.arg(probe).args(args).output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    format!("{stdout}{stderr}").trim_end().to_owned()
}

/// A command that runs what its arguments say, outside of any sandbox, as `user`.
pub fn command_as(user: User) -> std::process::Command {
    let mut command = std::process::Command::new("setpriv");
    // Root of a namespace of users may have no other user to become.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let has_others = map.split_whitespace().last().is_some_and(|count| count.len() > 4);
    if user == User::Nobody && rustix::process::geteuid().is_root() && has_others {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    }
    command.arg("--");
    command
}
