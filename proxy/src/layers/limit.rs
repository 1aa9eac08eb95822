//! Bounds how many exchanges run at once. The place is held until the response's body ends or
//! the tunnel closes, not only until the response's head, and is free at once when the client
//! leaves, since it travels with the exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Refusal};
use crate::exchange::Exchange;
use crate::layers::Step;

/// A place among the exchanges that may run at once; free when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    /// 0 is without limit.
    places: usize,
    /// A counter and no semaphore, since nobody waits for a place.
    taken: Arc<AtomicUsize>,
}

impl Limit {
    /// At most `places` at once; 0 is without limit.
    pub(crate) fn new(places: usize) -> Self {
        Self { places, taken: Arc::default() }
    }
}

impl<S> Step<S> for Limit {
    type To = S;

    fn step(&self, mut exchange: Exchange<S>) -> Result<Exchange<S>, Error> {
        if self.places > 0 {
            let one_more = |taken| (taken < self.places).then_some(taken + 1);
            self.taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
                .map_err(|_| Refusal::OverLimit)?;
            exchange.place = Some(Place { taken: Arc::clone(&self.taken) });
        }
        Ok(exchange)
    }
}
