//! The recorder of one exchange: gathers, then sends exactly one record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use smol_str::SmolStr;

use crate::active::Slot;
use crate::{Decision, Mode, Outcome, Permit, Phase, Record, RecordId};

/// Gathers what is learned of one exchange and sends its [`Record`] once: at [`finish`], or,
/// if nobody finished it, when it is dropped.
///
/// An exchange that is dropped unfinished ended because its client left, or, once the channel's
/// sender was [closed], because the proxy was shut down.
///
/// [`finish`]: Recorder::finish
/// [closed]: crate::Sender::close
#[derive(Debug)]
pub struct Recorder {
    id: RecordId,
    began: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    draft: Mutex<Draft>,
}

/// A record, and where it goes.
#[derive(Debug)]
struct Draft {
    /// Empty once it has been sent.
    record: Option<Record>,
    permit: Permit,
    /// The place for the record of the opening, if there is to be one.
    opening: Option<Permit>,
    /// Where it is among those that run; nowhere if nobody is to know of it.
    slot: Option<Slot>,
}

impl Recorder {
    /// Opens the record of an exchange with `client` (its socket address) that begins now.
    pub fn open(permit: Permit, mode: Mode, client: SmolStr) -> Arc<Self> {
        let mut record = Record::new(permit.id(), unix_ms(), mode);
        record.client = Some(client);
        Arc::new_cyclic(|this| {
            let slot = Some(permit.active().insert(this.clone()));
            Self::new(Draft { record: Some(record), permit, opening: None, slot })
        })
    }

    /// A recorder that gathers and sends nothing, to see what the others cost.
    #[cfg(feature = "bench")]
    pub fn silent(permit: Permit) -> Arc<Self> {
        Arc::new(Self::new(Draft { record: None, permit, opening: None, slot: None }))
    }

    fn new(draft: Draft) -> Self {
        Self {
            id: draft.permit.id(),
            began: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            draft: Mutex::new(draft),
        }
    }

    /// The id of this exchange's record.
    pub fn id(&self) -> &RecordId {
        &self.id
    }

    /// Notes something. Without effect once the record has been sent.
    pub fn note(&self, write: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.lock().record {
            write(record);
        }
    }

    /// Reads what has been noted so far; `None` once the record has been sent.
    pub fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> Option<T> {
        self.lock().record.as_ref().map(read)
    }

    /// Counts `n` bytes received from the client.
    pub fn add_bytes_in(&self, n: u64) {
        self.bytes_in.fetch_add(n, Ordering::Relaxed);
    }

    /// The bytes received from the client so far.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Counts `n` bytes sent to the client.
    pub fn add_bytes_out(&self, n: u64) {
        self.bytes_out.fetch_add(n, Ordering::Relaxed);
    }

    /// Notes that the head of the response is there, with its `status`.
    pub fn responded(&self, status: u16) {
        let time = self.milliseconds();
        self.note(|record| {
            record.status = Some(status);
            record.time_to_first_byte_ms = Some(time);
        });
    }

    /// Reserves the place for the record of an opening, before there is one; says whether there
    /// was any.
    pub fn reserve_opening(&self) -> bool {
        let mut draft = self.lock();
        if draft.record.is_none() {
            return true;
        }
        draft.opening = draft.permit.another();
        draft.opening.is_some()
    }

    /// Sends the record of an opening, for which a place was reserved.
    pub fn opened(&self, status: u16) {
        let time = self.milliseconds();
        let mut draft = self.lock();
        let Draft { record: Some(record), opening, .. } = &mut *draft else { return };
        record.status = Some(status);
        record.time_to_first_byte_ms = Some(time);
        let Some(permit) = opening.take() else { return };
        let mut record = record.clone();
        drop(draft);
        self.settle(&mut record, Outcome::Running);
        record.phase = Phase::Open;
        permit.send(record);
    }

    /// The record as it would be if nothing more happened; `None` once it has been sent.
    pub(crate) fn so_far(&self) -> Option<Record> {
        let mut record = self.read(Record::clone)?;
        self.settle(&mut record, Outcome::Running);
        record.phase = Phase::Open;
        Some(record)
    }

    /// Ends the exchange and sends its record. Only the first ending counts.
    pub fn finish(&self, outcome: Outcome) {
        self.end(|_, _| outcome);
    }

    /// Ends an exchange that nobody brought to its end.
    pub fn abandon(&self) {
        self.end(|record, permit| {
            if std::thread::panicking() {
                record.decision = Decision::Deny;
                record.reason = Some("the proxy failed: this is a bug in it".into());
                Outcome::Refused
            } else if permit.is_closed() {
                Outcome::Shutdown
            } else {
                Outcome::ClientAbort
            }
        });
    }

    fn end(&self, outcome: impl FnOnce(&mut Record, &Permit) -> Outcome) {
        let mut draft = self.lock();
        let draft = &mut *draft;
        let Some(record) = &mut draft.record else { return };
        let outcome = outcome(record, &draft.permit);
        let refused = record.decision == Decision::Deny && outcome == Outcome::Complete;
        self.settle(record, if refused { Outcome::Refused } else { outcome });
        // In this order: who finds it neither running here nor among those that run finds its
        // record in the log.
        draft.permit.fill(&mut draft.record);
        draft.opening = None;
        if let Some(slot) = draft.slot.take() {
            draft.permit.active().remove(slot);
        }
    }

    fn settle(&self, record: &mut Record, outcome: Outcome) {
        record.outcome = outcome;
        record.duration_ms = self.milliseconds();
        record.bytes_in = self.bytes_in.load(Ordering::Relaxed);
        record.bytes_out = self.bytes_out.load(Ordering::Relaxed);
    }

    /// Since the exchange began.
    #[expect(clippy::cast_precision_loss, reason = "exact for the first hundred days")]
    fn milliseconds(&self) -> f64 {
        let elapsed = self.began.elapsed();
        let nanoseconds = elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos());
        // A division, so that it is the number nearest to that decimal, whose text is short.
        nanoseconds as f64 / 1e6
    }

    fn lock(&self) -> MutexGuard<'_, Draft> {
        // A panic in a `note` closure leaves at worst one field unset.
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Asked without the lock, which nobody else can have: nearly all have ended before.
        if self.draft.get_mut().is_ok_and(|draft| draft.record.is_none()) {
            return;
        }
        self.abandon();
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
