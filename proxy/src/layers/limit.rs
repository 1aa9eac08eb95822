//! Bounds how many exchanges run at once. The place is held until the response's body ends or
//! the tunnel closes, not only until the response's head, and is free at once when the client
//! leaves, since it travels with the exchange.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Refusal};
use crate::exchange::Exchange;
use crate::layers::Step;

/// A place among the exchanges that may run at once; free when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    /// `None` is without limit.
    places: Option<Arc<Semaphore>>,
}

impl Limit {
    /// At most `places` at once; 0 is without limit.
    pub(crate) fn new(places: usize) -> Self {
        let bounded = || Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { places: (places > 0).then(bounded) }
    }
}

impl<S> Step<S> for Limit {
    type To = S;

    fn step(&self, mut exchange: Exchange<S>) -> Result<Exchange<S>, Error> {
        if let Some(places) = &self.places {
            let permit = Arc::clone(places).try_acquire_owned().map_err(|_| Refusal::OverLimit)?;
            exchange.place = Some(Place { _permit: permit });
        }
        Ok(exchange)
    }
}
