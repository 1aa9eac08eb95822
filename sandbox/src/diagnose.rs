//! Why a command may have failed: what is known of it, and what it says itself.
//!
//! The two are kept apart. A program can write to standard error whatever it likes, for example
//! that it was refused a file that it would like to have; whoever grants what such a line names is
//! led by the nose. So what is taken from there is marked as a hint, is looked for only after a
//! failure, and never proposes a grant.

use std::path::Path;

use serde::Serialize;

use crate::capability::{Access, CapabilitySet};
use crate::denial::{Action, Denial, Target};
use crate::exec::Output;
use crate::query::{PathAnswer, Query};

/// Bytes of standard error that are looked through.
const MOST_BYTES: usize = 64 << 10;
/// Hints that are given at most.
const MOST_HINTS: usize = 50;
/// What goes with every hint.
const ADVICE: &str = "said by the program itself, not by the kernel: grant nothing because of it";

/// What is known of a command's end, and what it says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The exit code of [`Output`].
    pub exit_code: i32,
    /// What the supervisor has refused of hosts and files. The kernel reports none of its own
    /// refusals to an unprivileged caller.
    pub denials: Vec<Diagnostic>,
    /// What the supervisor has refused of unix sockets.
    pub ipc_denials: Vec<Diagnostic>,
    /// Limits that the command has run into.
    pub violations: Vec<Diagnostic>,
    /// All of the above, then the hints, then what to do after a failure.
    pub diagnostics: Vec<Diagnostic>,
}

/// One thing known or said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// What it is, for programs.
    pub code: &'static str,
    /// `info` or `warning`.
    pub severity: &'static str,
    /// What it is, for people.
    pub message: String,
    /// What to make of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// What can be done, where nothing is given away by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remediation: Option<Kind>,
    /// The path that the program names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The host and port that were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The smallest grant that would have let a refused call pass. It is for people to think
    /// about: a program can make a call so that it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Where it is from: [`Detail`] of kind `stderr_observation` for a hint, `supervisor_denial`
    /// for a refusal, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// The kind of a remediation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// `run_discovery` or `check_policy`.
    pub kind: &'static str,
}

/// Where a hint is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// `stderr_observation` or `supervisor_denial`.
    pub kind: &'static str,
    /// What the line looked like, or what was refused.
    pub observation_kind: &'static str,
}

impl Report {
    /// Looks at how a command in a sandbox of `caps` has ended.
    pub fn new(output: &Output, caps: &CapabilitySet) -> Self {
        let violations = violations(output);
        let (ipc_denials, denials) =
            output.denials.iter().map(denied).partition::<Vec<_>, _>(|it| it.code == UNIX_DENIED);
        let mut diagnostics = violations.clone();
        diagnostics.extend(denials.iter().chain(&ipc_denials).cloned());
        let ended = Self::of_exit_code(output.exit_code);
        if output.exit_code != 0 {
            diagnostics.extend(hints(&output.stderr, caps));
        }
        diagnostics.extend(ended.diagnostics);
        Self { denials, ipc_denials, violations, diagnostics, ..ended }
    }

    /// What can be said if nothing but the exit code is known.
    pub fn of_exit_code(exit_code: i32) -> Self {
        let mut diagnostics = Vec::new();
        if exit_code != 0 {
            diagnostics.push(follow_up("command_failed_likely_sandbox", "run_discovery"));
            diagnostics.push(follow_up("command_failed_application", "check_policy"));
        }
        let [denials, ipc_denials, violations] = [const { Vec::new() }; 3];
        Self { exit_code, denials, ipc_denials, violations, diagnostics }
    }
}

/// The code of a refused unix socket.
const UNIX_DENIED: &str = "sandbox_denied_unix_socket";

/// What the supervisor has refused.
fn denied(denial: &Denial) -> Diagnostic {
    let (code, path, address) = match &denial.target {
        Target::Address(address) => ("sandbox_denied_network", None, Some(address.to_string())),
        Target::Path(path) => (UNIX_DENIED, Some(path.display().to_string()), None),
        Target::Name(_) => (UNIX_DENIED, None, None),
        Target::Other if denial.action == Action::Change => ("sandbox_denied_metadata", None, None),
        Target::Other => ("sandbox_denied_network", None, None),
    };
    let observation_kind = match denial.action {
        Action::Connect => "connect",
        Action::Bind => "bind",
        Action::Listen => "listen",
        Action::Change => "change",
    };
    Diagnostic {
        path,
        address,
        grant: denial.smallest_grant(),
        detail: Some(Detail { kind: "supervisor_denial", observation_kind }),
        ..diagnostic(code, "warning", denial.to_string())
    }
}

/// What is known for certain.
fn violations(output: &Output) -> Vec<Diagnostic> {
    let is = |signal| output.signal == Some(signal);
    let known = [
        (output.timed_out, "time_limit", "the time was up, and everything was killed"),
        (output.truncated, "output_limit", "there was more output than is kept"),
        (is(SIGXFSZ), "file_size_limit", "a file would have become larger than is allowed"),
        (output.oom_killed, "memory_limit", "more memory was used than is allowed"),
        (output.cpu_limited, "cpu_limit", "it was killed when its processor time was used up"),
        (output.left_running, "left_running", "a process could not be ended by the kernel"),
    ];
    let broken = known.into_iter().filter(|(is_so, ..)| *is_so);
    broken.map(|(_, code, message)| diagnostic(code, "warning", message.to_owned())).collect()
}

/// As on every Linux that this crate knows.
const SIGXFSZ: i32 = 25;

/// What the program says of itself.
fn hints(stderr: &[u8], caps: &CapabilitySet) -> Vec<Diagnostic> {
    let text = String::from_utf8_lossy(stderr.get(..MOST_BYTES).unwrap_or(stderr));
    let query = Query::new(caps.clone());
    text.lines().filter_map(|line| hint(line, &query, caps)).take(MOST_HINTS).collect()
}

fn hint(line: &str, query: &Query, caps: &CapabilitySet) -> Option<Diagnostic> {
    let lower = line.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let refused = says(&["permission denied", "operation not permitted", "read-only file system"]);
    let is_network = says(&["network", "socket", "connect"]);
    if caps.is_network_blocked() && is_network && (refused || says(&["refused", "unreachable"])) {
        return Some(observed("network_denied_likely", "network_blocked", line, None));
    }
    let path = path_in(line);
    if refused {
        let path = path.filter(|path| !is_granted(query, path))?;
        return Some(observed(
            "command_failed_likely_sandbox",
            "likely_sandbox_path",
            line,
            Some(path),
        ));
    }
    if says(&["no such file or directory"]) {
        return Some(observed("command_failed_application", "missing_path", line, Some(path?)));
    }
    None
}

fn is_granted(query: &Query, path: &str) -> bool {
    matches!(query.path(Path::new(path), Access::Read), PathAnswer::Allowed(_))
}

/// The first absolute path that a line names, in quotes or not.
fn path_in(line: &str) -> Option<&str> {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '(' | ')' | ',');
    let words = line.split(is_end).map(|word| word.trim_end_matches([':', '.', ';']));
    words.into_iter().find(|word| word.starts_with('/') && word.len() > 1)
}

fn observed(
    code: &'static str,
    observation_kind: &'static str,
    line: &str,
    path: Option<&str>,
) -> Diagnostic {
    let detail = Detail { kind: "stderr_observation", observation_kind };
    Diagnostic {
        hint: Some(ADVICE),
        path: path.map(str::to_owned),
        detail: Some(detail),
        ..diagnostic(code, "info", line.trim().to_owned())
    }
}

fn follow_up(code: &'static str, kind: &'static str) -> Diagnostic {
    let message = match kind {
        "run_discovery" => "the sandbox may have refused something: query what is granted",
        _ => "the program may have failed by itself: see its output and what it was given",
    };
    let remediation = Some(Kind { kind });
    Diagnostic { remediation, ..diagnostic(code, "info", message.to_owned()) }
}

fn diagnostic(code: &'static str, severity: &'static str, message: String) -> Diagnostic {
    Diagnostic {
        code,
        severity,
        message,
        hint: None,
        remediation: None,
        path: None,
        address: None,
        grant: None,
        detail: None,
    }
}
