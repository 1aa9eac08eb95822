use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use tempfile::TempDir;

use super::line::Position;
use super::{Files, Part, QueueOptions, QueueReader, QueueSink, Shared, State, open, open_own};
use crate::claim::Claim;
use crate::otlp::Resource;
use crate::redact::path_and_query;
use crate::{Mode, Phase, Record, RecordId, Session, Sink as _};

const LEAST: u64 = QueueOptions::LEAST_BYTES;

fn records(session: u64, numbers: std::ops::Range<u64>) -> Vec<Record> {
    let record = |number| {
        let id = RecordId { session: Session(session), number };
        Record {
            sequence: number,
            path: Some(path_and_query("/ä", "", &[""; 0])),
            ..Record::new(id, 1, Mode::Reverse)
        }
    };
    numbers.map(record).collect()
}

/// Opens the queue as another run of a proxy does.
fn begin(directory: &Path, session: u64) -> io::Result<(QueueSink, QueueReader)> {
    begin_waking(directory, session, || ())
}

fn begin_waking(
    directory: &Path,
    session: u64,
    wake: impl Fn() + Send + 'static,
) -> io::Result<(QueueSink, QueueReader)> {
    let resource = Resource {
        service: "agents".into(),
        session: Session(session),
        process: Some(7),
        attributes: vec![("team".into(), "a".into())],
    };
    let options = QueueOptions { directory: directory.into(), max_bytes: LEAST };
    open(options, resource, wake)
}

/// Reads and commits all that is there: the session and sequence of each record.
fn take(reader: &mut QueueReader) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    while let Some(delivery) = reader.next(100).unwrap() {
        assert_eq!(delivery.resource.session, delivery.records[0].session);
        taken.extend(delivery.records.iter().map(|record| (record.session.0, record.sequence)));
        reader.commit(&delivery).unwrap();
    }
    taken
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names.filter(|name| name.starts_with("queue-")).collect();
    files.sort();
    files
}

fn size(directory: &Path) -> u64 {
    files(directory).iter().map(|name| fs::metadata(directory.join(name)).unwrap().len()).sum()
}

#[test]
fn what_is_not_committed_is_read_by_the_next_that_opens_it() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    assert_eq!(reader.state(), State::Waiting);
    sink.write(&records(1, 0..250)).unwrap();
    assert_eq!(reader.state(), State::Ready);
    let first = reader.next(100).unwrap().unwrap();
    assert_eq!(*first.records, records(1, 0..100));
    assert_eq!((&*first.resource.service, first.resource.process), ("agents", Some(7)));
    reader.commit(&first).unwrap();
    assert_eq!(
        *reader.next(100).unwrap().unwrap().records,
        records(1, 100..200),
        "read, not committed"
    );
    drop((sink, reader));
    for session in 2..4 {
        let (mut sink, reader) = begin(directory.path(), session).unwrap();
        sink.write(&records(session, 0..1)).unwrap();
        drop(sink);
        assert_eq!(reader.state(), State::Ready);
    }
    let (sink, mut reader) = begin(directory.path(), 4).unwrap();
    let expected: Vec<_> = (100..250).map(|n| (1, n)).chain([(2, 0), (3, 0)]).collect();
    assert_eq!(take(&mut reader), expected);
    assert_eq!((reader.state(), reader.damage()), (State::Waiting, None));
    drop(sink);
    assert_eq!(reader.state(), State::Ended);
    drop(reader);
    drop(begin(directory.path(), 5).unwrap());
    assert!(files(directory.path()).is_empty(), "nothing is left of what was delivered");
}

#[test]
fn an_empty_file_takes_nothing_that_is_not_delivered_with_it() {
    let directory = TempDir::new().unwrap();
    let (mut sink, reader) = begin(directory.path(), 1).unwrap();
    sink.write(&records(1, 0..200)).unwrap();
    assert_eq!(files(directory.path()), ["queue-1.ndjson"]);
    drop((sink, reader));
    // What a process leaves that is killed, or finds a full disk, when it has just made the file.
    fs::write(directory.path().join("queue-2.ndjson"), "").unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 2).unwrap();
    sink.write(&records(2, 0..1)).unwrap();
    assert_eq!(files(directory.path()), ["queue-1.ndjson", "queue-3.ndjson"]);
    let expected: Vec<_> = (0..200).map(|number| (1, number)).chain([(2, 0)]).collect();
    assert_eq!((take(&mut reader), reader.damage()), (expected, None));
}

#[test]
fn only_files_before_the_first_that_is_needed_are_removed() {
    let directory = TempDir::new().unwrap();
    let options = QueueOptions { directory: directory.path().into(), max_bytes: LEAST };
    let lock = Claim::new(open_own(&directory.path().join("lock")).unwrap()).unwrap();
    // The first is delivered, the second in part, and in the third nothing is.
    let part = |(number, len)| Part { number, len, is_closed: true };
    let all = [(1, 10), (2, 10), (3, 0), (4, 10)].map(part).into();
    let files = Files { all, settled: Position { file: 2, offset: 5 }, has_ended: false };
    let shared = Shared { options, files: Mutex::new(files), _lock: lock };
    shared.release();
    let left: Vec<_> = shared.lock().all.iter().map(|part| part.number).collect();
    assert_eq!(left, [2, 3, 4]);
}

#[test]
fn what_does_not_fit_is_refused_and_comes_again_from_there() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    let all = records(1, 0..9000);
    let mut taken = Vec::new();
    let mut refusals = 0;
    for batch in all.chunks(1000) {
        while let Err(error) = sink.write(batch) {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(error.to_string().contains("its 1048576 bytes are full"), "{error}");
            assert!(size(directory.path()) <= LEAST);
            refusals += 1;
            let delivery = reader.next(300).unwrap().unwrap();
            reader.commit(&delivery).unwrap();
            taken.extend(delivery.records.iter().map(|record| (1, record.sequence)));
        }
    }
    taken.extend(take(&mut reader));
    assert!(refusals > 1);
    assert!(taken.into_iter().eq((0..9000).map(|number| (1, number))), "each once, in order");
    assert_eq!(reader.waiting(), 0);
}

#[test]
fn what_is_delivered_while_a_batch_is_written_takes_nothing_of_the_rest_with_it() {
    let directory = TempDir::new().unwrap();
    let reader = Arc::new(Mutex::new(None));
    let (took, taken) = mpsc::channel();
    let exporter = Arc::clone(&reader);
    let wake = move || {
        let mut reader = exporter.lock().unwrap();
        reader.as_mut().map_or_else(Vec::new, take).into_iter().for_each(|one| {
            took.send(one).unwrap();
        });
    };
    let (mut sink, opened) = begin_waking(directory.path(), 1, wake).unwrap();
    *reader.lock().unwrap() = Some(opened);
    // Several files of it.
    sink.write(&records(1, 0..1000)).unwrap();
    assert!(taken.try_iter().eq((0..1000).map(|number| (1, number))));
    assert_eq!(reader.lock().unwrap().as_ref().unwrap().damage(), None);
    drop(sink);
    reader.lock().unwrap().take();
    assert!(files(directory.path()).len() <= 1, "what is delivered is removed");
}

#[test]
fn a_queue_has_one_user() {
    let directory = TempDir::new().unwrap();
    let held = begin(directory.path(), 1).unwrap();
    let error = begin(directory.path(), 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("being written there already"), "{error}");
    drop(held);
    begin(directory.path(), 2).unwrap();
}

/// Writes ten records, changes the file with `change`, and returns what is then read and the damage.
fn after(change: impl FnOnce(&mut Vec<u8>)) -> (Vec<u64>, Option<(u64, String)>) {
    let directory = TempDir::new().unwrap();
    let (mut sink, _) = begin(directory.path(), 1).unwrap();
    sink.write(&records(1, 0..10)).unwrap();
    drop(sink);
    let path = directory.path().join("queue-1.ndjson");
    let mut text = fs::read(&path).unwrap();
    change(&mut text);
    fs::write(&path, text).unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    let taken = take(&mut reader).into_iter().map(|(_, sequence)| sequence).collect();
    let damage = reader.damage().map(|damage| (damage.count, damage.first.clone()));
    reader.skip().unwrap();
    // It goes on as if nothing had been.
    sink.write(&records(1, 0..1)).unwrap();
    assert_eq!(take(&mut reader), [(1, 0)]);
    assert_eq!(files(directory.path()), ["queue-2.ndjson"]);
    (taken, damage)
}

fn line(text: &[u8], number: usize) -> usize {
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(number).unwrap()
}

#[test]
fn what_is_damaged_is_told_and_left_out() {
    let without = |left_out: &[u64]| -> Vec<u64> {
        (0..10).filter(|number| !left_out.contains(number)).collect()
    };
    let (taken, damage) = after(|_| ());
    assert_eq!((taken, damage), (without(&[]), None));

    let (taken, damage) = after(|text| drop(text.drain(text.len() - 5..)));
    let (count, first) = damage.unwrap();
    assert_eq!((taken, count), (without(&[9]), 1));
    assert!(first.ends_with("it is cut off"), "{first}");

    let (taken, damage) = after(|text| {
        let at = line(text, 3) + 50;
        text[at] ^= 1;
    });
    let (count, first) = damage.unwrap();
    assert_eq!((taken, count), (without(&[3]), 1));
    assert!(first.contains("queue-1.ndjson at byte"), "{first}");

    let (taken, damage) = after(|text| {
        let at = line(text, 5) - 1;
        text[at] = b' ';
    });
    assert_eq!((taken, damage.unwrap().0), (without(&[4, 5]), 1), "two lines that became one");

    let (taken, damage) = after(|text| text[3] ^= 1);
    let (count, first) = damage.unwrap();
    assert_eq!((taken, count), (without(&[]), 1), "whose they are is known from themselves");
    assert!(first.contains("at byte 0"), "{first}");

    let (taken, damage) = after(|text| text.fill(0xff));
    assert_eq!((taken, damage.unwrap().0), (vec![], 1));

    let (taken, _) = after(Vec::clear);
    assert!(taken.is_empty());
}

#[test]
fn how_far_it_is_delivered_may_be_damaged_too() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    sink.write(&records(1, 0..10)).unwrap();
    let half = reader.next(5).unwrap().unwrap();
    reader.commit(&half).unwrap();
    drop((sink, reader));
    let taken = directory.path().join("taken");
    OpenOptions::new().write(true).open(taken).unwrap().write_all(b"x").unwrap();
    let (_sink, mut reader) = begin(directory.path(), 2).unwrap();
    assert_eq!(take(&mut reader).len(), 10, "again, and none is lost");
    let first = &reader.damage().unwrap().first;
    assert!(first.contains("taken at byte 0") && first.contains("sent again"), "{first}");
}

/// A queue with a full file, and a second one with what [`in_second_file`] tells.
fn begin_with_two_files(directory: &Path) -> (QueueSink, QueueReader) {
    let (mut sink, reader) = begin(directory, 1).unwrap();
    // Little by little, so that all but the last fit into one file.
    for batch in records(1, 0..400).chunks(100) {
        assert_eq!(files(directory).len(), usize::from(batch[0].sequence > 0));
        sink.write(batch).unwrap();
    }
    assert_eq!(files(directory).len(), 2);
    (sink, reader)
}

fn in_second_file() -> Vec<(u64, u64)> {
    (300..400).map(|number| (1, number)).collect()
}

#[test]
fn a_file_that_is_gone_is_told_and_the_rest_goes_on() {
    let directory = TempDir::new().unwrap();
    let (_sink, mut reader) = begin_with_two_files(directory.path());
    fs::remove_file(directory.path().join("queue-1.ndjson")).unwrap();
    assert_eq!(take(&mut reader), in_second_file());
    assert!(reader.damage().unwrap().first.contains("cannot be read"));
}

#[test]
fn a_file_that_cannot_be_read_now_is_read_later_and_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let (_sink, mut reader) = begin_with_two_files(directory.path());
    let path = directory.path().join("queue-2.ndjson");
    let aside = directory.path().join("aside");
    let first = reader.next(1000).unwrap().unwrap();
    reader.commit(&first).unwrap();
    fs::rename(&path, &aside).unwrap();
    symlink(&path, &path).unwrap();
    for _ in 0..3 {
        let error = reader.next(100).unwrap_err();
        assert!(error.to_string().contains("queue-2.ndjson"), "{error}");
        assert_eq!(reader.state(), State::Ready);
    }
    reader.skip().unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!((take(&mut reader), reader.damage()), (in_second_file(), None));
}

#[test]
fn a_file_that_can_never_be_read_is_left_out_by_who_starts_without_it() {
    let directory = TempDir::new().unwrap();
    let (sink, mut reader) = begin_with_two_files(directory.path());
    let path = directory.path().join("queue-1.ndjson");
    fs::remove_file(&path).unwrap();
    symlink(&path, &path).unwrap();
    assert!(reader.next(100).is_err());
    drop((sink, reader));
    fs::remove_file(&path).unwrap();
    let (_sink, mut reader) = begin(directory.path(), 2).unwrap();
    assert_eq!((take(&mut reader), reader.damage()), (in_second_file(), None));
}

#[test]
fn a_file_that_becomes_shorter_is_told() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    sink.write(&records(1, 0..10)).unwrap();
    let path = directory.path().join("queue-1.ndjson");
    let text = fs::read(&path).unwrap();
    OpenOptions::new().write(true).open(path).unwrap().set_len(line(&text, 5) as u64).unwrap();
    let expected: Vec<_> = (0..5).map(|number| (1, number)).collect();
    assert_eq!(take(&mut reader), expected);
    assert!(reader.damage().unwrap().first.contains("become shorter"));
}

#[test]
fn a_queue_of_which_all_is_delivered_takes_more() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    let all = records(1, 0..9000);
    assert_eq!(sink.write(&all).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(files(directory.path()).len() > 1, "a batch that fills it is divided among files");
    assert_eq!(reader.undelivered(), size(directory.path()));
    let first = take(&mut reader).len();
    assert_eq!(reader.undelivered(), 0);
    assert!(files(directory.path()).len() <= 1, "at most the one that grows is left");
    assert_eq!(sink.write(&all[..first + 100]).err().map(|error| error.to_string()), None);
    assert_eq!(take(&mut reader).len(), 100);
}

#[test]
fn what_could_not_be_read_back_is_told_also_when_a_part_of_it_was_written() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    let all = records(1, 0..9000);
    sink.write(&all).unwrap_err();
    let written = take(&mut reader).len() as u64;
    // The log hands on the same batch again, but its disk has failed meanwhile.
    let gap = Record { phase: Phase::Gap, dropped: Some(9000), ..all[0].clone() };
    sink.write(&[gap]).unwrap();
    sink.write(&records(1, 9000..9001)).unwrap();
    let delivery = reader.next(10).unwrap().unwrap();
    let [gap, next] = &**delivery.records else { panic!("{delivery:?}") };
    let told = (gap.phase, gap.sequence, gap.dropped);
    assert_eq!(told, (Phase::Gap, written, Some(9000 - written)), "of what is missing, alone");
    assert_eq!(next.sequence, 9000);
}

#[test]
fn what_stands_for_records_that_are_all_written_is_not_told() {
    let directory = TempDir::new().unwrap();
    let (mut sink, mut reader) = begin(directory.path(), 1).unwrap();
    let all = records(1, 0..10);
    sink.write(&all).unwrap();
    // As when the last write of a batch succeeds, and what is done behind it does not.
    let gap = Record { phase: Phase::Gap, dropped: Some(10), ..all[0].clone() };
    sink.write(&[gap]).unwrap();
    sink.write(&records(1, 10..12)).unwrap();
    assert_eq!(*reader.next(100).unwrap().unwrap().records, records(1, 0..12));
}
