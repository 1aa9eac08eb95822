//! Keeps the record of a session while it runs: its `session.json`, and the log beside it.
//!
//! Both are there before the command begins. The log grows as things happen; `session.json` is
//! written anew at the end, whole or not at all. What a crash leaves is a session without an end,
//! and a log of which at most the last line is cut.

mod follower;
mod journal;
mod prepared;
mod repeated;

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::{
    Consumer, EVENTS_FILENAME, ExecutableIdentity, Record, SESSION_FILENAME, SessionEnded,
    SessionEvent, SessionMetadata, SessionStarted, timestamp,
};

use follower::Follower;
use journal::Journal;

/// The record of a session that runs. Dropped before its [`end`](Self::end), it keeps what is known
/// by then, without an exit code.
#[derive(Debug)]
pub struct SessionRecorder {
    directory: PathBuf,
    metadata: SessionMetadata,
    /// None when it has ended.
    journal: Option<Source>,
}

/// Who writes to the log.
#[derive(Debug)]
enum Source {
    Own(Journal),
    Followed(Follower),
}

/// What became of a session's command.
#[derive(Debug, Default)]
pub struct Ending {
    /// Its exit code, `-N` for signal N; `None` if it never ran, or nobody knows.
    pub exit_code: Option<i32>,
    /// Which file was executed, if that is known.
    pub executable: Option<ExecutableIdentity>,
    /// What was decided besides the requests of its proxy.
    pub decisions: Vec<SessionEvent>,
    /// The roots of the session's snapshots, each 64 hexadecimal digits.
    pub merkle_roots: Vec<String>,
}

impl SessionRecorder {
    /// Makes the directory of a record if it is not there, for its owner alone, and returns it
    /// without links: so that it can be judged before anything is written to it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn prepare(directory: &Path) -> Result<PathBuf, RecordError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.and_then(|()| fs::canonicalize(directory)).map_err(about(directory))
    }

    /// Begins the record of `command` in `directory`, which is made if it is not there. With a
    /// `consumer`, the exchanges of its proxy that begin from now on are recorded as they end.
    ///
    /// A `session.json` that is there already, of a session that has not run, is gone on with: what
    /// it says is kept, but for the command, the beginning, and tracked paths if others are given.
    ///
    /// # Errors
    /// With [`io::ErrorKind::AlreadyExists`] if there is a record of a run already: it is never
    /// written over. Else with what the operating system says; it can then be tried again.
    pub fn begin(
        directory: &Path,
        command: Vec<String>,
        tracked_paths: Option<Vec<PathBuf>>,
        consumer: Option<Consumer>,
    ) -> Result<Self, RecordError> {
        let directory = Self::prepare(directory)?;
        let metadata = prepared::session(&directory, command, tracked_paths)?;
        let journal = Journal::create(&directory.join(EVENTS_FILENAME))?;
        let mut begun = Self { directory, metadata, journal: None };
        begun.start(journal, consumer).inspect_err(|_| begun.forget())?;
        Ok(begun)
    }

    /// The record as it is now.
    pub fn metadata(&self) -> &SessionMetadata {
        &self.metadata
    }

    /// Where it is kept, without links.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends the record, and returns it. What the followed proxy has not ended by now is recorded as
    /// far as it has come: that is what `running` returns.
    ///
    /// # Errors
    /// Something could not be written. What could be is kept.
    pub fn end(
        mut self,
        ending: Ending,
        running: impl FnOnce() -> Vec<Record>,
    ) -> Result<SessionMetadata, RecordError> {
        self.conclude(ending, running)?;
        Ok(self.metadata.clone())
    }

    /// Writes what a session begins with: what tells that it has begun comes last.
    fn start(
        &mut self,
        mut journal: Journal,
        consumer: Option<Consumer>,
    ) -> Result<(), RecordError> {
        let started = SessionStarted {
            started: self.metadata.started.clone(),
            command: self.metadata.command.clone(),
            redaction_policy: None,
        };
        journal.write(vec![SessionEvent::SessionStarted(started)])?;
        let source = match consumer {
            None => Source::Own(journal),
            Some(consumer) => Source::Followed(
                Follower::start(journal, consumer).map_err(about(&self.directory))?,
            ),
        };
        self.journal = Some(source);
        self.save()
    }

    /// Undoes a beginning that failed, so that it can be tried again.
    fn forget(&mut self) {
        if let Some(Source::Followed(follower)) = self.journal.take() {
            let _ = follower.stop(Vec::new);
        }
        // What cannot be removed is named when it is tried again.
        let _ = fs::remove_file(self.directory.join(EVENTS_FILENAME));
    }

    fn conclude(
        &mut self,
        mut ending: Ending,
        running: impl FnOnce() -> Vec<Record>,
    ) -> Result<(), RecordError> {
        let mut journal = match self.journal.take() {
            None => return Ok(()),
            Some(Source::Own(journal)) => journal,
            Some(Source::Followed(follower)) => {
                follower.stop(running).map_err(about(&self.directory))?
            }
        };
        let ended = timestamp();
        journal.record(mem::take(&mut ending.decisions));
        journal.record(ending.exit_code.map(|code| {
            let (ended, exit_code) = (ended.clone(), i64::from(code));
            SessionEvent::SessionEnded(SessionEnded { ended, exit_code })
        }));
        let synced = journal.sync();
        let written = self.keep(ended, ending, journal);
        let saved = self.save();
        written.and(synced).and(saved)
    }

    /// Takes over what became of the command, and what its log comes to.
    fn keep(&mut self, ended: String, ending: Ending, journal: Journal) -> Result<(), RecordError> {
        let metadata = &mut self.metadata;
        metadata.ended = Some(ended);
        metadata.exit_code = ending.exit_code;
        // Of what has run, only what was found then is known to be it.
        if ending.exit_code.is_some() {
            metadata.executable_identity = ending.executable;
        }
        let noted = mem::take(&mut metadata.merkle_roots);
        metadata.merkle_roots = prepared::roots(noted, ending.merkle_roots);
        let count = u32::try_from(metadata.merkle_roots.len()).unwrap_or(u32::MAX);
        metadata.snapshot_count = count.max(metadata.snapshot_count);
        metadata.audit_event_count = journal.count();
        metadata.audit_integrity = journal.integrity();
        let (network, written) = journal.close();
        metadata.network_events.extend(network);
        written
    }

    /// Writes `session.json` beside its place and moves it there.
    fn save(&self) -> Result<(), RecordError> {
        let path = self.directory.join(SESSION_FILENAME);
        let save = || -> io::Result<()> {
            let text = self.metadata.to_json()?;
            // It is its owner's alone.
            let mut file = tempfile::NamedTempFile::with_prefix_in(".session-", &self.directory)?;
            file.write_all(text.as_bytes())?;
            let is_final = self.metadata.ended.is_some();
            if is_final {
                file.as_file().sync_all()?;
            }
            file.persist(&path)?;
            // A machine that goes down takes a running session with it, and no ended one.
            if is_final { File::open(&self.directory)?.sync_all() } else { Ok(()) }
        };
        save().map_err(about(&path))
    }
}

impl Drop for SessionRecorder {
    fn drop(&mut self) {
        // There is nobody to tell: the session has no end in its record then.
        let _ = self.conclude(Ending::default(), Vec::new);
    }
}

fn is_taken() -> io::Error {
    let said = "it is the record of another run, and is kept: choose another directory";
    io::Error::new(io::ErrorKind::AlreadyExists, said)
}

/// A record that could not be begun or ended: a file of it, and what the operating system says.
#[derive(Debug)]
pub struct RecordError {
    /// The file, or the directory of the record.
    pub path: PathBuf,
    /// What was said.
    pub source: io::Error,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    move |source| RecordError { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
