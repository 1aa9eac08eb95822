//! The exchanges that run now.

use std::array;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

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

    /// All of them, in no order. The record of one that was there before, and is not among them, is
    /// in the log.
    pub(crate) fn all(&self) -> Vec<Arc<Recorder>> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            let keys: Vec<_> = self.lock(shard).iter().map(|(key, _)| key).collect();
            all.extend(keys.into_iter().filter_map(|key| self.get(Slot { shard, key })));
        }
        all
    }

    /// The exchange that is there, if any is still. One that nobody holds is about to be, or was left
    /// unfinished and sends its record: that does not take long, and is waited for.
    fn get(&self, Slot { shard, key }: Slot) -> Option<Arc<Recorder>> {
        loop {
            let recorders = self.lock(shard);
            let recorder = recorders.get(key)?.upgrade();
            drop(recorders);
            if recorder.is_some() {
                return recorder;
            }
            thread::yield_now();
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a shard is less than there are")]
    fn lock(&self, shard: usize) -> MutexGuard<'_, Slab<Weak<Recorder>>> {
        // A panic cannot leave it half-changed: every change is one call.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use crate::{Bounds, Log, Mode, Outcome, Overflow, Reader, Recorder, Session};

    const MANY: usize = 50_000;

    #[test]
    fn an_exchange_that_has_begun_runs_or_has_its_record_in_the_log() {
        // Nobody has shown a token here, and of a log that is read late only a part is for such.
        let bounds = Bounds { records: 8 * MANY, disk: 0, overflow: Overflow::Refuse };
        let (sender, log) = Log::open(Session(7), bounds, Vec::new()).unwrap();
        let mut consumer = log.subscribe(Reader::holding("test"));
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            let exchanges = scope.spawn(|| {
                for number in 0..MANY {
                    let permit = sender.try_reserve().unwrap();
                    let recorder = Recorder::open(permit, Mode::Reverse, "host".into());
                    begun.store(number + 1, Ordering::Release);
                    // The others are left unfinished.
                    if number % 2 == 0 {
                        recorder.finish(Outcome::Complete);
                    }
                }
            });
            let mut ended = 0;
            while !exchanges.is_finished() {
                let begun = begun.load(Ordering::Acquire);
                // One behind the other, so that one runs at most.
                let running = log.active().len();
                ended += consumer.drain().len();
                assert!(ended + running >= begun, "{ended} and {running} of {begun}");
            }
        });
        assert!(log.active().is_empty());
    }
}
