//! What only the process that made it may use. A child that is forked has a copy of it without its
//! threads: a lock of it may be held for ever, and its files and sockets are the parent's. There
//! the copy is refused, and never dropped.

use std::mem::ManuallyDrop;
use std::process;
use std::sync::Arc;

use pyo3::PyErr;

use crate::error::foreign;

/// A value of one process.
#[derive(Debug)]
pub(crate) struct Local<T> {
    value: Arc<T>,
    process: u32,
}

/// This is not the process that made a value; that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign(u32);

impl<T> Local<T> {
    /// A value of this process.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Arc::new(value), process: process::id() }
    }

    /// The value.
    ///
    /// # Errors
    /// This is a forked child of the process that made it.
    pub(crate) fn get(&self) -> Result<&T, Foreign> {
        if self.process == process::id() { Ok(&self.value) } else { Err(Foreign(self.process)) }
    }

    /// The value in any process: for what of it never changes, and takes no lock.
    pub(crate) fn constant(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.get().is_err() {
            // It is counted once more than it will ever be let go of.
            let _kept = ManuallyDrop::new(Arc::clone(&self.value));
        }
    }
}

impl From<Foreign> for PyErr {
    fn from(Foreign(process): Foreign) -> Self {
        foreign(process)
    }
}
