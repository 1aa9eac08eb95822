//! The one place where errors of the crates below become Python's exceptions, whose classes are
//! in `nono_py/_errors.py`: an extension module cannot put one class beneath two.
//!
//! No message here holds a secret: the crates' own errors name a field or a reference, never
//! what a reference leads to.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{io, iter};

use nono_audit::VerifyError;
use nono_audit::attest::KeyFault;
use nono_credentials::{Fault, ParseError};
use nono_proxy::StartError;
use nono_sandbox::policy::PolicyError;
use nono_sandbox::snapshot::SnapshotError;
use nono_sandbox::{CapabilitySet, Query, Step, Suggestion};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::IntoPyDict as _;

/// Where the classes are.
const MODULE: &str = "nono_py._errors";

/// A class of the package, and what its instances carry besides their text.
#[derive(Clone, Copy)]
struct Kind {
    class: &'static str,
    /// The attribute `diagnostic_code`.
    code: &'static str,
    /// The `kind` of the attribute `remediation`.
    remedy: Option<&'static str>,
}

impl Kind {
    const fn new(class: &'static str, code: &'static str) -> Self {
        Self { class, code, remedy: None }
    }

    const fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }

    fn raise(self, text: impl Into<String>) -> PyErr {
        self.raise_with((text.into(),), &[])
    }

    fn raise_with(
        self,
        arguments: impl for<'py> PyCallArgs<'py>,
        attributes: &[(&str, usize)],
    ) -> PyErr {
        Python::attach(|py| {
            let made = || -> PyResult<Bound<'_, PyAny>> {
                let error = py.import(MODULE)?.getattr(self.class)?.call1(arguments)?;
                error.setattr("diagnostic_code", self.code)?;
                if let Some(remedy) = self.remedy {
                    error.setattr("remediation", [("kind", remedy)].into_py_dict(py)?)?;
                }
                for (name, value) in attributes {
                    error.setattr(*name, value)?;
                }
                Ok(error)
            };
            made().map_or_else(|error| error, PyErr::from_value)
        })
    }
}

const ARGUMENT: Kind = Kind::new("ConfigurationError", "invalid_argument");
const CONFIGURATION: Kind = Kind::new("ConfigurationError", "configuration_error");
const POLICY: Kind = Kind::new("PolicyError", "configuration_error").with_remedy("check_policy");
const VERIFICATION: Kind = Kind::new("VerificationError", "verification_failed");
const SANDBOX: Kind = Kind::new("SandboxError", "sandbox_failed");
const UNSUPPORTED: &str = "unsupported_platform_feature";

/// An argument of a call that cannot be meant.
pub(crate) fn argument_error(text: impl Into<String>) -> PyErr {
    ARGUMENT.raise(text)
}

/// A sandbox that would not hold, or is not the one that was meant.
pub(crate) fn unsound(text: impl Into<String>) -> PyErr {
    SANDBOX.raise(text)
}

/// A configuration that cannot be meant is a `ConfigurationError`; one that could be, but that
/// this version cannot serve, an `UnsupportedError`.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn config_error(error: nono_proxy::ConfigError) -> PyErr {
    if error.is_unsupported() {
        return Kind::new("UnsupportedError", "not_supported").raise(error.to_string());
    }
    CONFIGURATION.raise(error.to_string())
}

/// A proxy that could not start.
pub(crate) fn start_error(error: StartError) -> PyErr {
    let code = match &error {
        StartError::Config(_) => "configuration_error",
        StartError::Bind { .. } => "address_not_available",
        StartError::AuditFile { .. } => "audit_file_failed",
        StartError::OtlpQueue { .. } => "otlp_queue_failed",
        _ => "start_failed",
    };
    match error {
        StartError::Config(error) => config_error(error),
        error => Kind::new("ProxyError", code).raise(format!("failed to start the proxy: {error}")),
    }
}

/// A proxy, or a log of one, in a process that has only a copy of it; `process` started it.
pub(crate) fn foreign(process: u32) -> PyErr {
    let text = format!(
        "this belongs to process {process}, of which this one is a forked copy: what is recorded \
         there can be had there only; a proxy that is started here has records of its own"
    );
    Kind::new("ProxyError", "other_process").raise(text)
}

/// A proxy that was shut down.
pub(crate) fn ended_error() -> PyErr {
    Kind::new("ProxyError", "proxy_ended")
        .raise("the proxy was shut down: start another one with `start_proxy`")
}

/// A sandbox that could not be described, entered or run in.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn sandbox_error(error: nono_sandbox::Error) -> PyErr {
    use nono_sandbox::Error;
    let text = with_sources(&error);
    match &error {
        Error::PathMissing { path, source } | Error::Resolve { path, source } => {
            path_error(source, path)
        }
        Error::Spawn { step: Step::WorkingDirectory, path: Some(path), source } => {
            path_error(source, path)
        }
        Error::Deny { .. } => Kind::new("ConfigurationError", "sandbox_denied_path")
            .with_remedy("narrow_grant")
            .raise(text),
        error if error.is_bad_argument() => CONFIGURATION.raise(text),
        Error::Unsupported { .. } => Kind::new("SandboxError", UNSUPPORTED).raise(text),
        Error::ProgramNotFound { program } => {
            let kind = Kind::new("SandboxError", "program_not_found");
            no_program(kind.raise(text), "ENOENT", program)
        }
        Error::ProgramNotExecutable { path } => {
            no_program(SANDBOX.raise(text), "EACCES", path.as_os_str())
        }
        _ => SANDBOX.raise(text),
    }
}

/// A descriptor that no program could be given.
pub(crate) fn descriptor_error(error: io::Error) -> PyErr {
    match error.downcast::<nono_sandbox::Error>() {
        Ok(error) => sandbox_error(error),
        Err(error) => error.into(),
    }
}

/// Says of an error what the system would say of the program, and which one that is.
fn no_program(error: PyErr, number: &str, program: &OsStr) -> PyErr {
    let said = Python::attach(|py| {
        let number = py.import("errno")?.getattr(number)?;
        error.value(py).setattr("errno", number)?;
        error.value(py).setattr("filename", program)
    });
    said.map_or_else(|failed| failed, |()| error)
}

/// A program that could not run in a sandbox of `caps`. Where it is the sandbox that keeps it from
/// running, what must be granted is in the remediation: the program is the caller's choice, so no
/// child can ask for a grant by it.
pub(crate) fn run_error(py: Python<'_>, error: nono_sandbox::Error, caps: &CapabilitySet) -> PyErr {
    let nono_sandbox::Error::Spawn { step: Step::Execute, path: Some(path), source } = &error
    else {
        return sandbox_error(error);
    };
    let query = Query::new(caps.clone());
    let missing = (source.kind() == io::ErrorKind::PermissionDenied)
        .then(|| py.detach(|| query.suggest_execution(path)))
        .flatten();
    let mut text = with_sources(&error);
    let code = if missing.is_some() { "program_not_granted" } else { SANDBOX.code };
    if let Some(Suggestion::File(file, _)) = &missing {
        let _ = write!(text, ": `{}` is not granted", file.display());
        if is_python(path)
            && let Some(running) = running_python(py)
        {
            let _ = write!(text, "; {}", advice(&query, &running));
        }
    }
    let raised = Kind { code, ..SANDBOX }.raise(text);
    match with_place(py, &raised, source, path, missing.as_ref()) {
        Ok(()) => raised,
        Err(failed) => failed,
    }
}

/// Whether a program's name is one of a Python's.
fn is_python(program: &Path) -> bool {
    let name = program.file_name().and_then(OsStr::to_str);
    let version = name.and_then(|name| name.strip_prefix("python"));
    version.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// None within a program that has a Python in it.
fn running_python(py: Python<'_>) -> Option<PathBuf> {
    let running: PyResult<PathBuf> =
        py.import("sys").and_then(|sys| sys.getattr("executable")?.extract());
    running.ok().filter(|path| path.is_absolute())
}

/// A search may find another Python, or a script that looks for one.
fn advice(query: &Query, running: &Path) -> String {
    let grant = match query.suggest_execution(running) {
        None => "is granted",
        Some(_) => "is granted by `allow_interpreter()`",
    };
    let running = running.display();
    format!("the Python that runs now {grant}: name it by `sys.executable` ({running})")
}

/// Says of an error about a program where that is, and what is to be granted.
fn with_place(
    py: Python<'_>,
    error: &PyErr,
    source: &io::Error,
    path: &Path,
    missing: Option<&Suggestion>,
) -> PyResult<()> {
    let error = error.value(py);
    error.setattr("errno", source.raw_os_error())?;
    error.setattr("filename", path.as_os_str())?;
    if let Some(grant @ Suggestion::File(file, _)) = missing {
        let remedy = [("kind", "grant_path"), ("access", "Read")].into_py_dict(py)?;
        remedy.set_item("path", file.as_os_str())?;
        remedy.set_item("grant", grant.to_string())?;
        error.setattr("remediation", remedy)?;
    }
    Ok(())
}

/// A snapshot that could not be made, read or restored.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn snapshot_error(error: SnapshotError) -> PyErr {
    let text = with_sources(&error);
    let session = |code| Kind::new("SnapshotError", code);
    match &error {
        SnapshotError::Unsupported { .. } => session(UNSUPPORTED).raise(text),
        SnapshotError::Glob { .. } | SnapshotError::Root { .. } => CONFIGURATION.raise(text),
        SnapshotError::Budget { .. } => session("rollback_budget_exceeded")
            .with_remedy("adjust_rollback_budget")
            .raise(format!("Snapshot error: {text}")),
        SnapshotError::NoBaseline => session("no_snapshot").raise(text),
        SnapshotError::SessionNotFound { .. } => session("session_not_found").raise(text),
        SnapshotError::NoSuchSnapshot { .. } => session("no_snapshot").raise(text),
        SnapshotError::Objects { .. } => session("object_damaged").raise(text),
        SnapshotError::ManifestFormat { .. }
        | SnapshotError::ManifestChanged { .. }
        | SnapshotError::Outside { .. } => session("manifest_damaged").raise(text),
        SnapshotError::Incomplete { .. } => session("restore_incomplete").raise(text),
        _ => session("snapshot_failed").raise(format!("Snapshot error: {text}")),
    }
}

/// A policy, or a choice of its groups, that cannot be taken.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn policy_error(error: PolicyError) -> PyErr {
    match &error {
        PolicyError::Overlaps { .. } => Kind::new("SandboxError", "sandbox_denied_path")
            .with_remedy("narrow_grant")
            .raise(error.to_string()),
        PolicyError::Unresolved { .. } => {
            Kind::new("SandboxError", "sandbox_denied_path").raise(with_sources(&error))
        }
        // The text of an error of the parser holds that of its source.
        PolicyError::Format { source, .. } => POLICY.raise_with(
            (error.to_string(),),
            &[("line", source.line()), ("column", source.column())],
        ),
        _ => POLICY.raise(with_sources(&error)),
    }
}

/// A mistake in a policy that only the proxy knows for one.
pub(crate) fn policy_fault(text: impl Into<String>) -> PyErr {
    POLICY.raise(text)
}

/// A reference to a credential that is none.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn reference_error(error: ParseError) -> PyErr {
    match error {
        ParseError::Unsupported(_) => {
            Kind::new("UnsupportedError", "not_supported").raise(error.to_string())
        }
        ParseError::Invalid(_) | ParseError::Secret => CONFIGURATION.raise(error.to_string()),
    }
}

/// A credential that could not be fetched or stored.
pub(crate) fn credential_fault(fault: Fault) -> PyErr {
    match fault {
        Fault::Missing(text) => credential_error("credential_not_found", text),
        Fault::Unavailable(text) => credential_error("credential_unavailable", text),
        Fault::Failed { how, said } => {
            credential_error("credential_unavailable", format!("{how} and said: {said}"))
        }
        Fault::TimedOut => {
            credential_error("credential_timeout", "the keyring did not answer in time".to_owned())
        }
    }
}

/// A credential that could not be had, by the code that a route is refused with.
pub(crate) fn credential_error(code: &'static str, text: String) -> PyErr {
    let is_missing = code == "credential_not_found";
    let class = if is_missing { "CredentialNotFoundError" } else { "CredentialError" };
    Kind::new(class, code).raise(text)
}

/// An error and what caused it: Python has one line for both.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        // Some libraries' errors have their cause in their own text.
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// A log, ledger or signature that is not what it should be, or a file that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn verify_error(error: VerifyError) -> PyErr {
    match &error {
        VerifyError::Io { path, source } => path_error(source, path),
        VerifyError::Invalid(reason) => VERIFICATION.raise(reason),
    }
}

/// A key that cannot sign.
pub(crate) fn key_error(fault: KeyFault) -> PyErr {
    match fault {
        KeyFault::NotP256 => VERIFICATION.raise(fault.to_string()),
        KeyFault::PasswordMissing | KeyFault::PasswordUnneeded => {
            PyTypeError::new_err(fault.to_string())
        }
        KeyFault::Unreadable | KeyFault::PasswordWrong | KeyFault::Encryption => {
            argument_error(fault.to_string())
        }
    }
}

/// An error of the operating system about a path, with `errno` and `filename` set, of the subclass
/// that Python has for the number.
pub(crate) fn path_error(error: &io::Error, path: &Path) -> PyErr {
    let text = error.to_string();
    // The number is an attribute already; the text of the standard library repeats it.
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::new("PathNotFoundError", "path_not_found"),
        io::ErrorKind::PermissionDenied => Kind::new("PathPermissionError", "path_not_permitted"),
        io::ErrorKind::AlreadyExists => Kind::new("PathExistsError", "path_exists"),
        io::ErrorKind::NotADirectory => Kind::new("PathNotADirectoryError", "path_unusable"),
        _ => Kind::new("PathError", "path_unusable"),
    };
    match error.raw_os_error() {
        Some(number) => kind.raise_with((number, text, path.as_os_str().to_owned()), &[]),
        None => kind.raise(format!("{text}: {}", path.display())),
    }
}
