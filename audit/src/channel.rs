//! The bounded channel between exchanges and whoever reads the log.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Record, RecordId};

/// Makes a channel that holds up to `capacity` records, counting those whose exchange is still
/// running. `session` is the prefix of every record's `id`.
pub fn channel(capacity: usize, session: &str) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        capacity,
        session: session.into(),
        taken: AtomicUsize::new(0),
        opened: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        log: Mutex::new(Log { next: 0, records: Vec::new() }),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// Reserves places for records. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

impl Sender {
    /// Takes a place for one record, or `None` when the channel is full.
    pub fn try_reserve(&self) -> Option<Permit> {
        let taken = self.shared.taken.fetch_add(1, Ordering::Relaxed);
        // The permit is made first, so that its drop gives the place back on refusal.
        let permit = Permit {
            number: self.shared.opened.fetch_add(1, Ordering::Relaxed),
            shared: Arc::clone(&self.shared),
            sent: false,
        };
        (taken < self.shared.capacity).then_some(permit)
    }

    /// Says that the proxy is being shut down: what is abandoned from now on is abandoned by it.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }
}

/// Takes records out. Independent of the proxy's life: what was sent stays readable.
#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
}

impl Receiver {
    /// Takes out all records that are there, oldest first.
    pub fn drain(&self) -> Vec<Record> {
        let records = std::mem::take(&mut self.shared.lock().records);
        self.shared.taken.fetch_sub(records.len(), Ordering::Relaxed);
        records
    }

    /// The number of records that wait to be taken out.
    pub fn len(&self) -> usize {
        self.shared.lock().records.len()
    }

    /// Whether no record waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A reserved place. Sending through it cannot fail; dropping it unused gives the place back.
pub struct Permit {
    shared: Arc<Shared>,
    number: u64,
    sent: bool,
}

impl Permit {
    /// The id for this exchange's record.
    pub fn id(&self) -> RecordId {
        RecordId { session: Arc::clone(&self.shared.session), number: self.number }
    }

    /// Whether the sender was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Puts the record in, giving it the next sequence number.
    pub fn send(mut self, mut record: Record) {
        let mut log = self.shared.lock();
        record.sequence = log.next;
        log.next += 1;
        log.records.push(record);
        drop(log);
        self.sent = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.sent {
            self.shared.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Shared {
    capacity: usize,
    session: Arc<str>,
    /// Places in use: exchanges that run, and records not yet drained.
    taken: AtomicUsize,
    opened: AtomicU64,
    closed: AtomicBool,
    log: Mutex<Log>,
}

struct Log {
    next: u64,
    records: Vec<Record>,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        // A panic cannot leave the log half-written: every change to it is one push or take.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

macro_rules! debug_as_count {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("taken", &self.shared.taken)
                    .field("capacity", &self.shared.capacity)
                    .finish_non_exhaustive()
            }
        }
    )*};
}

debug_as_count!(Sender, Receiver, Permit);
