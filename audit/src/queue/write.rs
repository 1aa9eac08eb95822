//! The end of a queue that records go into.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use super::{Part, Shared, file_size, line};
use crate::json::put_parts;
use crate::otlp::Resource;
use crate::texts::Texts;
use crate::{Phase, Record, Sink};

/// How many bytes are written at once: where little room is left, a part of a batch may still fit.
const PIECE: usize = 64 << 10;

/// See [`open`](super::open).
pub struct QueueSink {
    shared: Arc<Shared>,
    /// The file that grows, made only when there is something to write.
    current: Option<(File, Part)>,
    /// The number of the file after that.
    number: u64,
    /// The first line of every file.
    opening: Vec<u8>,
    /// The records before this are written: a batch that did not fit comes again as a whole.
    next: u64,
    lines: Texts,
    wake: Box<dyn Fn() + Send>,
}

impl QueueSink {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u64,
        resource: &Resource,
        wake: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let text = serde_json::to_vec(resource)?;
        let mut opening = Vec::new();
        line::put(&mut opening, &text);
        Ok(Self { shared, current: None, number, opening, next: 0, lines: Texts::default(), wake })
    }

    fn add(&mut self, records: &[Record]) -> io::Result<()> {
        let max_bytes = self.shared.options.max_bytes;
        self.begin()?;
        let mut used: u64 = self.shared.lock().all.iter().map(|part| part.len).sum();
        let rest = self.rest(records);
        let mut before = None;
        for record in rest.iter() {
            let begin = line::begin(&mut self.lines.bytes);
            put_parts(record, before.replace(record), &mut self.lines);
            line::end(&mut self.lines.bytes, begin);
            let length = self.lines.bytes.len();
            if used + length as u64 > max_bytes {
                self.lines.bytes.truncate(begin);
                self.append(record.sequence)?;
                let advice = "the collector has to take some first, or otlp_queue_bytes be more";
                let message = format!("its {max_bytes} bytes are full; {advice}");
                return Err(io::Error::new(io::ErrorKind::StorageFull, message));
            }
            if length >= PIECE {
                self.append(record.sequence + 1)?;
                used += length as u64;
                before = None;
                // One that is closed may be gone already, when all that is in it is delivered.
                self.begin()?;
            }
        }
        self.append(rest.last().map_or(self.next, |last| last.sequence + 1))
    }

    /// Begins new lines: with the opening of a file, if there is none that grows.
    fn begin(&mut self) -> io::Result<()> {
        if let Some((file, part)) = &self.current
            && part.is_closed
        {
            file.sync_data()?;
            self.current = None;
        }
        self.lines.bytes.clear();
        if self.current.is_none() {
            self.lines.bytes.extend_from_slice(&self.opening);
        }
        Ok(())
    }

    /// What of `records` is not yet written. One that stands for several, which the log could not
    /// read back, may come when the first of them are: it then stands for the others, if there are
    /// any.
    fn rest<'a>(&self, records: &'a [Record]) -> Cow<'a, [Record]> {
        let begin = records.partition_point(|record| record.sequence < self.next);
        match records {
            [gap] if begin == 1 && gap.phase == Phase::Gap => {
                let end = gap.sequence + gap.dropped.unwrap_or_default();
                let left = end.checked_sub(self.next).filter(|left| *left > 0);
                let rest = |_| Record { sequence: self.next, dropped: left, ..gap.clone() };
                Cow::Owned(left.map(rest).into_iter().collect())
            }
            _ => Cow::Borrowed(records.get(begin..).unwrap_or_default()),
        }
    }

    /// Appends the lines, which are those of the records before `next`, if any of them are new.
    fn append(&mut self, next: u64) -> io::Result<()> {
        if next > self.next {
            self.put()?;
            self.next = next;
            (self.wake)();
        }
        Ok(())
    }

    /// Appends the lines, all or nothing; to a new file if there is none that grows.
    fn put(&mut self) -> io::Result<()> {
        let len = self.lines.bytes.len() as u64;
        let full = file_size(self.shared.options.max_bytes);
        if let Some((file, part)) = &mut self.current {
            let written = file.write_all(&self.lines.bytes);
            if written.is_ok() {
                part.len += len;
            } else {
                // Half a line must not be followed by others; if this fails too, its sum shows it.
                let _ = file.set_len(part.len);
            }
            // Where the disk is full, room is made when what it has is delivered.
            part.is_closed = written.is_err() || part.len >= full;
            if let Some(last) = self.shared.lock().all.back_mut() {
                *last = *part;
            }
            if written.is_err() {
                self.shared.release();
            }
            return written;
        }
        let path = self.shared.path(self.number);
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&self.lines.bytes).inspect_err(|_| {
            // So that it can be made again. What cannot be removed is said then.
            let _ = fs::remove_file(&path);
        })?;
        let part = Part { number: self.number, len, is_closed: len >= full };
        self.shared.lock().all.push_back(part);
        self.current = Some((file, part));
        self.number += 1;
        Ok(())
    }
}

impl Sink for QueueSink {
    fn name(&self) -> &'static str {
        "otlp_queue"
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.add(records).map_err(|error| {
            let directory = self.shared.options.directory.display();
            io::Error::new(error.kind(), format!("{directory}: {error}"))
        })
    }

    fn keeps(&self) -> Option<String> {
        Some(format!("the collector, by the queue {}", self.shared.options.directory.display()))
    }

    fn end(&mut self) {
        if let Some((file, _)) = &self.current {
            // What the disk does not take here it has refused before.
            let _ = file.sync_data();
        }
    }
}

impl Drop for QueueSink {
    /// However it ends, the reader is not to wait for more.
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        (self.wake)();
    }
}

impl fmt::Debug for QueueSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSink").field("number", &self.number).finish_non_exhaustive()
    }
}
