use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Ending, RecordError, SessionRecorder};
use crate::{EVENTS_FILENAME, SESSION_FILENAME, SessionMetadata, verify_log};

fn begin(directory: &Path) -> Result<SessionRecorder, RecordError> {
    SessionRecorder::begin(directory, vec!["true".to_owned()], None)
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
