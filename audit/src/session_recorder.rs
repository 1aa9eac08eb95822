//! Keeps the record of a session while it runs: its `session.json`, and the log beside it.
//!
//! Both are there before the command begins. The log grows as things happen; `session.json` is
//! written anew at the end, whole or not at all. What a crash leaves is a session without an end,
//! and a log of which at most the last line is cut.

mod follower;
mod journal;

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::recorder::unix_ms;
use crate::{
    Consumer, EVENTS_FILENAME, ExecutableIdentity, Record, SESSION_FILENAME, SessionEnded,
    SessionEvent, SessionMetadata, SessionStarted, regular, timestamp,
};

use follower::Follower;
use journal::Journal;

/// Bytes of the number that tells sessions of one second apart.
const ID_BYTES: usize = 4;
/// What an id may have at most, so that a ledger takes it.
const LONGEST_ID: usize = 64;

/// The record of a session that runs. Dropped before its [`end`](Self::end), it keeps what is known
/// by then, without an exit code.
#[derive(Debug)]
pub struct SessionRecorder {
    directory: PathBuf,
    metadata: SessionMetadata,
    began_unix_ms: u64,
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

    /// Begins the record of `command` in `directory`, which is made if it is not there.
    ///
    /// A `session.json` that is there already, of a session that has not run, gives the session its
    /// name, and its tracked paths if none are given.
    ///
    /// # Errors
    /// With [`io::ErrorKind::AlreadyExists`] if there is a record of a run already: it is never
    /// written over. Else with what the operating system says.
    pub fn begin(
        directory: &Path,
        command: Vec<String>,
        tracked_paths: Option<Vec<PathBuf>>,
    ) -> Result<Self, RecordError> {
        let directory = Self::prepare(directory)?;
        let prepared = prepared(&directory)?;
        let tracked = tracked_paths
            .or_else(|| prepared.as_ref().map(|known| known.tracked_paths.clone()))
            .unwrap_or_default();
        let id = match prepared {
            Some(known) => known.session_id,
            None => id_for(&directory)?,
        };
        let metadata = SessionMetadata::new(id, command, tracked);
        let began_unix_ms = unix_ms();
        let journal = Journal::create(&directory.join(EVENTS_FILENAME))?;
        let mut begun =
            Self { directory, metadata, began_unix_ms, journal: Some(Source::Own(journal)) };
        begun.announce().inspect_err(|_| begun.forget())?;
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

    /// From now on records the exchanges of a proxy, as they end. Those that began before the
    /// session are none of it.
    ///
    /// # Errors
    /// The system has no descriptors or threads left.
    pub fn follow(&mut self, consumer: Consumer) -> Result<(), RecordError> {
        if let Some(Source::Own(journal)) = self.journal.take_if(|it| matches!(it, Source::Own(_)))
        {
            let started = Follower::start(journal, consumer, self.began_unix_ms);
            let follower = started.map_err(about(&self.directory))?;
            self.journal = Some(Source::Followed(follower));
        }
        Ok(())
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

    /// Writes what a session begins with.
    fn announce(&mut self) -> Result<(), RecordError> {
        let started = SessionStarted {
            started: self.metadata.started.clone(),
            command: self.metadata.command.clone(),
            redaction_policy: None,
        };
        if let Some(Source::Own(journal)) = &mut self.journal {
            journal.write(SessionEvent::SessionStarted(started))?;
        }
        self.save()
    }

    /// Undoes a beginning that failed, so that it can be tried again.
    fn forget(&mut self) {
        self.journal = None;
        // What cannot be removed is named when it is tried again.
        let _ = fs::remove_file(self.directory.join(EVENTS_FILENAME));
    }

    fn conclude(
        &mut self,
        ending: Ending,
        running: impl FnOnce() -> Vec<Record>,
    ) -> Result<(), RecordError> {
        let (mut journal, followed) = match self.journal.take() {
            None => return Ok(()),
            Some(Source::Own(journal)) => (journal, Ok(())),
            Some(Source::Followed(follower)) => {
                follower.stop(running).map_err(about(&self.directory))?
            }
        };
        let ended = timestamp();
        let written = followed.and_then(|()| {
            ending.decisions.into_iter().try_for_each(|event| journal.write(event))?;
            if let Some(code) = ending.exit_code {
                let exit_code = i64::from(code);
                let ended = SessionEnded { ended: ended.clone(), exit_code };
                journal.write(SessionEvent::SessionEnded(ended))?;
            }
            journal.sync()
        });
        let metadata = &mut self.metadata;
        metadata.ended = Some(ended);
        metadata.exit_code = ending.exit_code;
        metadata.executable_identity = ending.executable;
        metadata.snapshot_count = u32::try_from(ending.merkle_roots.len()).unwrap_or(u32::MAX);
        metadata.merkle_roots = ending.merkle_roots;
        metadata.audit_event_count = journal.count();
        metadata.audit_integrity = journal.integrity();
        metadata.network_events = journal.into_network();
        let saved = self.save();
        written.and(saved)
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

/// The session that `directory` was prepared for, if it has not run.
fn prepared(directory: &Path) -> Result<Option<SessionMetadata>, RecordError> {
    let path = directory.join(SESSION_FILENAME);
    let text = match regular::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(about(&path)(error)),
    };
    let known = SessionMetadata::from_json(&text).map_err(io::Error::from).map_err(about(&path))?;
    if known.ended.is_some() || known.exit_code.is_some() || known.audit_integrity.is_some() {
        return Err(about(&path)(is_taken()));
    }
    Ok(Some(known))
}

fn is_taken() -> io::Error {
    let said = "it is the record of another run, and is kept: choose another directory";
    io::Error::new(io::ErrorKind::AlreadyExists, said)
}

/// What a session in `directory` is called: by the directory if a ledger takes that for a name,
/// else by the time and a random number.
fn id_for(directory: &Path) -> Result<String, RecordError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if (1..=LONGEST_ID).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    let mut random = [0; ID_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other).map_err(about(directory))?;
    let time: String = timestamp().chars().filter(char::is_ascii_digit).collect();
    Ok(format!("{time}-{:08x}", u32::from_be_bytes(random)))
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
