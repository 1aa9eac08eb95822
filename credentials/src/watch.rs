//! Notices that a file changed: written to, replaced, made, removed, or led to by another link.
//!
//! It is looked at, a few times a second, on a thread of its own. Unlike the kernel's
//! notifications this sees every way in which files of keys are rotated (a directory's link that
//! is moved, as for secrets mounted into containers), on every file system.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// How long a change may go unnoticed.
const INTERVAL: Duration = Duration::from_millis(100);

/// How coarse the times of a file system may be. What was changed so shortly before it was looked
/// at may be changed again without a trace, and so counts as changed at the next look.
const COARSENESS: Duration = Duration::from_millis(50);

/// A file that is looked at, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    changes: Arc<Notify>,
    /// Ends the thread.
    _end: Sender<()>,
}

impl Watch {
    /// Looks at the file at `path`, from before this returns on. A file system that does not answer
    /// is not waited for: what is there when it does then counts as a change.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) async fn new(path: PathBuf) -> io::Result<Self> {
        Self::by(move || Stamp::of(&path)).await
    }

    async fn by(look: impl Fn() -> Stamp + Send + 'static) -> io::Result<Self> {
        let changes = Arc::new(Notify::new());
        let (end, ended) = channel();
        let (looked, has_looked) = oneshot::channel();
        let notify = Arc::clone(&changes);
        let keep_looking = move || {
            let mut seen = look();
            // Whoever does not wait any more may have read what was there before.
            if looked.send(()).is_err() {
                notify.notify_one();
            }
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let now = look();
                if now.state != seen.state || seen.is_young {
                    notify.notify_one();
                }
                seen = now;
            }
        };
        std::thread::Builder::new().name("nono-key-file".into()).spawn(keep_looking)?;
        let _ = timeout(INTERVAL, has_looked).await;
        Ok(Self { changes, _end: end })
    }

    /// Returns when the file has changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changes.notified().await;
    }
}

/// What tells one state of a file from another.
struct Stamp {
    /// Where it is, its size, and when it was written and changed: the last, nobody can set back.
    /// `None` where there is no file.
    state: Option<[i64; 7]>,
    /// Whether it changed just before.
    is_young: bool,
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let now = SystemTime::now();
        let Ok(metadata) = fs::metadata(path) else { return Self { state: None, is_young: false } };
        let changed = Duration::from_secs(metadata.ctime().try_into().unwrap_or_default())
            + Duration::from_nanos(metadata.ctime_nsec().try_into().unwrap_or_default());
        let is_young = now.duration_since(UNIX_EPOCH).is_ok_and(|now| is_young(changed, now));
        let state = [
            metadata.dev().cast_signed(),
            metadata.ino().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ];
        Self { state: Some(state), is_young }
    }
}

/// Whether what `changed` then was changed just before `now`. A time to come, of a clock that was set
/// back or of another machine, says nothing of that.
fn is_young(changed: Duration, now: Duration) -> bool {
    changed.abs_diff(now) < COARSENESS
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{COARSENESS, INTERVAL, Stamp, Watch, is_young};

    #[test]
    fn what_changed_just_before_is_young_and_what_is_to_change_is_not() {
        let now = 2 * COARSENESS;
        for (changed, young) in [
            (COARSENESS, false),
            (3 * COARSENESS / 2, true),
            (2 * COARSENESS, true),
            (5 * COARSENESS / 2, true),
            (3 * COARSENESS, false),
            (Duration::from_hours(1), false),
        ] {
            assert_eq!(is_young(changed, now), young, "{changed:?}");
        }
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_up_nobody_and_what_it_says_then_is_a_change() {
        let (answer, answers) = channel();
        let look = move || {
            // An error when nobody is there to answer any more.
            let _: Result<(), _> = answers.recv();
            Stamp { state: None, is_young: false }
        };
        let watch = Watch::by(look).await.unwrap();
        assert!(timeout(2 * INTERVAL, watch.changed()).await.is_err());
        answer.send(()).unwrap();
        timeout(Duration::from_secs(20), watch.changed()).await.expect("not noticed");
    }

    #[tokio::test]
    async fn a_file_is_noticed_however_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("key"), "same-size").unwrap();
        }
        symlink(at("a"), at("now")).unwrap();
        let file = at("now").join("key");
        let watch = Watch::new(file.clone()).await.unwrap();
        let changes: [(&str, &dyn Fn()); 5] = [
            ("its directory's link is moved", &|| {
                symlink(at("b"), at("new")).unwrap();
                fs::rename(at("new"), at("now")).unwrap();
            }),
            ("it is written to", &|| fs::write(&file, "other-one").unwrap()),
            ("it is removed", &|| fs::remove_file(&file).unwrap()),
            ("it is made", &|| fs::write(&file, "again-new").unwrap()),
            ("it is replaced", &|| fs::rename(at("a").join("key"), &file).unwrap()),
        ];
        for (what, change) in changes {
            // What changed a moment ago counts as changed once more.
            while timeout(3 * INTERVAL, watch.changed()).await.is_ok() {}
            change();
            let noticed = timeout(Duration::from_secs(20), watch.changed()).await;
            assert!(noticed.is_ok(), "not noticed: {what}");
        }
    }
}
