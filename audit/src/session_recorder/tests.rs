use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Ending, RecordError, SessionRecorder, Source};
use crate::{
    AuthOutcome, Bounds, EVENTS_FILENAME, ExecutableIdentity, Log, Mode, Network, NetworkEvent,
    Outcome, Overflow, Reader, Recorder, SESSION_FILENAME, Sender, Session, SessionEvent,
    SessionMetadata, verify_log,
};

fn begin(directory: &Path) -> Result<SessionRecorder, RecordError> {
    SessionRecorder::begin(directory, vec!["true".to_owned()], None, None)
}

fn saved(directory: &Path) -> SessionMetadata {
    let text = fs::read_to_string(directory.join(SESSION_FILENAME)).unwrap();
    SessionMetadata::from_json(&text).unwrap()
}

#[test]
fn a_session_is_there_before_it_runs_and_whole_when_it_has() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("new/session-1");
    let recorder = begin(&directory).unwrap();
    let begun = saved(&directory);
    assert_eq!((begun.session_id.as_str(), &begun.ended), ("session-1", &None));
    assert_eq!(verify_log(&directory, None).unwrap().event_count, 1);
    let ending = Ending { exit_code: Some(3), ..Ending::default() };
    let ended = recorder.end(ending, Vec::new).unwrap();
    assert_eq!(saved(&directory), ended);
    assert_eq!((ended.exit_code, ended.audit_event_count), (Some(3), 2));
    assert_eq!(verify_log(&directory, None).unwrap().event_count, 2);
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|one| one.unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn the_record_of_a_run_is_never_written_over() {
    let place = tempfile::tempdir().unwrap();
    let running = begin(place.path()).unwrap();
    assert_eq!(begin(place.path()).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
    drop(running);
    let left = saved(place.path());
    assert!(left.ended.is_some() && left.exit_code.is_none());
    assert_eq!(begin(place.path()).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
    fs::remove_file(place.path().join(EVENTS_FILENAME)).unwrap();
    assert_eq!(begin(place.path()).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
    assert_eq!(saved(place.path()), left);
}

#[test]
fn a_session_that_was_prepared_keeps_its_name_and_paths() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join(SESSION_FILENAME);
    let prepared = SessionMetadata::new("mine".into(), vec![], vec![PathBuf::from("/tracked")]);
    fs::write(&file, prepared.to_json().unwrap()).unwrap();
    let recorder = begin(place.path()).unwrap();
    let metadata = recorder.metadata();
    assert_eq!(
        (metadata.session_id.as_str(), &metadata.command[..]),
        ("mine", &["true".into()][..])
    );
    assert_eq!(metadata.tracked_paths, prepared.tracked_paths);
    drop(recorder);
    // What is no session is not taken for one.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join(SESSION_FILENAME), "{").unwrap();
    let refused = begin(other.path()).unwrap_err().to_string();
    assert!(refused.contains(SESSION_FILENAME), "{refused}");
    assert!(!other.path().join(EVENTS_FILENAME).exists());
}

#[test]
fn nothing_of_a_session_that_was_prepared_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let [one, two] = ["1", "2"].map(|digit| digit.repeat(64));
    let mut prepared = SessionMetadata::new("mine".into(), vec!["other".into()], vec![]);
    prepared.network_events.push(NetworkEvent::gap("prepared".into()));
    prepared.merkle_roots.push(one.clone());
    prepared.snapshot_count = 4;
    let identity = ExecutableIdentity { resolved_path: "/bin/sh".into(), sha256: one.clone() };
    prepared.executable_identity = Some(identity);
    let prepare = |directory: &Path| {
        fs::write(directory.join(SESSION_FILENAME), prepared.to_json().unwrap()).unwrap();
    };
    prepare(place.path());
    let recorder = begin(place.path()).unwrap();
    // Neither while it runs, and whatever becomes of it,
    let begun = saved(place.path());
    let expected = SessionMetadata {
        started: begun.started.clone(),
        command: begun.command.clone(),
        ..prepared.clone()
    };
    assert_eq!(begun, expected);
    let merkle_roots = vec![one.clone(), two.clone()];
    let ran = Ending { exit_code: Some(0), merkle_roots, ..Ending::default() };
    let ended = recorder.end(ran, Vec::new).unwrap();
    // nor at its end.
    assert_eq!(ended.network_events, prepared.network_events);
    assert_eq!((ended.merkle_roots, ended.snapshot_count), (vec![one.clone(), two.clone()], 4));
    assert_eq!(ended.executable_identity, None, "what has run is not known");
    let other = tempfile::tempdir().unwrap();
    prepare(other.path());
    let unstarted = Ending { merkle_roots: vec![two.clone()], ..Ending::default() };
    let ended = begin(other.path()).unwrap().end(unstarted, Vec::new).unwrap();
    assert_eq!(ended.merkle_roots, [one.clone(), two.clone()]);
    assert_eq!(ended.executable_identity, prepared.executable_identity);
    // What was noted of some that are all found is not there twice.
    let whole = vec![two, one.clone()];
    assert_eq!(super::prepared::roots(vec![one], whole.clone()), whole);
}

#[test]
fn a_beginning_that_failed_can_be_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join(SESSION_FILENAME);
    // A session has no place for it.
    let hidden = vec![PathBuf::from(std::ffi::OsStr::from_bytes(b"\xff"))];
    let (_sender, log) = proxy();
    let consumer = log.subscribe(Reader::holding("test"));
    SessionRecorder::begin(place.path(), Vec::new(), Some(hidden), Some(consumer)).unwrap_err();
    assert!(!file.exists() && !place.path().join(EVENTS_FILENAME).exists());
    begin(place.path()).unwrap();
}

#[test]
fn however_much_is_asked_for_the_record_is_taken_by_its_readers() {
    const MANY: u64 = 10_100;
    let place = tempfile::tempdir().unwrap();
    let (sender, log) = proxy();
    let consumer = log.subscribe(Reader::holding("test"));
    let recorder = SessionRecorder::begin(place.path(), vec![], None, Some(consumer)).unwrap();
    for _ in 0..MANY {
        let permit = loop {
            match sender.try_reserve() {
                Some(permit) => break permit,
                None => std::thread::yield_now(),
            }
        };
        let recorder = Recorder::open(permit, Mode::Reverse, "client".into());
        recorder.note(|record| record.auth_outcome = Some(AuthOutcome::Succeeded));
        recorder.finish(Outcome::Complete);
    }
    let ended = recorder.end(ending(), Vec::new).unwrap();
    assert_eq!(ended.audit_event_count, MANY + 2);
    let verified = verify_log(place.path(), None).unwrap();
    assert_eq!((verified.event_count, verified.complete), (MANY + 2, true));
    let saved = saved(place.path());
    assert_eq!(saved, ended);
    assert_eq!(saved.network_events.len(), 10_001);
    let last = saved.network_events.last().unwrap().reason.as_deref().unwrap();
    assert!(last.contains("but 100 that are in audit-events.ndjson alone"), "{last}");
}

/// Changes the file that the log is written to, and returns the one before.
fn write_to(recorder: &mut SessionRecorder, file: File) -> File {
    match &mut recorder.journal {
        Some(Source::Own(journal)) => journal.change_file(file),
        other => unreachable!("{other:?}"),
    }
}

fn ending() -> Ending {
    Ending { exit_code: Some(0), ..Ending::default() }
}

#[test]
fn a_log_that_lacks_its_end_proves_no_completeness() {
    let place = tempfile::tempdir().unwrap();
    let mut recorder = begin(place.path()).unwrap();
    write_to(&mut recorder, File::options().append(true).open("/dev/full").unwrap());
    let failed = recorder.end(ending(), Vec::new).unwrap_err();
    assert_eq!(failed.source.kind(), ErrorKind::StorageFull);
    let verified = verify_log(place.path(), None).unwrap();
    assert_eq!((verified.event_count, verified.complete), (1, false));
    assert!(verified.not_proved.contains(&"completeness"));
    let saved = saved(place.path());
    assert_eq!((saved.exit_code, saved.audit_integrity), (Some(0), None));
    let told = saved.network_events[0].reason.as_deref().unwrap();
    assert!(told.contains("but 1 that are not recorded"), "{told}");
}

#[test]
fn a_log_that_lacks_something_within_tells_of_it() {
    let place = tempfile::tempdir().unwrap();
    let mut recorder = begin(place.path()).unwrap();
    let file = write_to(&mut recorder, File::options().append(true).open("/dev/full").unwrap());
    let Some(Source::Own(journal)) = &mut recorder.journal else { unreachable!() };
    journal.record([SessionEvent::Network(Network { event: NetworkEvent::gap("lost".into()) })]);
    write_to(&mut recorder, file);
    let failed = recorder.end(ending(), Vec::new).unwrap_err();
    assert_eq!(failed.source.kind(), ErrorKind::StorageFull);
    let verified = verify_log(place.path(), None).unwrap();
    assert_eq!((verified.event_count, verified.complete), (3, true));
    let saved = saved(place.path());
    assert_eq!(saved.network_events.len(), 1);
    let told = saved.network_events[0].reason.as_deref().unwrap();
    assert!(told.contains("but 1 that are not recorded"), "{told}");
}

fn proxy() -> (Sender, Log) {
    let bounds = Bounds { records: 64, disk: 1 << 24, overflow: Overflow::Refuse };
    Log::open(Session(7), bounds, Vec::new()).unwrap()
}

#[test]
fn a_name_that_no_ledger_takes_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let recorder = begin(&place.path().join("a b.c")).unwrap();
    let id = &recorder.metadata().session_id;
    assert!(id.len() == 23 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{id}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = begin(&file.join("session")).unwrap_err().to_string();
    assert!(refused.contains("session"), "{refused}");
}
