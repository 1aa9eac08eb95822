//! Files that take longer to read than anybody waits: nothing depends on how large a file says it is.

use std::fs::{self, File};
use std::path::Path;

use nono_sandbox::snapshot::{ExclusionConfig, Limits, Progress, SnapshotError, SnapshotManager};

use crate::tree::describe;
use crate::{Session, keep_going};

/// A hole, with nothing in it.
const ENDLESS: u64 = 1 << 40;

fn grow(path: &Path) {
    File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .unwrap()
        .set_len(ENDLESS)
        .unwrap();
}

/// Of the same files, in a session of its own that may hold as much.
fn manager(session: &Session, max_bytes: u64) -> SnapshotManager {
    let directory = session.directory.path().join(max_bytes.to_string());
    let limits = Limits { max_bytes, ..Limits::default() };
    SnapshotManager::new(&directory, &[session.path("")], ExclusionConfig::default(), limits)
        .unwrap()
}

/// How many bytes are kept.
fn kept(manager: &SnapshotManager) -> u64 {
    let objects = manager.directory().join("objects");
    let files = fs::read_dir(objects).unwrap().flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect()
        } else {
            vec![path]
        }
    });
    files.map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn a_file_that_is_larger_than_may_be_held_is_not_read() {
    let session = Session::new(|root| fs::write(root.join("file"), "before").unwrap());
    let manager = manager(&session, 1 << 20);
    manager.create_baseline(&keep_going).unwrap();
    grow(&session.path("endless"));
    let error = manager.create_incremental(&keep_going).unwrap_err();
    assert!(matches!(error, SnapshotError::Budget { what: "bytes", .. }), "{error}");
    assert!(kept(&manager) < 100);
}

#[test]
fn a_restore_does_not_read_what_it_removes_or_replaces() {
    let session = Session::new(|root| {
        fs::write(root.join("file"), "before").unwrap();
        fs::write(root.join("two names"), "before").unwrap();
        fs::hard_link(root.join("two names"), root.join("of one")).unwrap();
    });
    session.baseline();
    let before = describe(&session.path(""));
    for name in ["endless", "file", "of one"] {
        grow(&session.path(name));
    }
    let changes = session.manager.restore_to(0, &keep_going).unwrap();
    assert_eq!(
        session.named(&changes),
        [
            ("endless".to_owned(), "deleted"),
            ("file".to_owned(), "modified"),
            ("of one".to_owned(), "modified"),
            ("two names".to_owned(), "modified"),
        ]
    );
    assert!(changes.iter().all(|change| change.old_hash.is_none()));
    assert_eq!(describe(&session.path("")), before);
}

#[test]
fn a_callback_can_stop_the_reading_of_one_file() {
    let session = Session::new(|root| grow(&root.join("endless")));
    let manager = manager(&session, 0);
    let error = manager.create_baseline(&|_: Progress| false).unwrap_err();
    assert!(matches!(error, SnapshotError::Cancelled), "{error}");
    assert_eq!(kept(&manager), 0);
}
