//! A session's log while it is written: `audit-events.ndjson`, line by line.

mod verify;

use std::io::{self, Write};

use crate::chain::Chain;
use crate::merkle::Tree;
use crate::{AuditIntegrity, Hash, SessionEvent};

pub use verify::{EVENTS_FILENAME, LogVerification, SESSION_FILENAME, StoredIntegrity, verify_log};

/// How far the log of a session has come, and what it comes to. It holds no events, so a copy
/// is cheap, and what is undone is the copy.
///
/// ```
/// use nono_audit::{SessionEnded, SessionEvent, SessionLog, timestamp};
///
/// let (mut log, mut file) = (SessionLog::default(), Vec::new());
/// let ended = SessionEnded { ended: timestamp(), exit_code: 0 };
/// log.write(&mut file, &SessionEvent::SessionEnded(ended))?;
/// assert_eq!(log.integrity().map(|integrity| integrity.event_count), Some(1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SessionLog {
    chain: Chain,
    tree: Tree,
}

impl SessionLog {
    /// The number of the next event: 0, 1, 2, …
    pub fn sequence(&self) -> u64 {
        self.chain.lines
    }

    /// The last line's `chain_hash`.
    pub fn chain_head(&self) -> Option<Hash> {
        self.chain.head
    }

    /// Appends the line of `event`, line feed included, to `out`.
    ///
    /// # Errors
    /// None that is known: an event is always JSON, and `out` is memory.
    pub fn append(&mut self, event: &SessionEvent, out: &mut Vec<u8>) -> io::Result<()> {
        let leaf = self.chain.append(&event.text()?, out)?;
        self.tree.push(leaf);
        Ok(())
    }

    /// Writes the line of `event` to `out` at once, and flushes it. The log goes on only if
    /// that succeeds; half a line may be there if it does not.
    ///
    /// # Errors
    /// `out` does not take it.
    pub fn write(&mut self, out: &mut impl Write, event: &SessionEvent) -> io::Result<()> {
        let (mut next, mut line) = (self.clone(), Vec::with_capacity(1024));
        next.append(event, &mut line)?;
        out.write_all(&line)?;
        out.flush()?;
        *self = next;
        Ok(())
    }

    /// What the log comes to so far: what a session keeps of it; `None` if it is empty.
    pub fn integrity(&self) -> Option<AuditIntegrity> {
        let (head, root) = (self.chain.head?, self.tree.root()?);
        Some(AuditIntegrity {
            hash_algorithm: AuditIntegrity::HASH_ALGORITHM.to_owned(),
            event_count: self.chain.lines,
            chain_head: head.to_string(),
            merkle_root: root.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SessionLog;
    use crate::{SessionEnded, SessionEvent, SessionStarted};

    fn events() -> [SessionEvent; 2] {
        let started = "2026-01-01T00:00:00Z".to_owned();
        let ended = started.clone();
        let command = vec!["é🦀\u{7f}\"".to_owned()];
        [
            SessionEvent::SessionStarted(SessionStarted {
                started,
                command,
                redaction_policy: None,
            }),
            SessionEvent::SessionEnded(SessionEnded { ended, exit_code: -9 }),
        ]
    }

    #[test]
    fn a_line_that_is_not_written_is_not_counted() {
        struct Full;
        impl std::io::Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let [first, second] = events();
        let (mut log, mut file) = (SessionLog::default(), Vec::new());
        log.write(&mut file, &first).unwrap();
        let head = log.chain_head();
        log.write(&mut Full, &second).unwrap_err();
        assert_eq!((log.sequence(), log.chain_head()), (1, head));
        log.write(&mut file, &second).unwrap();
        let mut chain = crate::chain::Chain::default();
        for line in String::from_utf8(file).unwrap().lines() {
            assert_eq!(chain.follow(line).unwrap().form, crate::chain::Form::Verbatim);
        }
        assert_eq!((chain.lines, chain.head), (2, log.chain_head()));
        assert_eq!(log.integrity().unwrap().event_count, 2);
        assert_eq!(SessionLog::default().integrity(), None);
    }
}
