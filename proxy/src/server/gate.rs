//! What the guard of a connection and the exchanges on it tell each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

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
    /// How many came for the request that runs.
    interims: AtomicU32,
    /// Whether the body of the request that runs is still being passed on.
    is_uploading: AtomicBool,
    /// The timer that waits for responses, between two exchanges.
    timer: Mutex<Option<Timer>>,
    /// The connection's task, which also runs its exchange.
    waker: AtomicWaker,
}

/// The most interim responses to one request.
const INTERIM_LIMIT: u32 = 32;

/// Why a request's body has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its framing is none.
    Malformed(Malformed),
    /// The client left, or closed its sending side.
    Left,
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

    pub(super) fn blame(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// The connection stops being HTTP with this response.
    pub(crate) fn switch(&self) {
        self.phase.store(SWITCHED, Ordering::Release);
    }

    /// Writes `head` to the client before the response that is due.
    pub(crate) fn interim(&self, head: &[u8]) {
        if self.interims.fetch_add(1, Ordering::Relaxed) < INTERIM_LIMIT {
            self.lock_interim().extend_from_slice(head);
        }
        self.waker.wake();
    }

    /// Notes whether the request that runs has more of its body to come.
    pub(crate) fn set_uploading(&self, is_uploading: bool) {
        self.is_uploading.store(is_uploading, Ordering::Relaxed);
    }

    /// Whether the request that runs has more of its body to come.
    pub(crate) fn is_uploading(&self) -> bool {
        self.is_uploading.load(Ordering::Relaxed)
    }

    /// Where a timer waits for the next exchange.
    pub(crate) fn timer(&self) -> MutexGuard<'_, Option<Timer>> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any came for the request that runs; most requests have none.
    pub(super) fn has_interim(&self) -> bool {
        self.interims.load(Ordering::Relaxed) > 0
    }

    /// Ready when more interim responses came for the request that runs than are passed on.
    pub(crate) fn poll_flooded(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.interims.load(Ordering::Relaxed) > INTERIM_LIMIT {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Names the task to wake when something changes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    pub(super) fn occupy(&self) {
        self.interims.store(0, Ordering::Relaxed);
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
