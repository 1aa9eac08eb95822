//! The exchanges that run now.

use std::array;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use slab::Slab;

use crate::Recorder;
use crate::apart::Apart;

/// So many locks share the exchanges, so that workers seldom meet at one.
const SHARDS: usize = 16;

thread_local! {
    /// Where the exchanges of this thread are: apart from those of others, whose changes it would
    /// have to fetch from their processors' caches.
    static SHARD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

/// See the module.
pub(crate) struct Active {
    shards: [Shard; SHARDS],
}

type Shard = Apart<Mutex<Slab<Weak<Recorder>>>>;

/// Where an exchange is among the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    shard: usize,
    key: usize,
}

impl Active {
    pub(crate) fn new() -> Self {
        Self { shards: array::from_fn(|_| Shard::default()) }
    }

    /// Adds an exchange of this thread.
    pub(crate) fn insert(&self, recorder: Weak<Recorder>) -> Slot {
        let shard = SHARD.with(|shard| *shard);
        Slot { shard, key: self.lock(shard).insert(recorder) }
    }

    pub(crate) fn remove(&self, Slot { shard, key }: Slot) {
        // Dropped when the lock is free again.
        let _recorder = self.lock(shard).try_remove(key);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).len()).sum()
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Recorder>> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            all.extend(self.lock(shard).iter().filter_map(|(_, recorder)| recorder.upgrade()));
        }
        all
    }

    #[expect(clippy::indexing_slicing, reason = "a shard is less than there are")]
    fn lock(&self, shard: usize) -> MutexGuard<'_, Slab<Weak<Recorder>>> {
        // A panic cannot leave it half-changed: every change is one call.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
