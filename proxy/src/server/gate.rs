//! What a client's connection and the exchange on it tell each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;

use crate::error::Malformed;
use crate::idle::Timer;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Why the body of the running request has no end.
    fault: OnceLock<Fault>,
    /// Interim responses that wait to be written.
    interim: Mutex<BytesMut>,
    /// Whether there are any; most requests have none.
    has_interim: AtomicBool,
    /// Whether more of the running request's body is asked for, and has not come.
    is_awaited: AtomicBool,
    /// The timer that waits for responses, between two exchanges.
    timer: Mutex<Option<Timer>>,
    /// The task of the connection.
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

impl Gate {
    /// Why the body of the running request has no end, if so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    /// Notes why the body of the running request has no end, which will be the connection's. Only
    /// the first reason counts.
    pub(crate) fn blame(&self, fault: Fault) {
        let _ = self.fault.set(fault);
    }

    /// Whether it is the client that is waited for: for more of its request's body.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    /// Notes whether it is.
    pub(crate) fn set_awaited(&self, is_awaited: bool) {
        self.is_awaited.store(is_awaited, Ordering::Relaxed);
    }

    /// Writes `head` to the client before the response that is due.
    pub(crate) fn interim(&self, head: &[u8]) {
        self.lock_interim().extend_from_slice(head);
        self.has_interim.store(true, Ordering::Release);
        self.wake();
    }

    /// Takes the interim responses that wait.
    pub(super) fn take_interim(&self) -> Option<BytesMut> {
        let has_some = self.has_interim.load(Ordering::Acquire);
        has_some.then(|| {
            let mut interim = self.lock_interim();
            self.has_interim.store(false, Ordering::Release);
            interim.split()
        })
    }

    /// Where a timer waits for the next exchange.
    pub(crate) fn timer(&self) -> MutexGuard<'_, Option<Timer>> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the task to wake when something changes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Wakes that task.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    fn lock_interim(&self) -> MutexGuard<'_, BytesMut> {
        // A panic cannot leave it half-written: every change is one call.
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
