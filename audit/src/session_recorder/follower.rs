//! Writes what a proxy records to the log of a session, on a thread of its own.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use super::journal::Journal;
use super::{RecordError, about};
use crate::{Consumer, Phase, Record, RecordId, SessionEvent};

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    /// The other end of what the thread waits for.
    wake: UnixStream,
    thread: JoinHandle<(Following, Result<(), RecordError>)>,
}

/// What the thread has.
#[derive(Debug)]
struct Following {
    journal: Journal,
    consumer: Consumer,
    signal: UnixStream,
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
        let mut following = Following { journal, consumer, signal, began_unix_ms };
        let work = move || {
            let outcome = following.run();
            (following, outcome)
        };
        let thread = thread::Builder::new().name("nono-session".to_owned()).spawn(work)?;
        Ok(Self { wake, thread })
    }

    /// Takes what is there, and what runs still, and gives the log back.
    pub(super) fn stop(
        self,
        running: impl FnOnce() -> Vec<Record>,
    ) -> io::Result<(Journal, Result<(), RecordError>)> {
        // It has ended by itself if this fails.
        let _ = self.wake.shutdown(Shutdown::Both);
        let panicked = |_| io::Error::other("the thread that writes a session's log has panicked");
        let (mut following, outcome) = self.thread.join().map_err(panicked)?;
        let outcome = outcome.and_then(|()| following.finish(&running()));
        Ok((following.journal, outcome))
    }
}

impl Following {
    /// Writes what comes until the records end, or the signal does.
    fn run(&mut self) -> Result<(), RecordError> {
        loop {
            self.take()?;
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
