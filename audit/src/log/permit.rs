//! Places in a log, which are reserved before there are records to fill them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Overflow, Shared};
use crate::active::Active;
use crate::{Record, RecordId};

/// Reserves places for records. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    pub(super) shared: Arc<Hold>,
}

/// A hold on the log, which the senders of one thread and their permits count.
pub(crate) struct Hold(Arc<Shared>);

impl Deref for Hold {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Sender {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared: Arc::new(Hold(shared)) }
    }

    /// The same for another thread: each permit is counted at its sender's, and threads that count
    /// at one place wait for each other.
    #[must_use]
    pub fn for_thread(&self) -> Self {
        Self::new(Arc::clone(&self.shared.0))
    }

    /// Takes a place for one record, or `None` when the log is full.
    pub fn try_reserve(&self) -> Option<Permit> {
        Permit::reserve(&self.shared, self.shared.counts.opened.fetch_add(1, Ordering::Relaxed))
    }

    /// How many exchanges run.
    pub fn running(&self) -> usize {
        self.shared.active.len()
    }

    /// How many records the slowest consumer has not yet taken.
    pub fn waiting(&self) -> u64 {
        let state = self.shared.lock();
        let oldest = state.cursors.iter().map(|(_, cursor)| cursor.at).min();
        state.next - oldest.unwrap_or(state.next)
    }

    /// Says that the proxy is being shut down: what is abandoned from now on is abandoned by it.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }
}

/// A reserved place. Sending through it cannot fail; dropping it unused gives the place back.
pub struct Permit {
    shared: Arc<Hold>,
    number: u64,
    /// Not when the log was full, and counts what it cannot keep.
    has_place: bool,
}

impl Permit {
    fn reserve(shared: &Arc<Hold>, number: u64) -> Option<Self> {
        let taken = shared.counts.taken.fetch_add(1, Ordering::Relaxed);
        let has_place = taken < shared.bounds.records;
        if !has_place {
            shared.give_back(1);
        }
        (has_place || shared.bounds.overflow == Overflow::Count).then(|| Self {
            shared: Arc::clone(shared),
            number,
            has_place,
        })
    }

    /// A place for a further record of the same exchange.
    pub(crate) fn another(&self) -> Option<Self> {
        Self::reserve(&self.shared, self.number)
    }

    /// The id for this exchange's record.
    pub fn id(&self) -> RecordId {
        RecordId { session: self.shared.session, number: self.number }
    }

    /// Whether the sender was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn active(&self) -> &Active {
        &self.shared.active
    }

    /// Puts the record in, giving it the next sequence number.
    pub fn send(mut self, record: Record) {
        self.fill(&mut Some(record));
    }

    /// As [`Self::send`], once, where the log is still needed after it. The record is moved from where
    /// it lies only when its place is known: each move of it is a copy of some hundred bytes.
    pub(crate) fn fill(&mut self, record: &mut Option<Record>) {
        if std::mem::take(&mut self.has_place) {
            self.shared.push(record);
        } else if let Some(record) = record.take() {
            self.shared.lock().dropped += 1;
            self.shared.let_go(&record);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.has_place {
            self.shared.give_back(1);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.number).finish()
    }
}
