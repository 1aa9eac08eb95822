//! Writes what a proxy records to the log of a session, on a thread of its own.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::journal::Journal;
use crate::{Consumer, Phase, Record, SessionEvent};

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    /// The other end of what the thread waits for.
    wake: UnixStream,
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<Following>,
}

/// What the thread has.
#[derive(Debug)]
struct Following {
    journal: Journal,
    consumer: Consumer,
    signal: UnixStream,
    /// Whether it is to end though more may have come.
    is_stopped: Arc<AtomicBool>,
    /// The number of the first exchange of the session. Clocks go back: they do not say what began
    /// before it.
    first: u64,
}

impl Follower {
    /// Follows what begins from now on.
    pub(super) fn start(journal: Journal, mut consumer: Consumer) -> io::Result<Self> {
        let signal = consumer.signal()?;
        signal.set_nonblocking(false)?;
        let wake = signal.try_clone()?;
        let is_stopped = Arc::<AtomicBool>::default();
        let theirs = Arc::clone(&is_stopped);
        let mut following = Following::new(journal, consumer, signal, theirs);
        let work = move || {
            following.run();
            following
        };
        let thread = thread::Builder::new().name("nono-session".to_owned()).spawn(work)?;
        Ok(Self { wake, is_stopped, thread })
    }

    /// Takes what is there, and what runs still, and gives the log back.
    pub(super) fn stop(self, running: impl FnOnce() -> Vec<Record>) -> io::Result<Journal> {
        // A busy proxy may leave it nothing to wait for.
        self.is_stopped.store(true, Ordering::Relaxed);
        // It has ended by itself if this fails.
        let _ = self.wake.shutdown(Shutdown::Both);
        let panicked = |_| io::Error::other("the thread that writes a session's log has panicked");
        let mut following = self.thread.join().map_err(panicked)?;
        following.finish(running());
        Ok(following.journal)
    }
}

impl Following {
    fn new(
        journal: Journal,
        mut consumer: Consumer,
        signal: UnixStream,
        is_stopped: Arc<AtomicBool>,
    ) -> Self {
        // In this order: what is skipped has begun, and is not of the session.
        consumer.skip();
        let first = consumer.next_number();
        Self { journal, consumer, signal, is_stopped, first }
    }

    /// Writes what comes until the records end, or the signal does.
    fn run(&mut self) {
        loop {
            self.take(|_| {});
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            if self.consumer.arm() {
                match self.signal.read(&mut [0; 64]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What comes from here on is kept until it is stopped.
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            } else if self.consumer.has_ended() {
                return;
            }
        }
    }

    /// Writes what has come, and what of `running` has not ended meanwhile.
    fn finish(&mut self, running: Vec<Record>) {
        // In this order: what ends in between is there twice, and never missing.
        let mut running: HashMap<_, _> =
            running.into_iter().map(|record| (record.id, record)).collect();
        self.take(|record| {
            if record.phase == Phase::End {
                running.remove(&record.id);
            }
        });
        let mut running: Vec<_> = running.into_values().collect();
        running.sort_unstable_by_key(|record| record.id.number);
        let own = running.iter().filter(|record| record.id.number >= self.first);
        self.journal.record(own.map(SessionEvent::from));
    }

    /// Writes the records that are there, group by group, and shows them to `see`.
    fn take(&mut self, mut see: impl FnMut(&Record)) {
        let Self { journal, consumer, first, .. } = self;
        consumer.drain_each(|consumer| {
            let batch = consumer.peek()?;
            batch.iter().for_each(&mut see);
            // The opening of a tunnel is told again at its end.
            let is_own =
                |record: &&Record| record.phase != Phase::Open && record.id.number >= *first;
            journal.record(batch.iter().filter(is_own).map(SessionEvent::from));
            Some(batch.end())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::{Bounds, Log, Mode, Outcome, Overflow, Reader, Recorder, Sender, Session};

    fn opened(sender: &Sender, target: &'static str) -> Arc<Recorder> {
        let permit = sender.try_reserve().unwrap();
        let recorder = Recorder::open(permit, Mode::Reverse, "client".into());
        recorder.note(|record| record.target = target.into());
        recorder
    }

    fn record(sender: &Sender) {
        opened(sender, "host").finish(Outcome::Complete);
    }

    fn proxy(records: usize) -> (Sender, Log) {
        let bounds = Bounds { records, disk: 1 << 20, overflow: Overflow::Refuse };
        Log::open(Session(7), bounds, Vec::new()).unwrap()
    }

    /// Waits until the follower has taken all that there is.
    fn settle(sender: &Sender) {
        while sender.waiting() > 0 {
            thread::yield_now();
        }
    }

    fn targets(journal: Journal) -> Vec<String> {
        let (network, outcome) = journal.close();
        outcome.unwrap();
        network.into_iter().map(|event| event.target).collect()
    }

    #[test]
    fn a_log_that_cannot_be_written_holds_nothing_of_the_proxy_and_tells_what_it_lacks() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let (sender, log) = proxy(4);
        let mut journal = Journal::create(&path).unwrap();
        let file = journal.change_file(File::options().append(true).open("/dev/full").unwrap());
        let consumer = log.subscribe(Reader::holding("test"));
        let follower = Follower::start(journal, consumer).unwrap();
        for _ in 0..9 {
            record(&sender);
            settle(&sender);
        }
        let mut journal = follower.stop(Vec::new).unwrap();
        assert_eq!((journal.count(), journal.integrity()), (0, None));
        journal.change_file(file);
        journal.record([]);
        assert_eq!(journal.integrity().unwrap().event_count, 1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("but 9 that are not recorded"), "{text}");
    }

    #[test]
    fn a_record_is_of_the_session_by_when_it_began_and_not_by_the_clock() {
        let place = tempfile::tempdir().unwrap();
        let (sender, log) = proxy(16);
        let before = opened(&sender, "before");
        // The clock is set back behind this, and forward again.
        before.note(|record| record.timestamp_unix_ms = u64::MAX);
        let journal = Journal::create(&place.path().join("log")).unwrap();
        let consumer = log.subscribe(Reader::holding("test"));
        let follower = Follower::start(journal, consumer).unwrap();
        for (target, time) in [("past", 0), ("future", u64::MAX)] {
            let own = opened(&sender, target);
            own.note(|record| record.timestamp_unix_ms = time);
            own.finish(Outcome::Complete);
        }
        before.finish(Outcome::Complete);
        let running = opened(&sender, "running");
        running.note(|record| record.timestamp_unix_ms = 0);
        let journal = follower.stop(|| vec![running.so_far().unwrap()]).unwrap();
        assert_eq!(targets(journal), ["past", "future", "running"]);
    }

    #[test]
    fn what_runs_at_the_end_is_told_once() {
        let place = tempfile::tempdir().unwrap();
        let (sender, log) = proxy(16);
        let before = opened(&sender, "before");
        let journal = Journal::create(&place.path().join("log")).unwrap();
        let consumer = log.subscribe(Reader::holding("test"));
        let follower = Follower::start(journal, consumer).unwrap();
        let (ending, running) = (opened(&sender, "ending"), opened(&sender, "running"));
        let all = || {
            let seen = [&running, &ending, &before].map(|one| one.so_far().unwrap());
            // It ends behind the look.
            ending.finish(Outcome::Complete);
            seen.into()
        };
        let journal = follower.stop(all).unwrap();
        assert_eq!(targets(journal), ["ending", "running"]);
    }

    #[test]
    fn it_ends_when_it_is_stopped_however_much_comes() {
        let place = tempfile::tempdir().unwrap();
        let (sender, log) = proxy(16);
        let mut consumer = log.subscribe(Reader::holding("test"));
        // The signal stays open, so nothing else ends it.
        let signal = consumer.signal().unwrap();
        signal.set_nonblocking(false).unwrap();
        let journal = Journal::create(&place.path().join("log")).unwrap();
        let is_stopped = Arc::new(AtomicBool::new(true));
        let mut following = Following::new(journal, consumer, signal, is_stopped);
        record(&sender);
        following.run();
        assert_eq!(following.journal.count(), 1);
    }
}
