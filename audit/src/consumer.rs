//! Those who read the log, each at their own pace.

mod all;
mod lines;
mod wait;

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::log::{Shared, State};
use crate::segment::Place;
use crate::{Reader, Record};
pub use all::Peeked;
pub use wait::{Waited, Waiter};

/// Sees every record once, in order, from the oldest that the log held when it was made. What it
/// has not yet taken the log holds for it.
pub struct Consumer {
    shared: Arc<Shared>,
    key: usize,
    /// Room for lines, used again with each drain: memory that is new to the process costs more
    /// than the lines that are written there.
    lines: Vec<u8>,
    /// The largest such room that was given back to the allocator.
    freed: usize,
}

/// Records that follow each other.
#[derive(Debug, Clone)]
pub struct Batch {
    records: Arc<Vec<Record>>,
    end: u64,
}

impl Consumer {
    pub(crate) fn new(shared: Arc<Shared>, reader: Reader) -> Self {
        let key = shared.subscribe(reader);
        Self { shared, key, lines: Vec::new(), freed: 0 }
    }

    /// The next records, oldest first; none when all are taken. They stay in the log until
    /// [`Consumer::commit`]. What is on disk and cannot be read from there is one record of
    /// [`crate::Phase::Gap`].
    pub fn peek(&self) -> Option<Batch> {
        self.look(None)
    }

    /// The records behind `batch`, which was peeked at and not yet committed.
    pub fn peek_behind(&self, batch: &Batch) -> Option<Batch> {
        self.look(Some(batch.end))
    }

    fn look(&self, at: Option<u64>) -> Option<Batch> {
        let (records, end) = self.read(at, Place::load, |records| records)?;
        Some(Batch { records, end })
    }

    /// Reads the segment that begins at `at`, or the next one, with `read`, of which `gap` makes
    /// the same when that fails. Returns it with the sequence number behind it.
    fn read<T>(
        &self,
        at: Option<u64>,
        read: impl FnOnce(Place) -> io::Result<T>,
        gap: impl FnOnce(Arc<Vec<Record>>) -> T,
    ) -> Option<(T, u64)> {
        let mut state = self.shared.lock();
        if at.is_none()
            && let Some((missed, end)) = self.missed(&mut state)
        {
            return Some((gap(Arc::new(vec![missed])), end));
        }
        let at = at.unwrap_or_else(|| self.at(&state));
        if !self.shared.has_news(&state, at) {
            return None;
        }
        self.shared.seal(&mut state);
        let segment = state.segments.get(at)?;
        let (first, end, place) = (segment.first, segment.end(), segment.place.clone());
        if let Some(cursor) = state.cursors.get_mut(self.key) {
            cursor.is_reading = true;
        }
        drop(state);
        let read = read(place).unwrap_or_else(|error| {
            gap(Arc::new(vec![self.shared.unreadable(first, end - first, &error)]))
        });
        Some((read, end))
    }

    /// What stands for the records that it was too late for, and where it goes on.
    fn missed(&self, state: &mut State) -> Option<(Record, u64)> {
        let cursor = state.cursors.get_mut(self.key).filter(|cursor| cursor.missed > 0)?;
        cursor.is_reading = true;
        let (at, missed) = (cursor.at, cursor.missed);
        Some((self.shared.missed(state, at - missed, missed), at))
    }

    /// Goes on behind `batch`, which the log may then let go of.
    pub fn commit(&mut self, batch: &Batch) {
        self.go_to(batch.end);
    }

    fn go_to(&mut self, at: u64) {
        self.shared.advance(|state| {
            if let Some(cursor) = state.cursors.get_mut(self.key) {
                cursor.go_to(at);
            }
        });
    }

    /// Takes the next records, oldest first; none when all are taken.
    pub fn take(&mut self) -> Option<Batch> {
        let batch = self.peek()?;
        self.commit(&batch);
        Some(batch)
    }

    /// Takes all records that are there.
    pub fn drain(&mut self) -> Vec<Record> {
        let mut batches = Vec::new();
        self.drain_each(|this| {
            let batch = this.peek()?;
            let end = batch.end;
            batches.push(batch);
            Some(end)
        });
        match batches.pop() {
            Some(only) if batches.is_empty() => only.into_vec(),
            last => batches.into_iter().chain(last).flat_map(Batch::into_vec).collect(),
        }
    }

    /// Goes on with what `next` takes, of which it returns the sequence number behind it, up to the
    /// last record that is there now: what comes meanwhile is for the next time, or there might be
    /// no end of it.
    pub(crate) fn drain_each(&mut self, mut next: impl FnMut(&Self) -> Option<u64>) {
        // Twice, since a gap may have been waiting for the place that the first time makes.
        for _ in 0..2 {
            let (mut at, until) = self.span();
            while at < until
                && let Some(end) = next(self)
            {
                at = end;
                self.go_to(at);
            }
        }
    }

    /// The sequence numbers of the next record, and behind the last that is there.
    pub(crate) fn span(&self) -> (u64, u64) {
        let mut state = self.shared.lock();
        self.shared.seal(&mut state);
        let missed = state.cursors.get(self.key).map_or(0, |cursor| cursor.missed);
        (self.at(&state) - missed, state.next)
    }

    /// Goes on behind all that is there now.
    pub fn skip(&mut self) {
        let (_, end) = self.span();
        self.go_to(end);
    }

    /// The number of the exchange that begins next: those that have begun have lower ones.
    pub(crate) fn next_number(&self) -> u64 {
        self.shared.opened()
    }

    /// Whether all is taken, and no more comes.
    pub fn has_ended(&self) -> bool {
        let state = self.shared.lock();
        state.has_ended && !self.is_behind(&state)
    }

    /// How many records it has not yet taken.
    pub fn lag(&self) -> u64 {
        let state = self.shared.lock();
        state.next - self.at(&state)
    }

    /// A socket that becomes readable when, after [`Consumer::arm`], records come or the log ends.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn signal(&mut self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        if let Some(cursor) = self.shared.lock().cursors.get_mut(self.key) {
            cursor.signal = Some(ours);
        }
        Ok(theirs)
    }

    /// Has the signal given at the next record; without effect, and false, if it is there.
    pub fn arm(&mut self) -> bool {
        let mut state = self.shared.lock();
        if self.shared.has_news(&state, self.at(&state)) || state.has_ended {
            return false;
        }
        if let Some(cursor) = state.cursors.get_mut(self.key) {
            cursor.is_armed = true;
        }
        self.shared.want();
        true
    }

    /// Whether there is something that it has not yet taken.
    pub(crate) fn is_behind(&self, state: &State) -> bool {
        self.shared.has_news(state, self.at(state))
    }

    fn at(&self, state: &State) -> u64 {
        state.position(self.key)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.advance(|state| {
            state.cursors.try_remove(self.key);
        });
    }
}

impl Batch {
    /// The records, without a copy if no other consumer holds them.
    pub fn into_vec(self) -> Vec<Record> {
        Arc::try_unwrap(self.records).unwrap_or_else(|shared| shared.to_vec())
    }

    /// The sequence number behind the last.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The records, shared.
    pub fn into_shared(self) -> Arc<Vec<Record>> {
        self.records
    }
}

impl Deref for Batch {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        &self.records
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("lag", &self.lag()).finish_non_exhaustive()
    }
}
