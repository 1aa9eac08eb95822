//! Calls of one session wait for each other, as long as their callbacks want to.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use nono_sandbox::snapshot::{Phase, Progress, SnapshotError};
use rustix::fs::{FlockOperation, flock};

use crate::{Session, keep_going};

/// What another process holds while it works in the session.
fn held(session: &Session) -> File {
    let file = File::open(session.session("lock")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

#[test]
fn whoever_waits_is_asked_whether_to_go_on() {
    let session = Session::new(|root| fs::write(root.join("file"), "").unwrap());
    session.baseline();
    let held = held(&session);
    let give_up = |progress: Progress| progress.phase != Phase::Wait;
    let outcomes = [
        session.manager.create_baseline(&give_up).map(drop),
        session.manager.create_incremental(&give_up).map(drop),
        session.manager.compute_restore_diff(0, &give_up).map(drop),
        session.manager.restore_to(0, &give_up).map(drop),
        session.manager.save_session_metadata("{}", &give_up),
    ];
    for error in outcomes.map(Result::unwrap_err) {
        assert!(matches!(error, SnapshotError::Cancelled), "{error}");
    }
    assert!(!session.session("session.json").exists());
    let held = Mutex::new(Some(held));
    let asked = AtomicU32::new(0);
    let release = |progress: Progress| {
        if progress.phase == Phase::Wait && asked.fetch_add(1, Ordering::Relaxed) == 1 {
            held.lock().unwrap().take();
        }
        true
    };
    session.manager.create_incremental(&release).unwrap();
    assert_eq!(asked.into_inner(), 2);
}

#[test]
fn who_can_only_look_at_a_session_keeps_nobody_from_working_in_it() {
    let session = Session::new(|root| fs::write(root.join("file"), "").unwrap());
    session.baseline();
    let looked_at = File::open(session.session("")).unwrap();
    flock(&looked_at, FlockOperation::LockExclusive).unwrap();
    let give_up = |progress: Progress| progress.phase != Phase::Wait;
    session.manager.create_incremental(&give_up).unwrap();
    let mode = fs::metadata(session.session("lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_callback_that_uses_its_own_session_is_told_so() {
    let session = Session::new(|root| fs::write(root.join("file"), "").unwrap());
    let nested = Mutex::new(Vec::new());
    let other = Session::new(|_| {});
    let call = |_: Progress| {
        assert!(session.manager.is_calling_back());
        nested.lock().unwrap().push(session.manager.create_baseline(&keep_going).map(drop));
        other.baseline();
        true
    };
    session.manager.create_baseline(&call).unwrap();
    assert!(!session.manager.is_calling_back());
    let nested = nested.into_inner().unwrap();
    assert!(nested.iter().all(|outcome| matches!(outcome, Err(SnapshotError::Nested))));
    assert!(!nested.is_empty());
    session.baseline();
}

#[test]
fn only_names_that_snapshots_have_are_counted() {
    let session = Session::new(|root| fs::write(root.join("file"), "").unwrap());
    session.baseline();
    for name in ["7.json", "+7.json", "0007.json", "-1.json", "4294967296.json"] {
        fs::write(session.session("snapshots").join(name), "").unwrap();
    }
    assert_eq!(session.manager.snapshot_count().unwrap(), 1);
    fs::write(session.session("snapshots/4294967295.json"), "").unwrap();
    let error = session.manager.snapshot_count().unwrap_err();
    assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
    session.manager.create_baseline(&keep_going).unwrap_err();
}
