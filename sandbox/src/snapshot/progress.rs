//! How far a snapshot or restore has come, for whoever shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::SnapshotError;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for another call of the session.
    Wait,
    /// Looking at what is tracked, and keeping what is new.
    Scan,
    /// Reading the objects that a restore needs.
    Check,
    /// Changing what is tracked.
    Restore,
}

impl Phase {
    /// The phase in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Scan => "scan",
            Self::Check => "check",
            Self::Restore => "restore",
        }
    }
}

/// A point on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How many entries are done.
    pub done: u64,
    /// How many there are, if that is known already.
    pub total: Option<u64>,
}

/// Is told how far it has come; `false` ends the work.
pub(super) type Callback<'a> = &'a (dyn Fn(Progress) -> bool + Sync);

/// Counts for a callback, and asks it now and then.
pub(super) struct Meter<'a> {
    callback: Callback<'a>,
    phase: Phase,
    total: Option<u64>,
    done: AtomicU64,
    bytes: AtomicU64,
    is_cancelled: AtomicBool,
}

impl<'a> Meter<'a> {
    /// How many entries pass between two calls.
    const STRIDE: u64 = 512;

    /// How many bytes of large files do.
    const BYTES: u64 = 8 << 20;

    pub(super) fn new(callback: Callback<'a>, phase: Phase, total: Option<u64>) -> Self {
        Self {
            callback,
            phase,
            total,
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_cancelled: AtomicBool::new(false),
        }
    }

    /// One more is done.
    pub(super) fn step(&self) -> Result<(), SnapshotError> {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(Self::STRIDE) { self.tell(done) } else { self.check() }
    }

    /// So many bytes more of an entry are done.
    pub(super) fn pass(&self, bytes: u64) -> Result<(), SnapshotError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / Self::BYTES == before.wrapping_add(bytes) / Self::BYTES {
            return self.check();
        }
        self.tell(self.done.load(Ordering::Relaxed))
    }

    /// The phase is over.
    pub(super) fn end(&self) -> Result<(), SnapshotError> {
        self.tell(self.done.load(Ordering::Relaxed))
    }

    fn tell(&self, done: u64) -> Result<(), SnapshotError> {
        if !(self.callback)(Progress { phase: self.phase, done, total: self.total }) {
            self.is_cancelled.store(true, Ordering::Relaxed);
        }
        self.check()
    }

    fn check(&self) -> Result<(), SnapshotError> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(SnapshotError::Cancelled);
        }
        Ok(())
    }
}
