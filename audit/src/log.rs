//! The log between exchanges and those who read it: bounded, first in memory and then on disk.

mod gaps;
mod permit;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use crate::active::Active;
use crate::apart::Apart;
use crate::reader::{Filling, Reader};
use crate::segment::{Place, Ring, Segment, Segments};
use crate::texts::Texts;
use crate::{Record, Session};

pub use permit::{Permit, Sender};
pub(crate) use state::{Cursor, State};

/// Records are handed on in groups of at most so many.
pub(crate) const SEGMENT: usize = 1024;

/// How much a log holds until all consumers have taken it, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Records in memory, those of running exchanges included. From half of it on, records go
    /// to disk.
    pub records: usize,
    /// Bytes in a temporary file that has no name and is gone with the process. 0 is none.
    pub disk: u64,
    /// What happens when both are full.
    pub overflow: Overflow,
}

/// What happens to an exchange for whose record there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// It is refused: nothing goes unrecorded.
    #[default]
    Refuse,
    /// It takes place, and a record of [`Phase::Gap`](crate::Phase::Gap) says how many were.
    Count,
}

/// Why sinks last failed, by their names, until they work again.
#[derive(Default)]
pub(crate) struct Faults(Mutex<BTreeMap<&'static str, String>>);

impl Faults {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic cannot leave it half-changed: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What each exchange counts.
#[derive(Default)]
struct Counts {
    /// Places in use: exchanges that run, and records in memory.
    taken: AtomicUsize,
    /// Exchanges so far.
    opened: AtomicU64,
}

/// Counts a record that is not kept.
type Count = dyn Fn(&Record) + Send + Sync;

/// What all parts of a log share.
pub(crate) struct Shared {
    session: Session,
    pub(crate) bounds: Bounds,
    counts: Apart<Counts>,
    closed: AtomicBool,
    pub(crate) active: Active,
    /// Whether somebody waits for the next record. Changed only to `true` with the lock held.
    wanted: AtomicBool,
    /// Whether the writer has something to do.
    pub(crate) woken: AtomicBool,
    pub(crate) writer: OnceLock<Thread>,
    /// Notified by the writer.
    pub(crate) changed: Condvar,
    pub(crate) faults: Faults,
    /// Called with each record that is not kept.
    pub(crate) unkept: OnceLock<Box<Count>>,
    /// Called when the log begins to be full.
    pub(crate) alarm: OnceLock<Box<dyn Fn(Filling) + Send + Sync>>,
    /// Whether it was.
    pub(crate) has_warned: AtomicBool,
    state: Apart<Mutex<State>>,
}

impl Shared {
    pub(crate) fn new(session: Session, bounds: Bounds) -> io::Result<Self> {
        let ring = Ring::create(bounds.disk)?;
        Ok(Self {
            session,
            bounds,
            counts: Apart::default(),
            closed: AtomicBool::new(false),
            active: Active::new(),
            wanted: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            writer: OnceLock::new(),
            changed: Condvar::new(),
            faults: Faults::default(),
            unkept: OnceLock::new(),
            alarm: OnceLock::new(),
            has_warned: AtomicBool::new(false),
            state: Apart(Mutex::new(State::new(ring))),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs with the lock held; a panic would be one of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the writer run.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Has the writer run at the next record. To be called with the lock held.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Adds a consumer, at the oldest record that there is.
    pub(crate) fn subscribe(&self, reader: Reader) -> usize {
        self.lock().subscribe(reader)
    }

    /// Puts in the record, if there is one.
    fn push(&self, record: &mut Option<Record>) {
        let is_of_stranger = record.as_ref().is_some_and(Record::is_of_stranger);
        let mut state = self.lock();
        if is_of_stranger && !self.takes_stranger(&state) {
            state.shed += 1;
            drop(state);
            self.give_back(1);
            if let Some(record) = record.take() {
                self.let_go(&record);
            }
            return;
        }
        state.push(record, is_of_stranger);
        let is_much = self.should_spill(&mut state) || self.should_warn(state.in_memory());
        drop(state);
        let is_wanted = self.wanted.load(Ordering::Relaxed);
        if is_much || (is_wanted && self.wanted.swap(false, Ordering::Relaxed)) {
            self.wake();
        }
    }

    /// Whether the writer is to be woken to make room: there is much in memory, and it does not
    /// know of that yet.
    fn should_spill(&self, state: &mut State) -> bool {
        let should = !state.is_spilling && self.is_much(state);
        state.is_spilling |= should;
        should
    }

    /// Whether so much is in memory that some of it should leave, and can.
    fn is_much(&self, state: &State) -> bool {
        state.in_memory() > self.bounds.records / 2
            && (state.segments.has_room() || state.can_give_way())
    }

    /// Puts what is new into a segment, so that consumers can have it.
    pub(crate) fn seal(&self, state: &mut State) {
        // Only where there is a place: gaps could be many too.
        if state.has_gap() && self.has_place() {
            self.counts.taken.fetch_add(1, Ordering::Relaxed);
            let gap = self.unkept_since(state);
            state.push(&mut Some(gap), false);
        }
        state.seal();
    }

    /// Whether a consumer whose place is `at` has something to take.
    pub(crate) fn has_news(&self, state: &State, at: u64) -> bool {
        at < state.next || (state.has_gap() && self.has_place())
    }

    /// How much of the log's room is in use, from 0 to 1: of the disk's, if it has one, since
    /// memory is only half used before that is.
    #[expect(clippy::cast_precision_loss, reason = "about as much is enough")]
    pub(crate) fn fullness(&self, state: &State) -> f64 {
        let taken = self.counts.taken.load(Ordering::Relaxed) as f64 / self.bounds.records as f64;
        state.segments.used().unwrap_or_default().max(taken)
    }

    fn has_place(&self) -> bool {
        self.counts.taken.load(Ordering::Relaxed) < self.bounds.records
    }

    /// Changes how far consumers are with `change`, and lets go of what all have. Who was in the way
    /// of giving way may now not be, and a full log has no next record to notice it with.
    pub(crate) fn advance(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let _released = self.release(&mut state);
        let should_spill = self.should_spill(&mut state);
        drop(state);
        if should_spill {
            self.wake();
        }
    }

    /// Lets go of what all consumers have. Returns it, to be dropped without the lock.
    fn release(&self, state: &mut State) -> Vec<Segment> {
        let oldest = state.cursors.iter().map(|(_, cursor)| cursor.at).min();
        let released = state.segments.release(oldest.unwrap_or(state.next));
        self.calm(state);
        for segment in &released {
            state.strangers -= segment.strangers;
            if matches!(segment.place, Place::Memory(_)) {
                self.give_back(segment.len);
            }
        }
        released
    }

    /// Moves the oldest records to disk while there are too many in memory; or lets go of them, if
    /// the disk has no room and those who have not taken them give way.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn spill(&self) -> io::Result<()> {
        let (mut lines, mut done) = (Texts::default(), Ok(()));
        loop {
            let mut state = self.lock();
            if !self.is_much(&state) {
                state.is_spilling = false;
                return done;
            }
            self.seal(&mut state);
            if !state.needs_disk() && state.give_way() {
                let _released = self.release(&mut state);
                drop(state);
                continue;
            }
            let Some((first, records)) = state.segments.oldest_in_memory() else { return done };
            drop(state);
            lines.bytes.clear();
            lines.put_lines(&records);
            match Segments::move_to_disk(|| self.lock(), first, &lines.bytes) {
                Ok(true) => self.give_back(records.len()),
                Ok(false) => {}
                Err(error) => done = Err(error),
            }
        }
    }

    /// How many exchanges there were so far, which is the number of the next one.
    pub(crate) fn opened(&self) -> u64 {
        self.counts.opened.load(Ordering::Relaxed)
    }

    fn give_back(&self, places: usize) {
        self.counts.taken.fetch_sub(places, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("session", &self.session)
            .field("taken", &self.counts.taken)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
