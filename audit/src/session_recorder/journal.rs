//! The log of a session while it is written to its file.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::repeated::Repeated;
use super::{RecordError, about, is_taken};
use crate::{AuditIntegrity, Network, NetworkEvent, SessionEvent, SessionLog};

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    log: SessionLog,
    /// Up to here it is whole.
    len: u64,
    /// Whether there is half a line behind that.
    is_torn: bool,
    /// How many events it has not taken, and does not tell of yet.
    lost: u64,
    /// Why it has not taken the first of all that it has not.
    failure: Option<RecordError>,
    repeated: Repeated,
}

impl Journal {
    /// Makes the file, for its owner alone.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self, RecordError> {
        let made = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => about(path)(is_taken()),
            _ => about(path)(error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            log: SessionLog::default(),
            len: 0,
            is_torn: false,
            lost: 0,
            failure: None,
            repeated: Repeated::default(),
        })
    }

    /// Writes events, all or none. Those that the file does not take are counted, and told of before
    /// the next ones that it takes.
    pub(super) fn record(&mut self, events: impl IntoIterator<Item = SessionEvent>) {
        let gap = self.gap().map(|event| SessionEvent::Network(Network { event }));
        let told = mem::take(&mut self.lost);
        let own: Vec<_> = events.into_iter().collect();
        let count = own.len() as u64;
        let all: Vec<_> = gap.into_iter().chain(own).collect();
        if let Err(error) = self.write(all) {
            self.lost = told + count;
            self.failure.get_or_insert(error);
        }
    }

    /// Writes events, all or none.
    ///
    /// # Errors
    /// The file does not take them.
    pub(super) fn write(&mut self, events: Vec<SessionEvent>) -> Result<(), RecordError> {
        if events.is_empty() {
            return Ok(());
        }
        let (mut next, mut lines, mut network) = (self.log.clone(), Vec::new(), Vec::new());
        for event in events {
            let before = lines.len();
            next.append(&event, &mut lines).map_err(about(&self.path))?;
            if let SessionEvent::Network(asked) = event {
                network.push((asked.event, lines.len() - before));
            }
        }
        self.put(&lines).map_err(about(&self.path))?;
        self.log = next;
        for (event, bytes) in network {
            self.repeated.push(event, bytes);
        }
        Ok(())
    }

    /// Appends whole lines.
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        // Half a line must not be followed by others. While it cannot be removed, the file shows it.
        if self.is_torn {
            self.file.set_len(self.len)?;
        }
        self.is_torn = false;
        io::Write::write_all(&mut self.file, lines)
            .inspect_err(|_| self.is_torn = self.file.set_len(self.len).is_err())?;
        self.len += lines.len() as u64;
        Ok(())
    }

    /// What stands for the events that are lost.
    fn gap(&self) -> Option<NetworkEvent> {
        let cause = self.failure.as_ref().filter(|_| self.lost > 0)?;
        Some(NetworkEvent::gap(format!(
            "no request, but {} that are not recorded: the log could not be written: {}",
            self.lost, cause.source
        )))
    }

    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> Result<(), RecordError> {
        self.file.sync_data().map_err(about(&self.path))
    }

    /// Has what comes written to another file, and returns the one before.
    #[cfg(test)]
    pub(super) fn change_file(&mut self, file: File) -> File {
        mem::replace(&mut self.file, file)
    }

    pub(super) fn count(&self) -> u64 {
        self.log.sequence()
    }

    /// What it comes to; nothing if it does not tell of all that it lacks, since then it is no proof
    /// that nothing is missing.
    pub(super) fn integrity(&self) -> Option<AuditIntegrity> {
        if self.lost > 0 { None } else { self.log.integrity() }
    }

    /// What `session.json` repeats of it, with what it does not tell itself; and whether all went well.
    pub(super) fn close(self) -> (Vec<NetworkEvent>, Result<(), RecordError>) {
        let gap = self.gap();
        let network = self.repeated.into_events().into_iter().chain(gap).collect();
        (network, self.failure.map_or(Ok(()), Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionEnded, timestamp};

    fn event() -> SessionEvent {
        SessionEvent::SessionEnded(SessionEnded { ended: timestamp(), exit_code: 0 })
    }

    fn full() -> File {
        File::options().append(true).open("/dev/full").unwrap()
    }

    #[test]
    fn what_is_lost_is_told_when_there_is_room_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut journal = Journal::create(&path).unwrap();
        journal.record([event()]);
        let file = journal.change_file(full());
        journal.record([event(), event()]);
        journal.record([event()]);
        assert_eq!((journal.count(), journal.integrity()), (1, None));
        journal.change_file(file);
        journal.record([event()]);
        let integrity = journal.integrity().unwrap();
        assert_eq!(integrity.event_count, 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("but 3 that are not recorded"), "{}", lines[1]);
        let (network, outcome) = journal.close();
        assert_eq!(network.len(), 1);
        assert_eq!(outcome.unwrap_err().source.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_is_lost_at_the_end_is_told_beside_the_log() {
        let place = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&place.path().join("log")).unwrap();
        journal.record([event()]);
        journal.change_file(full());
        journal.record([event()]);
        // Nothing more to write, but for that.
        journal.record([]);
        assert_eq!(journal.integrity(), None);
        let (network, outcome) = journal.close();
        assert!(network[0].reason.as_deref().unwrap().contains("but 1 that are not recorded"));
        outcome.unwrap_err();
    }

    #[test]
    fn half_a_line_is_removed_before_the_next_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut journal = Journal::create(&path).unwrap();
        journal.record([event()]);
        let whole = std::fs::read_to_string(&path).unwrap();
        let file = journal.change_file(full());
        journal.record([event()]);
        // What a disk takes of a line before it is full.
        std::fs::write(&path, format!("{whole}{{\"sequence\":")).unwrap();
        journal.change_file(file);
        journal.record([event()]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&whole));
        let mut chain = crate::chain::Chain::default();
        for line in text.lines() {
            chain.follow(line).unwrap();
        }
        assert_eq!(chain.lines, 3);
    }
}
