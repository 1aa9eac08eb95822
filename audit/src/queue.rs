//! Records on disk until somebody has delivered them, whichever process that is.
//!
//! A queue is a directory of files, `queue-1.ndjson`, `queue-2.ndjson`, … Of each the first line says
//! whose records follow; every line begins with a check sum of itself, so that what is damaged is
//! told from what is not. `taken` says up to where all is delivered; files before that are removed.
//!
//! What is written survives the process, however that ends, from its last whole line on backwards;
//! it survives a power cut only from when it is synchronised on: each file when the next is begun,
//! the last at the end of the process.

mod line;
mod read;
mod write;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::claim::Claim;
use crate::otlp::Resource;
use line::Position;
pub use read::{Damage, Delivery, QueueReader, State};
pub use write::QueueSink;

/// A file's size when the next one is begun: so many fill the queue that room is made in parts.
const FILES: u64 = 8;
/// Larger ones would only take longer to be removed.
const LARGEST_FILE: u64 = 8 << 20;

/// Where a queue is, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// Its directory, in which nobody else should write.
    pub directory: PathBuf,
    /// How many bytes its files may have; what is beyond stays in the log.
    pub max_bytes: u64,
}

impl QueueOptions {
    /// The least [`QueueOptions::max_bytes`]: every record fits, and there is more than one file.
    pub const LEAST_BYTES: u64 = 1 << 20;

    /// What is usual for it: some four hundred thousand records.
    pub const DEFAULT_BYTES: u64 = 256 << 20;
}

/// What its two ends share.
#[derive(Debug)]
struct Shared {
    options: QueueOptions,
    files: Mutex<Files>,
    /// Held for as long as the queue is in use.
    _lock: Claim,
}

#[derive(Debug)]
struct Files {
    all: VecDeque<Part>,
    /// Up to where all is delivered.
    settled: Position,
    /// Whether nothing more is written.
    has_ended: bool,
}

/// One file, as far as it has whole lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    number: u64,
    len: u64,
    /// Whether it will not grow any more.
    is_closed: bool,
}

impl Part {
    /// Whether its end is behind `at`.
    fn is_behind(&self, at: Position) -> bool {
        self.behind(at) > 0
    }

    /// How many of its bytes are behind `at`.
    fn behind(&self, at: Position) -> u64 {
        match self.number.cmp(&at.file) {
            Ordering::Less => 0,
            Ordering::Equal => self.len.saturating_sub(at.offset),
            Ordering::Greater => self.len,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Files> {
        // Every change is whole before anything that could panic.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files of which all is delivered and that do not grow.
    fn release(&self) {
        let mut files = self.lock();
        let settled = files.settled;
        // One after the other from the front: not a single file behind one that is needed goes.
        let is_done = |part: &&Part| part.is_closed && !part.is_behind(settled);
        let count = files.all.iter().take_while(is_done).count();
        let done: Vec<_> = files.all.drain(..count).collect();
        drop(files);
        for part in done {
            // One that cannot be removed is, when the queue is next opened.
            let _ = fs::remove_file(self.path(part.number));
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&self.options.directory, number)
    }
}

/// A file's size when the next one is begun.
fn file_size(max_bytes: u64) -> u64 {
    (max_bytes / FILES).min(LARGEST_FILE)
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("queue-{number}.ndjson"))
}

/// Opens the queue in a directory that is there: its two ends. `resource` says whose records will be written;
/// `wake` is called whenever there is something new for the reader. What another process has left
/// is read first.
///
/// # Errors
/// The directory or a file in it cannot be used, or something else writes to it.
pub fn open(
    options: QueueOptions,
    resource: Resource,
    wake: impl Fn() + Send + 'static,
) -> io::Result<(QueueSink, QueueReader)> {
    let directory = &options.directory;
    let lock = open_own(&directory.join("lock"))?;
    let lock = Claim::new(lock)?;
    let taken = open_own(&directory.join("taken"))?;
    let (at, is_damaged) = match Position::read(&taken)? {
        Some(Ok(at)) => (at, false),
        Some(Err(())) => (Position::default(), true),
        None => {
            // What is written over it later needs no room, which a full disk would not have.
            Position::default().write(&taken)?;
            (Position::default(), false)
        }
    };
    let (mut all, mut last) = (VecDeque::new(), at.file);
    for number in numbers(directory)? {
        let path = path(directory, number);
        let part = Part { number, len: fs::metadata(&path)?.len(), is_closed: true };
        last = last.max(number);
        if part.is_behind(at) {
            all.push_back(part);
        } else {
            // All is delivered, or there is nothing: it was made and never written.
            fs::remove_file(path)?;
        }
    }
    let files = Mutex::new(Files { all, settled: at, has_ended: false });
    let shared = Arc::new(Shared { options, files, _lock: lock });
    let sink = QueueSink::new(Arc::clone(&shared), last + 1, &resource, Box::new(wake))?;
    Ok((sink, QueueReader::new(shared, resource, taken, at, is_damaged)))
}

/// Opens a file that its owner alone reads.
fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The numbers of the files in `directory`, in order.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix("queue-")?.strip_suffix(".ndjson")?;
            digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
        });
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
