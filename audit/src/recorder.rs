//! The recorder of one exchange: gathers, then sends exactly one record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::{Decision, Mode, Outcome, Permit, Record, RecordId};

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
    /// Empty once the record has been sent.
    draft: Mutex<Option<(Permit, Record)>>,
}

impl Recorder {
    /// Opens the record of an exchange with `client` (its socket address) that begins now.
    pub fn open(permit: Permit, mode: Mode, client: Arc<str>) -> Self {
        let id = permit.id();
        let record = Record {
            timestamp_unix_ms: unix_ms(),
            mode,
            decision: Decision::Allow,
            target: "".into(),
            port: None,
            method: None,
            path: None,
            status: None,
            reason: None,
            route_id: None,
            auth_mechanism: None,
            auth_outcome: None,
            managed_credential_active: None,
            injection_mode: None,
            denial_category: None,
            sequence: 0,
            id: id.clone(),
            outcome: Outcome::ClientAbort,
            duration_ms: 0.0,
            bytes_in: 0,
            bytes_out: 0,
            client: Some(client),
        };
        Self {
            id,
            began: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            draft: Mutex::new(Some((permit, record))),
        }
    }

    /// A recorder that gathers and sends nothing, to see what the others cost.
    #[cfg(feature = "bench")]
    pub fn silent(permit: &Permit) -> Self {
        Self {
            id: permit.id(),
            began: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            draft: Mutex::new(None),
        }
    }

    /// The id of this exchange's record.
    pub fn id(&self) -> &RecordId {
        &self.id
    }

    /// Notes something. Without effect once the record has been sent.
    pub fn note(&self, write: impl FnOnce(&mut Record)) {
        if let Some((_, record)) = &mut *self.lock() {
            write(record);
        }
    }

    /// Reads what has been noted so far; `None` once the record has been sent.
    pub fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> Option<T> {
        self.lock().as_ref().map(|(_, record)| read(record))
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

    /// Ends the exchange and sends its record. Only the first ending counts.
    pub fn finish(&self, outcome: Outcome) {
        let Some((permit, mut record)) = self.lock().take() else {
            return;
        };
        let refused = record.decision == Decision::Deny && outcome == Outcome::Complete;
        record.outcome = if refused { Outcome::Refused } else { outcome };
        record.duration_ms = self.began.elapsed().as_secs_f64() * 1_000.0;
        record.bytes_in = self.bytes_in.load(Ordering::Relaxed);
        record.bytes_out = self.bytes_out.load(Ordering::Relaxed);
        permit.send(record);
    }

    /// Ends an exchange that nobody brought to its end.
    pub fn abandon(&self) {
        let closed = self.lock().as_ref().is_some_and(|(permit, _)| permit.is_closed());
        self.finish(if closed { Outcome::Shutdown } else { Outcome::ClientAbort });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Permit, Record)>> {
        // A panic in a `note` closure leaves at worst one field unset.
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
