//! Waiting for records, for who must let go of the consumer meanwhile too.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Consumer;
use crate::log::Shared;

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There are records.
    Ready,
    /// There are none, and none will come.
    Ended,
    /// There are none yet.
    TimedOut,
}

/// Waits for a consumer's records. When that is gone, what it says is of no use.
#[derive(Clone)]
pub struct Waiter {
    shared: Arc<Shared>,
    key: usize,
}

impl Consumer {
    /// Waits until there are records, none will come, or `limit` is over. Records come in groups:
    /// one may wait some milliseconds for others.
    pub fn wait(&self, limit: Duration) -> Waited {
        self.waiter().wait(limit)
    }

    /// Waits as the consumer does, and lets others have that meanwhile.
    pub fn waiter(&self) -> Waiter {
        Waiter { shared: Arc::clone(&self.shared), key: self.key }
    }
}

impl Waiter {
    /// See [`Consumer::wait`].
    pub fn wait(&self, limit: Duration) -> Waited {
        let until = Instant::now().checked_add(limit);
        let mut state = self.shared.lock();
        loop {
            if self.shared.has_news(&state, state.position(self.key)) {
                return Waited::Ready;
            }
            if state.has_ended {
                return Waited::Ended;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(limit);
            if left.is_zero() {
                return Waited::TimedOut;
            }
            self.shared.want();
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}
