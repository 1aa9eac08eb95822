//! The end of a queue that records are taken out of.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::line::Position;
use super::{Part, Shared, line};
use crate::Record;
use crate::otlp::Resource;

/// See [`open`](super::open).
#[derive(Debug)]
pub struct QueueReader {
    shared: Arc<Shared>,
    /// Who writes now, for files whose first line is damaged.
    own: Resource,
    /// The file that says what is delivered.
    taken: File,
    /// The next line to be read.
    at: Position,
    /// Up to where all is delivered, as the file says.
    settled: Position,
    /// The file that is read.
    open: Option<Open>,
    damage: Option<Damage>,
}

/// A file, and whose records are in it.
#[derive(Debug)]
struct Open {
    number: u64,
    file: File,
    resource: Option<Arc<Resource>>,
}

/// Records that are to be delivered, all of one resource.
#[derive(Debug)]
pub struct Delivery {
    /// Whose they are.
    pub resource: Arc<Resource>,
    /// The records, oldest first.
    pub records: Arc<Vec<Record>>,
    end: Position,
}

/// Whether there is something to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is.
    Ready,
    /// Not yet.
    Waiting,
    /// There is not, and nothing will come.
    Ended,
}

/// What of a queue could not be read, and was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// How many lines or files.
    pub count: u64,
    /// The first of them, and what is wrong with it.
    pub first: String,
}

impl QueueReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        own: Resource,
        taken: File,
        at: Position,
        is_damaged: bool,
    ) -> Self {
        let mut reader = Self { shared, own, taken, at, settled: at, open: None, damage: None };
        if is_damaged {
            let path = reader.directory().join("taken");
            reader.note(&path, 0, "it is not as it was written; all that is left is sent again");
        }
        reader
    }

    /// The queue's directory.
    pub fn directory(&self) -> &Path {
        &self.shared.options.directory
    }

    /// Whether there is something to be delivered.
    pub fn state(&self) -> State {
        let files = self.shared.lock();
        if files.all.iter().any(|part| part.is_behind(self.at)) {
            State::Ready
        } else if files.has_ended {
            State::Ended
        } else {
            State::Waiting
        }
    }

    /// How many bytes wait to be read.
    pub fn waiting(&self) -> u64 {
        self.behind(self.at)
    }

    /// How many bytes are not delivered, read or not.
    pub fn undelivered(&self) -> u64 {
        self.behind(self.settled)
    }

    /// How many bytes there are behind `at`.
    fn behind(&self, at: Position) -> u64 {
        self.shared.lock().all.iter().map(|part| part.behind(at)).sum()
    }

    /// What could not be read.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The next records, at most `many`; none when all are read. They stay in the queue until
    /// [`QueueReader::commit`]. What is damaged is left out, and told of by
    /// [`QueueReader::damage`].
    ///
    /// # Errors
    /// A file cannot be read now, as when there are no descriptors left. Nothing of it is left out:
    /// it is read from there when this is called again.
    pub fn next(&mut self, many: usize) -> io::Result<Option<Delivery>> {
        loop {
            let next = self.shared.lock().all.iter().find(|part| part.is_behind(self.at)).copied();
            let Some(part) = next else { return Ok(None) };
            if part.number != self.at.file {
                self.at = Position { file: part.number, offset: 0 };
            }
            let path = self.shared.path(part.number);
            match self.read(&part, many) {
                Ok(Some(delivery)) => return Ok(Some(delivery)),
                Ok(None) => {}
                Err(error) if !is_lost(&error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("{}: {error}", path.display()),
                    ));
                }
                Err(error) => {
                    self.note(&path, self.at.offset, &format!("it cannot be read: {error}"));
                    self.at.offset = part.len;
                }
            }
        }
    }

    /// Reads on in `part`, and skips what is damaged; `None` if nothing else is left. After an error
    /// it goes on where that was, and what was read before it is handed on first.
    fn read(&mut self, part: &Part, many: usize) -> io::Result<Option<Delivery>> {
        let path = self.shared.path(part.number);
        let mut open = match self.open.take().filter(|open| open.number == part.number) {
            Some(open) => open,
            None => self.begin(&path, part)?,
        };
        open.file.seek(SeekFrom::Start(self.at.offset))?;
        let mut lines = BufReader::new((&open.file).take(part.behind(self.at)));
        let (mut records, mut line) = (Vec::new(), Vec::new());
        while records.len() < many {
            line.clear();
            let len = match lines.read_until(b'\n', &mut line) {
                Err(_) if !records.is_empty() => break,
                read => read?,
            };
            if len == 0 {
                if self.at.offset < part.len {
                    self.note(&path, self.at.offset, "it has become shorter");
                    self.at.offset = part.len;
                }
                break;
            }
            let offset = self.at.offset;
            self.at.offset += len as u64;
            let record = line::text(&line).and_then(|text| {
                serde_json::from_slice::<Record>(text).map_err(|_| "it is no record")
            });
            match record {
                Ok(record) => records.push(record),
                Err(reason) => self.note(&path, offset, reason),
            }
        }
        let resource = open.resource.clone();
        self.open = Some(open);
        let Some(first) = records.first() else { return Ok(None) };
        // Of a file whose first line is damaged, as much as is known.
        let known = || Resource { session: first.session, process: None, ..self.own.clone() };
        let resource = resource.unwrap_or_else(|| Arc::new(known()));
        Ok(Some(Delivery { resource, records: Arc::new(records), end: self.at }))
    }

    /// Opens the file of `part`, and reads its first line.
    fn begin(&mut self, path: &Path, part: &Part) -> io::Result<Open> {
        let file = File::open(path)?;
        let mut line = Vec::new();
        let len = BufReader::new((&file).take(part.len)).read_until(b'\n', &mut line)?;
        let resource = line::text(&line).and_then(|text| {
            serde_json::from_slice(text).map_err(|_| "it does not say whose records follow")
        });
        // Later it is known: to this process, or to the one that began to deliver the file.
        if let (Err(reason), 0) = (&resource, self.at.offset) {
            self.note(path, 0, reason);
        }
        self.at.offset = self.at.offset.max(len as u64);
        Ok(Open { number: part.number, file, resource: resource.ok().map(Arc::new) })
    }

    /// Goes on behind `delivery`, also in a later process.
    ///
    /// # Errors
    /// That cannot be written down: a later process will deliver it again.
    pub fn commit(&mut self, delivery: &Delivery) -> io::Result<()> {
        self.settle(delivery.end)
    }

    /// Goes on behind what was damaged, when [`QueueReader::next`] has found nothing else.
    ///
    /// # Errors
    /// As for [`QueueReader::commit`].
    pub fn skip(&mut self) -> io::Result<()> {
        self.settle(self.at)
    }

    fn settle(&mut self, end: Position) -> io::Result<()> {
        let noted = end.write(&self.taken);
        if noted.is_ok() {
            self.settled = end;
        }
        let mut files = self.shared.lock();
        files.settled = end;
        if !files.all.iter().any(|part| part.number == end.file && part.is_behind(end)) {
            // Whoever removes it is to have its room at once.
            self.open = None;
        }
        drop(files);
        // Whole files go also where that is not noted: the next process begins with what it finds.
        self.shared.release();
        noted
    }

    fn note(&mut self, path: &Path, offset: u64, reason: &str) {
        let damage = self.damage.get_or_insert_with(|| Damage {
            count: 0,
            first: format!("{} at byte {offset}: {reason}", path.display()),
        });
        damage.count += 1;
    }
}

/// Whether a file's records are gone for good; otherwise it may be read later.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory)
}
