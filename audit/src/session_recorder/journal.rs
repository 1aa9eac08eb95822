//! The log of a session, as a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{RecordError, about, is_taken};
use crate::{AuditIntegrity, NetworkEvent, SessionEvent, SessionLog};

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    log: SessionLog,
    /// Up to here it is whole.
    len: u64,
    /// What is also in `session.json`.
    network: Vec<NetworkEvent>,
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
        let (log, network) = (SessionLog::default(), Vec::new());
        Ok(Self { path: path.to_owned(), file, log, len: 0, network })
    }

    /// Writes one event, whole or not at all.
    pub(super) fn write(&mut self, event: SessionEvent) -> Result<(), RecordError> {
        self.write_all([event])
    }

    /// Writes events, all or none.
    pub(super) fn write_all(
        &mut self,
        events: impl IntoIterator<Item = SessionEvent>,
    ) -> Result<(), RecordError> {
        let (mut next, mut lines, mut network) = (self.log.clone(), Vec::new(), Vec::new());
        for event in events {
            next.append(&event, &mut lines).map_err(about(&self.path))?;
            if let SessionEvent::Network(asked) = event {
                network.push(asked.event);
            }
        }
        io::Write::write_all(&mut self.file, &lines).map_err(|error| {
            // Half a line must not be followed by others. If this fails too, the file shows it.
            let _ = self.file.set_len(self.len);
            about(&self.path)(error)
        })?;
        self.log = next;
        self.len += lines.len() as u64;
        self.network.append(&mut network);
        Ok(())
    }

    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> Result<(), RecordError> {
        self.file.sync_data().map_err(about(&self.path))
    }

    /// Has what comes written to another file.
    #[cfg(test)]
    pub(super) fn change_file(&mut self, file: File) {
        self.file = file;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn count(&self) -> u64 {
        self.log.sequence()
    }

    pub(super) fn integrity(&self) -> Option<AuditIntegrity> {
        self.log.integrity()
    }

    pub(super) fn into_network(self) -> Vec<NetworkEvent> {
        self.network
    }
}
