//! What threads write to often, apart from what others do: one would fetch the other's from its
//! processor's cache each time.

use std::ops::Deref;

/// Fills whole lines of a cache.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
