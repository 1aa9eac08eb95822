//! Notices that a file changed: written to, replaced, made, removed, or led to by another link.
//!
//! It is looked at, a few times a second, on a thread of its own. Unlike the kernel's
//! notifications this sees every way in which files of keys are rotated (a directory's link that
//! is moved, as for secrets mounted into containers), on every file system.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{fs, io};

use tokio::sync::Notify;

/// How long a change may go unnoticed.
const INTERVAL: Duration = Duration::from_millis(100);

/// A file that is looked at, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    changes: Arc<Notify>,
    /// Ends the thread.
    _end: Sender<()>,
}

impl Watch {
    /// Looks at the file at `path`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn new(path: PathBuf) -> io::Result<Self> {
        let changes = Arc::new(Notify::new());
        let (end, ended) = channel();
        let notify = Arc::clone(&changes);
        let mut seen = stamp(&path);
        let look = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let now = stamp(&path);
                if now != seen {
                    seen = now;
                    notify.notify_one();
                }
            }
        };
        std::thread::Builder::new().name("nono-key-file".into()).spawn(look)?;
        Ok(Self { changes, _end: end })
    }

    /// Returns when the file has changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changes.notified().await;
    }
}

/// What tells one state of a file from another. The time of the last change of its metadata is
/// among it: nobody can set that back.
fn stamp(path: &Path) -> Option<[i64; 6]> {
    let metadata = fs::metadata(path).ok()?;
    Some([
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ])
}
