//! Writes what a proxy records to the log of a session, on a thread of its own.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::journal::Journal;
use super::{RecordError, about};
use crate::{Consumer, Phase, Record, RecordId, SessionEvent};

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    /// The other end of what the thread waits for.
    wake: UnixStream,
    is_stopped: Arc<AtomicBool>,
    /// Returns the log without its consumer, which would hold the proxy's records, when it cannot
    /// be written.
    thread: JoinHandle<Result<Following, Box<(Journal, RecordError)>>>,
}

/// What the thread has.
#[derive(Debug)]
struct Following {
    journal: Journal,
    consumer: Consumer,
    signal: UnixStream,
    /// Whether it is to end though more may have come.
    is_stopped: Arc<AtomicBool>,
    began_unix_ms: u64,
}

impl Follower {
    /// Follows what comes from now on.
    pub(super) fn start(
        journal: Journal,
        mut consumer: Consumer,
        began_unix_ms: u64,
    ) -> io::Result<Self> {
        consumer.skip();
        let signal = consumer.signal()?;
        signal.set_nonblocking(false)?;
        let wake = signal.try_clone()?;
        let is_stopped = Arc::<AtomicBool>::default();
        let theirs = Arc::clone(&is_stopped);
        let mut following =
            Following { journal, consumer, signal, is_stopped: theirs, began_unix_ms };
        let work = move || match following.run() {
            Ok(()) => Ok(following),
            Err(error) => Err((following.journal, error).into()),
        };
        let thread = thread::Builder::new().name("nono-session".to_owned()).spawn(work)?;
        Ok(Self { wake, is_stopped, thread })
    }

    /// Takes what is there, and what runs still, and gives the log back.
    pub(super) fn stop(
        self,
        running: impl FnOnce() -> Vec<Record>,
    ) -> io::Result<(Journal, Result<(), RecordError>)> {
        // A busy proxy may leave it nothing to wait for.
        self.is_stopped.store(true, Ordering::Relaxed);
        // It has ended by itself if this fails.
        let _ = self.wake.shutdown(Shutdown::Both);
        let panicked = |_| io::Error::other("the thread that writes a session's log has panicked");
        Ok(match self.thread.join().map_err(panicked)? {
            Ok(mut following) => {
                let outcome = following.finish(&running());
                (following.journal, outcome)
            }
            Err(failed) => {
                let (journal, error) = *failed;
                (journal, Err(error))
            }
        })
    }
}

impl Following {
    /// Writes what comes until the records end, or the signal does.
    fn run(&mut self) -> Result<(), RecordError> {
        loop {
            self.take()?;
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.consumer.arm() {
                match self.signal.read(&mut [0; 64]) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(_) => {}
                    Err(error) => return Err(about(self.journal.path())(error)),
                }
            } else if self.consumer.has_ended() {
                return Ok(());
            }
        }
    }

    /// Writes what has come, and what of `running` has not ended meanwhile.
    fn finish(&mut self, running: &[Record]) -> Result<(), RecordError> {
        // In this order: what ends in between is there twice, and never missing.
        let ended = self.take()?;
        let running = running.iter().filter(|record| !ended.contains(&record.id));
        self.write(running)
    }

    /// Writes the records that are there, and returns whose they are.
    fn take(&mut self) -> Result<HashSet<RecordId>, RecordError> {
        let records = self.consumer.drain();
        // The opening of a tunnel is told again at its end.
        let whole = records.iter().filter(|record| record.phase != Phase::Open);
        self.write(whole)?;
        Ok(records.iter().filter(|one| one.phase == Phase::End).map(|one| one.id).collect())
    }

    fn write<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<(), RecordError> {
        let began = self.began_unix_ms;
        let own = records.filter(|record| record.timestamp_unix_ms >= began);
        self.journal.write_all(own.map(SessionEvent::from))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{Bounds, Log, Mode, Outcome, Overflow, Reader, Recorder, Sender, Session};

    fn record(sender: &Sender) {
        let permit = sender.try_reserve().unwrap();
        Recorder::open(permit, Mode::Reverse, "host".into()).finish(Outcome::Complete);
    }

    #[test]
    fn a_log_that_cannot_be_written_holds_nothing_of_the_proxy() {
        let place = tempfile::tempdir().unwrap();
        let bounds = Bounds { records: 4, disk: 0, overflow: Overflow::Refuse };
        let (sender, log) = Log::open(Session(7), bounds, Vec::new()).unwrap();
        let mut journal = Journal::create(&place.path().join("log")).unwrap();
        journal.change_file(File::options().append(true).open("/dev/full").unwrap());
        let consumer = log.subscribe(Reader::holding("test"));
        let follower = Follower::start(journal, consumer, 0).unwrap();
        record(&sender);
        while !follower.thread.is_finished() {
            thread::yield_now();
        }
        record(&sender);
        assert_eq!(sender.waiting(), 0, "nobody is waited for");
        let (journal, outcome) = follower.stop(|| unreachable!("it has failed")).unwrap();
        assert_eq!(outcome.unwrap_err().source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(journal.count(), 0);
    }

    #[test]
    fn it_ends_when_it_is_stopped_however_much_comes() {
        let place = tempfile::tempdir().unwrap();
        let bounds = Bounds { records: 16, disk: 1 << 20, overflow: Overflow::Refuse };
        let (sender, log) = Log::open(Session(7), bounds, Vec::new()).unwrap();
        let mut consumer = log.subscribe(Reader::holding("test"));
        record(&sender);
        // The signal stays open, so nothing else ends it.
        let signal = consumer.signal().unwrap();
        signal.set_nonblocking(false).unwrap();
        let journal = Journal::create(&place.path().join("log")).unwrap();
        let is_stopped = Arc::new(AtomicBool::new(true));
        let mut following = Following { journal, consumer, signal, is_stopped, began_unix_ms: 0 };
        following.run().unwrap();
        assert_eq!(following.journal.count(), 1);
    }
}
