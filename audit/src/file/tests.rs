use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{FileOptions, FileSink, verify};
use crate::redact::path_and_query;
use crate::{Mode, Record, RecordId, Session, Sink as _};

fn record(number: u64) -> Record {
    let id = RecordId { session: Session(7), number };
    let path = path_and_query(&format!("/v1/{number}/\"ä🦀\""), "", &[""; 0]);
    Record {
        sequence: number,
        path: Some(path),
        ..Record::new(id, 1_700_000_000_000, Mode::Reverse)
    }
}

fn sink(path: &Path, max_bytes: u64, keep: usize) -> FileSink {
    FileSink::open(FileOptions { path: path.to_owned(), max_bytes, keep }).unwrap()
}

/// A log of `count` records, and the lines of its file.
fn written(directory: &TempDir, count: u64) -> (PathBuf, Vec<String>) {
    let path = directory.path().join("audit-events.ndjson");
    let records: Vec<_> = (0..count).map(record).collect();
    sink(&path, u64::MAX, 0).write(&records).unwrap();
    let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    (path, lines)
}

fn fault_after(change: impl FnOnce(&mut Vec<String>)) -> (u64, String) {
    let directory = TempDir::new().unwrap();
    let (path, mut lines) = written(&directory, 20);
    change(&mut lines);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let fault = verify(&path).unwrap().fault.unwrap();
    (fault.line, fault.reason)
}

#[test]
fn a_log_as_it_was_written_verifies() {
    let directory = TempDir::new().unwrap();
    let (path, lines) = written(&directory, 20);
    let verified = verify(&path).unwrap();
    assert_eq!((verified.lines, verified.fault), (21, None));
    let last: serde_json::Value = serde_json::from_str(&lines[20]).unwrap();
    assert_eq!(verified.head.unwrap().to_string(), last["chain_hash"]);
    assert_eq!(last["event"]["event"]["path"], "/v1/19/\"ä🦀\"");
    assert!(lines.iter().all(|line| line.is_ascii()));
}

#[test]
fn a_line_that_is_removed_swapped_repeated_or_cut_is_named() {
    assert_eq!(fault_after(|lines| drop(lines.remove(7))).0, 8);
    assert_eq!(fault_after(|lines| lines.swap(3, 4)).0, 4);
    assert_eq!(fault_after(|lines| lines.insert(5, lines[4].clone())).0, 6);
    assert_eq!(fault_after(|lines| lines[9].truncate(100)).0, 10);
    assert_eq!(fault_after(|lines| drop(lines.remove(0))).0, 1);
}

#[test]
fn a_killed_process_leaves_a_log_that_verifies_to_its_last_whole_line_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let (path, _) = written(&directory, 20);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let verified = verify(&path).unwrap();
    let fault = verified.fault.unwrap();
    assert_eq!((verified.lines, fault.line, &*fault.reason), (20, 21, "it is cut off"));

    sink(&path, u64::MAX, 0).write(&[record(0)]).unwrap();
    let verified = verify(&path).unwrap();
    assert_eq!((verified.files.len(), verified.lines, verified.fault), (2, 22, None));
}

#[test]
fn files_that_follow_each_other_are_one_log() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit-events.ndjson");
    let mut log = sink(&path, 5000, 0);
    (0..50).for_each(|number| log.write(&[record(number)]).unwrap());
    let verified = verify(&path).unwrap();
    assert_eq!(verified.fault, None);
    assert!(verified.files.len() > 5, "{verified:?}");
    assert_eq!(verified.lines, 50 + verified.files.len() as u64);

    fs::remove_file(&verified.files[2]).unwrap();
    let fault = verify(&path).unwrap().fault.unwrap();
    assert_eq!((&fault.file, fault.line), (&verified.files[3], 1));
}

#[test]
fn a_file_of_any_name_is_numbered() {
    for name in ["log", "log.1", "log.1.ndjson", ".log", "a.b.c"] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(name);
        for other in ["log.x", "logs.7", "log.07", "log.7.x.y", "b.7"] {
            fs::write(directory.path().join(other), "theirs").unwrap();
        }
        let mut log = sink(&path, 1, 0);
        (0..5).for_each(|number| log.write(&[record(number)]).unwrap());
        let verified = verify(&path).unwrap();
        assert_eq!((verified.files.len(), verified.lines), (6, 11), "{name}: {verified:?}");
        assert_eq!(verified.fault, None, "{name}");
    }
}

#[test]
fn only_so_many_files_are_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit-events.ndjson");
    let mut log = sink(&path, 1, 3);
    (0..10).for_each(|number| log.write(&[record(number)]).unwrap());
    let verified = verify(&path).unwrap();
    assert_eq!((verified.files.len(), verified.fault.as_ref()), (4, None));
    assert!(verified.files[0].ends_with("audit-events.8.ndjson"), "{verified:?}");
}

#[test]
fn a_file_that_is_gone_is_begun_again_and_says_what_it_goes_on_from() {
    let directory = TempDir::new().unwrap();
    let (inner, path) = (directory.path().join("logs"), directory.path().join("logs/log"));
    fs::create_dir(&inner).unwrap();
    let mut log = sink(&path, u64::MAX, 0);
    log.write(&[record(0)]).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    let error = log.write(&[record(1)]).unwrap_err().to_string();
    assert!(error.contains("logs/log: No such file"), "{error}");
    fs::create_dir(&inner).unwrap();
    log.write(&[record(1)]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains(r#""file":"log","records":2,"#), "{text}");

    // A file of somebody else's is not written to.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    let error = log.write(&[record(2)]).unwrap_err().to_string();
    assert!(error.contains("another file was put there"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[test]
fn a_file_that_was_renamed_before_the_next_could_be_made_is_gone_on_from() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut log = sink(&path, 1, 0);
    log.write(&[record(0)]).unwrap();
    // As it is when the disk was full between the two.
    let previous = super::set_aside(&log.options, log.chain).unwrap();
    log.aside = Some(previous);
    log.write(&[record(1)]).unwrap();
    let verified = verify(&path).unwrap();
    assert_eq!((verified.files.len(), verified.lines, verified.fault), (3, 5, None));
}

#[test]
fn one_file_has_one_log() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let options = FileOptions { path, max_bytes: u64::MAX, keep: 0 };
    let first = FileSink::open(options.clone()).unwrap();
    let error = FileSink::open(options.clone()).unwrap_err().to_string();
    assert!(error.contains("a log is being written there already"), "{error}");
    drop(first);
    FileSink::open(options).unwrap();
}

#[test]
fn starts_without_records_push_nothing_out() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    sink(&path, u64::MAX, 2).write(&[record(0)]).unwrap();
    for _ in 0..5 {
        drop(sink(&path, u64::MAX, 2));
    }
    sink(&path, u64::MAX, 2).write(&[record(1)]).unwrap();
    let verified = verify(&path).unwrap();
    assert_eq!((verified.files.len(), verified.lines, verified.fault), (2, 4, None));
    // A file of somebody else is kept as it is, however short.
    fs::write(&path, "{}\n").unwrap();
    drop(sink(&path, u64::MAX, 0));
    assert_eq!(fs::read_to_string(directory.path().join("log.2")).unwrap(), "{}\n");
}

#[test]
fn a_file_of_which_nothing_was_written_is_begun() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "").unwrap();
    sink(&path, u64::MAX, 0).write(&[record(0)]).unwrap();
    assert_eq!(verify(&path).unwrap().fault, None);
}

proptest! {
    #[test]
    fn no_byte_can_be_changed_without_notice(at in 0_usize..20_000, flip in 1_u8..=255) {
        let directory = TempDir::new().unwrap();
        let (path, _) = written(&directory, 20);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        // The case of a hash's digits says nothing.
        prop_assume!(!(flip == 0x20 && bytes[at].is_ascii_alphabetic()));
        let line = bytes[..at].split(|byte| *byte == b'\n').count() as u64;
        fs::write(&path, bytes).unwrap();
        let fault = verify(&path).unwrap().fault.expect("it is noticed");
        prop_assert!(fault.line == line, "{fault:?}, not {line}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    let (path, _) = written(&directory, 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn blocks_behind_the_end_are_in_nobodys_way_and_are_given_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit-events.ndjson");
    let records: Vec<_> = (0..2500).map(record).collect();
    let spare = |path: &Path| {
        let file = fs::metadata(path).unwrap();
        (file.blocks() * 512).saturating_sub(file.len())
    };
    // What a file system makes of a file by itself.
    let little = 64 << 10;
    for is_killed in [false, true] {
        let mut first = sink(&path, u64::MAX, 0);
        first.write(&records).unwrap();
        first.write(&records).unwrap();
        assert!(spare(&path) > 1 << 20, "none were found ahead");
        // As somebody sees it while it grows, or after the process was killed.
        let verified = verify(&path).unwrap();
        assert_eq!((verified.lines % 5001, verified.fault), (0, None));
        if is_killed {
            drop(first);
            assert!(spare(&path) > 1 << 20);
            drop(sink(&path, u64::MAX, 0));
            assert!(spare(&directory.path().join("audit-events.2.ndjson")) < little);
        } else {
            first.end();
            assert!(spare(&path) < little);
        }
    }
}
