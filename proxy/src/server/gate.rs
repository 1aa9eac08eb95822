//! What the guard of a connection and the exchanges on it tell each other.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;

use super::framing::Malformed;
use crate::idle::Timer;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    phase: AtomicU8,
    /// Why the body of the request that was passed on has no end.
    fault: Mutex<Option<Fault>>,
    /// Interim responses that wait to be written before the next bytes of the library's.
    interim: Mutex<BytesMut>,
    /// Whether any came for the request that runs.
    has_interim: AtomicBool,
    /// The timer that waits for responses, between two exchanges.
    timer: Mutex<Option<Timer>>,
    /// The connection's task, which also runs its exchange.
    waker: AtomicWaker,
}

/// Why a request's body has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its framing is none.
    Malformed(Malformed),
    /// The client left, or closed its sending side.
    Left,
    /// Nothing of it came for too long.
    Rested,
}

/// Between exchanges.
pub(super) const IDLE: u8 = 0;
/// A request was passed on; its response has not ended.
pub(super) const BUSY: u8 = 1;
/// The connection is a tunnel now.
pub(super) const SWITCHED: u8 = 2;

impl Gate {
    /// The response has ended; a request that waits behind it comes next.
    pub(crate) fn release(&self) {
        let busy = self.phase.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Relaxed);
        if busy.is_ok() {
            self.waker.wake();
        }
    }

    /// Why the body of the running request has no end, if so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why the body of the running request has no end.
    pub(crate) fn blame(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// The connection stops being HTTP with this response.
    pub(crate) fn switch(&self) {
        self.phase.store(SWITCHED, Ordering::Release);
    }

    /// Writes `head` to the client before the response that is due.
    pub(crate) fn interim(&self, head: &[u8]) {
        self.lock_interim().extend_from_slice(head);
        self.has_interim.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Where a timer waits for the next exchange.
    pub(crate) fn timer(&self) -> MutexGuard<'_, Option<Timer>> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any came for the request that runs; most requests have none.
    pub(super) fn has_interim(&self) -> bool {
        self.has_interim.load(Ordering::Relaxed)
    }

    /// Names the task to wake when something changes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    pub(super) fn occupy(&self) {
        self.has_interim.store(false, Ordering::Relaxed);
        self.phase.store(BUSY, Ordering::Release);
    }

    pub(super) fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    pub(super) fn lock_interim(&self) -> MutexGuard<'_, BytesMut> {
        // A panic cannot leave it half-written: every change is one call.
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
