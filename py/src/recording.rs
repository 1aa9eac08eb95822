//! `session=`: the record of a run, in a directory of its own.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nono_audit::redact::REDACTED;
use nono_audit::{
    Approval, AuditEntry, CapabilityDecision, CapabilityRequest, DenialCategory, Ending, EventMode,
    ExecutableIdentity, Network, NetworkEvent, RecordError, SessionEvent, SessionRecorder,
    timestamp,
};
use nono_sandbox::snapshot::{ExclusionConfig, Limits, SnapshotManager};
use nono_sandbox::{
    Access, Action, CapabilitySet, Denial, Error, FsCapability, Output, PathAnswer, Query, Target,
};
use pyo3::prelude::*;

use crate::arguments::OsArgument;
use crate::error::{argument_error, path_error, snapshot_error, unsound};
use crate::local::Local;
use crate::proxy::PyProxyHandle;
use crate::session::PySessionMetadata;
use crate::snapshot::PySnapshotManager;

/// The exit code of a program that was killed because its caller gave up.
const KILLED: i32 = -9;
/// Who has denied what is recorded as denied.
const BACKEND: &str = "sandbox";

/// Where a session is kept: a directory, or that of a `SnapshotManager`.
#[derive(Debug)]
pub(crate) enum SessionArgument {
    Directory(PathBuf),
    Manager(Py<PySnapshotManager>),
}

impl FromPyObject<'_, '_> for SessionArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(manager) = object.cast::<PySnapshotManager>() {
            return Ok(Self::Manager(manager.to_owned().unbind()));
        }
        Ok(Self::Directory(object.extract::<OsArgument>()?.0.into()))
    }
}

impl SessionArgument {
    fn directory(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Manager(manager) => manager.get().inner().directory(),
        }
    }

    /// What the session's snapshots are of, if that is known here.
    fn tracked(&self) -> Option<Vec<PathBuf>> {
        match self {
            Self::Directory(_) => None,
            Self::Manager(manager) => Some(manager.get().inner().tracked_paths()),
        }
    }
}

/// What is to be recorded of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    place: SessionArgument,
    command: Vec<String>,
    proxy: Option<Py<PyProxyHandle>>,
}

impl Plan {
    /// Records `command` at `place`, with what `proxy` is asked for meanwhile. The token of the
    /// proxy is left out of the command; else it is recorded as it is.
    pub(crate) fn new(
        place: SessionArgument,
        command: &[OsString],
        proxy: Option<Py<PyProxyHandle>>,
    ) -> Self {
        let token = proxy.as_ref().map(|proxy| proxy.get().token()).unwrap_or_default();
        let word = |word: &OsString| {
            let word = word.to_string_lossy();
            if token.is_empty() { word.into_owned() } else { word.replace(&token, REDACTED) }
        };
        Self { place, command: command.iter().map(word).collect(), proxy }
    }

    /// Begins the record of a run under `caps`.
    ///
    /// # Errors
    /// There is a record already, it cannot be written, or the program could change it.
    pub(crate) fn begin(self: &Arc<Self>, caps: &CapabilitySet) -> PyResult<Recording> {
        let named = self.place.directory();
        let consumer = self.proxy.as_ref().map(|proxy| proxy.get().consumer()).transpose()?;
        // Before anything is made, and again of what was: links may lead elsewhere by then.
        out_of_reach(named, caps)?;
        let fault = |error: RecordError| path_error(&error.source, &error.path);
        let directory = SessionRecorder::prepare(named).map_err(fault)?;
        out_of_reach(&directory, caps)?;
        let roots = roots_in(&directory, Vec::new())?;
        let (command, tracked) = (self.command.clone(), self.place.tracked());
        let recorder = SessionRecorder::begin(&directory, command, tracked, consumer);
        let open = Local::new(Mutex::new(Some((recorder.map_err(fault)?, roots))));
        Ok(Recording { plan: Arc::clone(self), open })
    }
}

/// The record of a run that has begun. Dropped before its [`end`](Self::end), it keeps what is known
/// by then, without an exit code: nobody has waited for it.
#[derive(Debug)]
pub(crate) struct Recording {
    plan: Arc<Plan>,
    /// None when it has ended.
    open: Local<Mutex<Option<Open>>>,
}

/// What writes a record, and the roots of the snapshots that were there at the beginning.
type Open = (SessionRecorder, Vec<String>);

impl Recording {
    /// Ends the record with what became of the run, if that is known, and returns it; None if it has
    /// ended already.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn end(
        &self,
        outcome: Option<Result<&Output, &Error>>,
    ) -> PyResult<Option<PySessionMetadata>> {
        let open = self.open.get()?.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((recorder, known)) = open else { return Ok(None) };
        let directory = recorder.directory().to_owned();
        let roots = roots_in(&directory, known.clone());
        let (merkle_roots, unreadable) = match roots {
            Ok(roots) => (roots, None),
            Err(error) => (known, Some(error)),
        };
        let id = recorder.metadata().session_id.clone();
        let known = outcome.map(|outcome| ending(outcome, &id)).unwrap_or_default();
        let ending = Ending { merkle_roots, ..known };
        let proxy = self.plan.proxy.as_ref();
        // It is of the process that the record is of, in which this runs.
        let running = || proxy.and_then(|proxy| proxy.get().running().ok()).unwrap_or_default();
        let ended = recorder.end(ending, running).map_err(|error| lost(&error, outcome))?;
        match unreadable {
            None => Ok(Some(PySessionMetadata::from(ended))),
            Some(error) => Err(lost(&error, outcome)),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // There is nobody to tell; and in a forked child the record is the parent's.
        let _ = self.end(None);
    }
}

/// What is said when a program has run and its record is not whole.
fn lost(error: &dyn Display, outcome: Option<Result<&Output, &Error>>) -> PyErr {
    let ended = match outcome {
        Some(Ok(output)) => format!("the program ended with {}", output.exit_code),
        Some(Err(error)) => error.to_string(),
        None => "the program was let go of".to_owned(),
    };
    unsound(format!("{ended}, but the record of its session is not whole: {error}"))
}

/// Refuses a record that the program could change, or of which that is not known.
fn out_of_reach(directory: &Path, caps: &CapabilitySet) -> PyResult<()> {
    let query = Query::new(caps.clone());
    let answer = query.path(directory, Access::Write);
    let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let beneath =
        |grant: &&FsCapability| grant.access().is_write() && grant.resolved().starts_with(&real);
    let found = match &answer {
        PathAnswer::Allowed(_) => Some(directory),
        PathAnswer::Unreachable => return Err(leads_nowhere(directory)),
        _ => caps.fs_capabilities().iter().find(beneath).map(FsCapability::resolved),
    };
    match found {
        None => Ok(()),
        Some(path) => Err(argument_error(format!(
            "session: the program may write {}, and so change the record in {}: keep it elsewhere",
            path.display(),
            directory.display()
        ))),
    }
}

/// Why a path cannot be followed, to what is there or could be made.
fn leads_nowhere(path: &Path) -> PyErr {
    match fs::canonicalize(path) {
        _ if path.as_os_str().is_empty() => argument_error("session must not be empty"),
        Err(error) if error.kind() != io::ErrorKind::NotFound => path_error(&error, path),
        _ => argument_error(format!(
            "session: {} leads nowhere: there is a `..` behind what does not exist",
            path.display()
        )),
    }
}

/// The roots of the snapshots in `directory`, of which the first ones are `known`.
fn roots_in(directory: &Path, known: Vec<String>) -> PyResult<Vec<String>> {
    if !directory.join("snapshots").is_dir() {
        return Ok(known);
    }
    let (exclusion, limits) = (ExclusionConfig::default(), Limits::default());
    let read = || {
        let session = SnapshotManager::new(directory, &[], exclusion, limits)?;
        let mut roots = known;
        for number in u32::try_from(roots.len()).unwrap_or(u32::MAX)..session.snapshot_count()? {
            roots.push(session.load_manifest(number)?.merkle_root.to_string());
        }
        Ok(roots)
    };
    read().map_err(snapshot_error)
}

/// What a session keeps of a run's outcome.
fn ending(outcome: Result<&Output, &Error>, session: &str) -> Ending {
    match outcome {
        Ok(output) => Ending {
            exit_code: Some(output.exit_code),
            executable: output.executable.as_ref().map(|file| ExecutableIdentity {
                // A session has no place for what is no UTF-8.
                resolved_path: file.path.to_string_lossy().into_owned().into(),
                sha256: file.sha256.to_string(),
            }),
            decisions: decisions(output, session),
            ..Ending::default()
        },
        Err(Error::Cancelled) => Ending { exit_code: Some(KILLED), ..Ending::default() },
        Err(_) => Ending::default(),
    }
}

/// What the sandbox has refused, as far as it was asked. When is not known: it says the end.
fn decisions(output: &Output, session: &str) -> Vec<SessionEvent> {
    let denied = output.denials.iter().enumerate();
    let event = |(number, denial): (usize, &Denial)| match denial.target {
        Target::Address(address) => {
            SessionEvent::Network(Network { event: refused(denial, address) })
        }
        _ => SessionEvent::CapabilityDecision(CapabilityDecision {
            entry: AuditEntry {
                timestamp: timestamp(),
                request: CapabilityRequest {
                    request_id: format!("{session}-{number}"),
                    path: place(&denial.target),
                    access: match denial.action {
                        Action::Change => nono_audit::Access::Write,
                        _ => nono_audit::Access::ReadWrite,
                    },
                    reason: None,
                    child_pid: output.number.into(),
                    session_id: session.to_owned(),
                },
                decision: Approval::Denied(nono_audit::Denial { reason: denial.to_string() }),
                backend: BACKEND.to_owned(),
                duration_ms: 0,
            },
        }),
    };
    denied.map(event).collect()
}

fn place(target: &Target) -> String {
    match target {
        Target::Path(path) => path.to_string_lossy().into_owned(),
        Target::Name(name) => format!("@{}", name.escape_ascii()),
        _ => String::new(),
    }
}

fn refused(denial: &Denial, address: SocketAddr) -> NetworkEvent {
    NetworkEvent {
        denial_category: Some(DenialCategory::HostDenied.as_str().to_owned()),
        target: address.ip().to_string(),
        port: Some(address.port()),
        ..NetworkEvent::refused(EventMode::Connect, denial.to_string())
    }
}
