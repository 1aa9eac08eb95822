//! What a consumer drains as JSON Lines, in memory that it uses again: memory that is new to the
//! process costs more than the lines that are written there.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A consumer keeps no more bytes than these.
const KEPT: usize = 4 << 20;

/// Records as JSON Lines.
#[derive(Debug)]
pub struct Lines {
    bytes: Vec<u8>,
    spare: Spare,
}

/// The memory that a consumer keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// The most that was given back to the allocator.
    freed: usize,
}

impl Spare {
    /// Takes it, empty.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().bytes)
    }

    /// The lines in `bytes`, which come back here when they are of no more use.
    pub(crate) fn lend(&self, bytes: Vec<u8>) -> Lines {
        Lines { bytes, spare: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Lines {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut kept = self.spare.lock();
        // What is larger than all before is given back, once: glibc asks the system anew for each
        // piece that is larger than any that was freed, also for a copy of these lines.
        if self.bytes.capacity() > kept.freed.min(KEPT) {
            kept.freed = kept.freed.max(self.bytes.capacity());
        } else {
            self.bytes.clear();
            kept.bytes = std::mem::take(&mut self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Spare};

    #[test]
    fn memory_is_used_again_unless_it_is_much_or_more_than_ever() {
        let spare = Spare::default();
        drop(spare.lend(b"lines".to_vec()));
        assert_eq!(spare.take().capacity(), 0);
        drop(spare.lend(b"lines".to_vec()));
        let again = spare.take();
        assert!(again.is_empty() && again.capacity() >= 5);
        for _ in 0..2 {
            drop(spare.lend(Vec::with_capacity(KEPT + 1)));
            assert_eq!(spare.take().capacity(), 0);
        }
    }
}
