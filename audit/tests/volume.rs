//! A log at full speed, and readers that are slower.
//!
//! With optimisation a million records, which is what `make test` runs; without, fewer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nono_audit::redact::path_and_query;
use nono_audit::{
    AuthOutcome, Bounds, Consumer, FileOptions, FileSink, Log, Mode, Outcome, Overflow, Reader,
    Record, Recorder, Sender, Session, Sink, Waited, verify,
};
use tempfile::TempDir;

const PATH: &str = "/v1/models?limit=20&after=model-0123456789";
const LONG: Duration = Duration::from_mins(1);
const MANY: u64 = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };
/// How many the log holds in memory.
const HELD: usize = 5_000;
/// How much memory the process may take, above what it has at its beginning.
const MEMORY: u64 = 64 << 20;

/// Checks that records come once and in order, and how many have.
struct Counter(Arc<AtomicU64>);

impl Counter {
    fn see(&self, records: &[Record]) {
        for record in records {
            let before = self.0.fetch_add(1, Ordering::Relaxed);
            assert_eq!(record.sequence, before, "a record is missing, or is there twice");
        }
    }
}

impl Sink for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.see(records);
        Ok(())
    }
}

/// Takes all records until the log ends, resting after each batch. It begins when there are more
/// than memory holds, so that the disk is needed. Returns how many there were.
#[expect(clippy::disallowed_methods, reason = "it is to be slow, and waits for nothing")]
fn take_slowly(consumer: &mut Consumer, rest: Duration) -> u64 {
    let seen = Counter(Arc::default());
    while consumer.lag() <= HELD as u64 {
        thread::yield_now();
    }
    while consumer.wait(LONG) == Waited::Ready {
        seen.see(&consumer.take().unwrap());
        thread::sleep(rest);
    }
    assert_eq!(consumer.wait(LONG), Waited::Ended);
    seen.0.load(Ordering::Relaxed)
}

/// Records one exchange as soon as there is a place for it.
fn write(sender: &Sender, client: &str) {
    let permit = loop {
        match sender.try_reserve() {
            Some(permit) => break permit,
            None => thread::yield_now(),
        }
    };
    let recorder = Recorder::open(permit, Mode::Reverse, client.into());
    recorder.note(|record| {
        record.auth_outcome = Some(AuthOutcome::Succeeded);
        record.method = Some("GET".into());
        record.path = Some(path_and_query(PATH, "", &[""; 0]));
    });
    recorder.responded(200);
    recorder.finish(Outcome::Complete);
}

/// A figure of this process in bytes: `VmRSS`, what is in memory, or `VmHWM`, what was at most.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

#[test]
fn records_at_full_speed_reach_two_slow_consumers_and_a_file_in_bounded_memory() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit-events.ndjson");
    let options = FileOptions { path: path.clone(), max_bytes: 64 << 20, keep: 2 };
    let counted = Arc::<AtomicU64>::default();
    let sinks: Vec<Box<dyn Sink>> =
        vec![Box::new(FileSink::open(options).unwrap()), Box::new(Counter(Arc::clone(&counted)))];
    let bounds = Bounds { records: HELD, disk: 1 << 30, overflow: Overflow::Refuse };
    let (sender, log) = Log::open(Session(7), bounds, sinks).unwrap();
    let mut consumers =
        [log.subscribe(Reader::holding("test")), log.subscribe(Reader::holding("test"))];
    let before = memory("VmRSS");
    let client = "127.0.0.1:9";
    let taken = thread::scope(|scope| {
        let [first, second] = consumers.each_mut();
        let readers = [
            scope.spawn(|| take_slowly(first, Duration::from_micros(200))),
            scope.spawn(|| take_slowly(second, Duration::from_micros(500))),
        ];
        let writers =
            [(); 2].map(|()| scope.spawn(|| (0..MANY / 2).for_each(|_| write(&sender, client))));
        for writer in writers {
            writer.join().unwrap();
        }
        log.end();
        readers.map(|reader| reader.join().unwrap())
    });
    let grown = memory("VmHWM").saturating_sub(before);
    assert!(grown < MEMORY, "{} MB", grown >> 20);
    assert_eq!((taken, counted.load(Ordering::Relaxed)), ([MANY; 2], MANY));
    let verified = verify(&path).unwrap();
    assert_eq!(verified.fault, None);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().last().unwrap().contains(&format!(r#""sequence":{},"#, MANY - 1)));
}
