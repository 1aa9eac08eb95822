use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::redact::path_and_query;
use crate::{
    AuthOutcome, Bounds, Consumer, Log, Mode, Outcome, Overflow, Phase, Reader, Record, Recorder,
    Sender, Session, Sink, Waited,
};

const LONG: Duration = Duration::from_mins(1);

fn open(records: usize, disk: u64, sinks: Vec<Box<dyn Sink>>) -> (Sender, Log) {
    let bounds = Bounds { records, disk, overflow: Overflow::Refuse };
    Log::open(Session(7), bounds, sinks).unwrap()
}

/// Records one exchange of a client with the token; whether there was a place.
fn write(sender: &Sender) -> bool {
    record(sender, AuthOutcome::Succeeded)
}

/// The same of a client without the token.
fn write_of_stranger(sender: &Sender) -> bool {
    record(sender, AuthOutcome::Failed)
}

fn record(sender: &Sender, shown: AuthOutcome) -> bool {
    let Some(permit) = sender.try_reserve() else { return false };
    let recorder = Recorder::open(permit, Mode::Reverse, "127.0.0.1:9".into());
    recorder.note(|record| {
        record.auth_outcome = Some(shown);
        record.path = Some(path_and_query("/v1/models", "", &[""; 0]));
    });
    recorder.finish(Outcome::Complete);
    true
}

/// Takes `count` records, and says whether each came once and in order.
fn takes(consumer: &mut Consumer, count: u64) -> bool {
    let mut next = 0;
    while next < count {
        assert_eq!(consumer.wait(LONG), Waited::Ready);
        for record in consumer.take().unwrap().iter() {
            assert_eq!(record.sequence, next);
            next += 1;
        }
    }
    true
}

struct Counter(mpsc::Sender<u64>);

impl Sink for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        records.iter().try_for_each(|record| self.0.send(record.sequence)).map_err(io::Error::other)
    }
}

#[test]
fn consumers_and_sinks_each_see_every_record_once_and_in_order() {
    let (seen, counted) = mpsc::channel();
    let (sender, log) = open(2000, 1 << 30, vec![Box::new(Counter(seen))]);
    let mut consumers =
        [log.subscribe(Reader::holding("test")), log.subscribe(Reader::holding("test"))];
    thread::scope(|scope| {
        let readers = consumers.each_mut().map(|consumer| scope.spawn(|| takes(consumer, 40_000)));
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| while !write(&sender) {}));
        }
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    });
    log.end();
    assert!(counted.try_iter().eq(0..40_000));
    assert!(consumers.iter().all(|consumer| consumer.wait(LONG) == Waited::Ended));
}

#[test]
fn a_full_disk_is_the_end_and_room_on_it_is_used_again() {
    let (sender, log) = open(100, 300_000, Vec::new());
    let mut consumer = log.subscribe(Reader::holding("test"));
    for _ in 0..3 {
        let mut held = 0;
        // The log moves records to disk by itself; only when that is full does it stay full.
        let mut refused = 0;
        while refused < 200_000 {
            if write(&sender) {
                (held, refused) = (held + 1, 0);
            } else {
                refused += 1;
                thread::yield_now();
            }
        }
        assert!((200..1000).contains(&held), "{held}");
        assert_eq!(consumer.drain().len(), held);
    }
}

#[test]
fn a_disk_that_failed_is_tried_again() {
    let (sender, log) = open(100, 300_000, Vec::new());
    let mut consumer = log.subscribe(Reader::holding("test"));
    let full = Arc::new(File::options().write(true).open("/dev/full").unwrap());
    let disk = sender.shared.lock().segments.change_disk(full);
    let mut held = 0;
    while write(&sender) {
        held += 1;
    }
    assert_eq!(held, 100);
    soon("it says so", || log.faults().iter().any(|(name, _)| *name == "audit_disk"));
    sender.shared.lock().segments.change_disk(disk);
    soon("there is room again", || write(&sender));
    soon("it says no more", || log.faults().is_empty());
    // With the one that found the room.
    assert_eq!(consumer.drain().len(), held + 1);
}

#[test]
fn an_exchange_that_panics_leaves_one_record() {
    let (sender, log) = open(10, 0, Vec::new());
    let mut consumer = log.subscribe(Reader::holding("test"));
    let permit = sender.try_reserve().unwrap();
    let exchange = thread::spawn(move || {
        let _recorder = Recorder::open(permit, Mode::Reverse, "127.0.0.1:9".into());
        panic!("on purpose");
    });
    exchange.join().unwrap_err();
    let records = consumer.drain();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].outcome, Outcome::Refused);
    assert!(log.active().is_empty());
}

#[test]
fn a_sink_that_fails_is_given_the_same_records_again() {
    struct Flaky(mpsc::Sender<u64>, bool);
    impl Sink for Flaky {
        fn name(&self) -> &'static str {
            "flaky"
        }

        fn write(&mut self, records: &[Record]) -> io::Result<()> {
            if !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::Other.into());
            }
            Counter(self.0.clone()).write(records)
        }
    }
    let (seen, counted) = mpsc::channel();
    let (sender, log) = open(10, 0, vec![Box::new(Flaky(seen, false))]);
    assert!(write(&sender) && write(&sender));
    assert_eq!(counted.recv_timeout(LONG), Ok(0));
    assert_eq!(counted.recv_timeout(LONG), Ok(1));
    log.end();
}

/// A consumer of `log`, and its signal, which is waited for.
fn signalled(log: &Log) -> (Consumer, UnixStream) {
    let mut consumer = log.subscribe(Reader::holding("test"));
    let signal = consumer.signal().unwrap();
    signal.set_nonblocking(false).unwrap();
    signal.set_read_timeout(Some(LONG)).unwrap();
    (consumer, signal)
}

#[test]
fn a_signal_is_given_once_for_what_comes_after_it_was_asked_for() {
    let (sender, log) = open(10, 0, Vec::new());
    let (mut consumer, mut signal) = signalled(&log);
    assert!(consumer.arm());
    assert!(write(&sender));
    assert_eq!(signal.read(&mut [0; 8]).unwrap(), 1);
    assert!(!consumer.arm(), "what is there needs no signal");
    assert_eq!(consumer.drain().len(), 1);
    assert!(consumer.arm());
    log.end();
    assert_eq!(signal.read(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn who_waits_for_a_signal_gets_it_also_if_another_wish_was_taken_for_its_own() {
    let (sender, log) = open(10, 0, Vec::new());
    let (mut consumer, mut signal) = signalled(&log);
    assert!(consumer.arm());
    // As an exchange does that was held up behind its record, which is taken by now.
    sender.shared.wanted.store(false, Ordering::Relaxed);
    sender.shared.wake();
    soon("it is wished again", || sender.shared.wanted.load(Ordering::Relaxed));
    assert!(write(&sender));
    assert_eq!(signal.read(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn a_record_is_the_same_after_json() {
    let (sender, log) = open(10, 0, Vec::new());
    let mut consumer = log.subscribe(Reader::holding("test"));
    let recorder = Recorder::open(sender.try_reserve().unwrap(), Mode::Connect, "[::1]:9".into());
    recorder.note(|record| {
        record.upstream_addr = Some(([127, 0, 0, 1], 443).into());
        record.reason = Some("ä".into());
    });
    assert!(recorder.reserve_opening());
    recorder.opened(200);
    recorder.finish(Outcome::Timeout);
    let records = consumer.drain();
    assert_eq!(
        records.iter().map(|record| record.phase).collect::<Vec<_>>(),
        [Phase::Open, Phase::End]
    );
    let text = serde_json::to_string(&records).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Record>>(&text).unwrap(), records);
}

/// Which of `records` are of clients without the token, and what gaps say of others that were.
fn strangers(records: &[Record]) -> (usize, u64) {
    let kept = records.iter().filter(|it| it.auth_outcome == Some(AuthOutcome::Failed)).count();
    (kept, records.iter().filter_map(|record| record.dropped).sum())
}

#[test]
fn clients_without_the_token_cannot_fill_the_log_and_what_is_not_kept_of_them_is_counted() {
    for disk in [0, 300_000] {
        let (sender, log) = open(100, disk, Vec::new());
        let unkept = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&unkept);
        log.count_unkept_by(move |record| {
            assert_eq!(record.auth_outcome, Some(AuthOutcome::Failed));
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let mut consumer = log.subscribe(Reader::holding("test"));
        let mut written = 0;
        let mut is_there_another = || {
            written += 1;
            write_of_stranger(&sender) && (disk == 0 || written - log.shed() > 100)
        };
        soon("they have a share of the disk, if there is one", &mut is_there_another);
        for _ in 0..20_000 {
            is_there_another();
        }
        let shed = log.shed();
        let held = written - shed;
        assert!(if disk == 0 { held == 25 } else { held < 300 }, "{held}");
        assert_eq!(unkept.load(Ordering::Relaxed), shed);
        fill(&sender, if disk == 0 { 75 } else { 200 });
        let records = consumer.drain();
        assert_eq!(strangers(&records), (usize::try_from(held).unwrap(), shed));
        for gap in records.iter().filter(|record| record.phase == Phase::Gap) {
            let reason = gap.reason.as_deref().unwrap();
            assert!(reason.ends_with("of them of clients that had not shown the session token"));
        }
        assert!(write_of_stranger(&sender));
        assert_eq!(strangers(&consumer.drain()), (1, 0), "there is room again");
        assert_eq!(log.shed(), shed);
    }
}

#[test]
fn what_others_keep_of_clients_without_the_token_is_all_there() {
    let (sender, log) = open(100, 0, Vec::new());
    let mut keeper = log.subscribe(Reader::keeping("keeper", "the cellar".into()));
    let _late = log.subscribe(Reader::giving_way("late"));
    for _ in 0..100 {
        for _ in 0..20 {
            assert!(write_of_stranger(&sender));
        }
        assert_eq!(keeper.drain().len(), 20);
        soon("the oldest are let go of", || sender.shared.lock().in_memory() <= 50);
    }
    assert_eq!(log.shed(), 0);
}

/// A sink whose records can be found elsewhere.
struct Keeper(Counter);

impl Sink for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.0.write(records)
    }

    fn keeps(&self) -> Option<String> {
        Some("the cellar".into())
    }
}

/// Writes `count` records, each as soon as there is a place.
fn fill(sender: &Sender, count: u64) {
    (0..count).for_each(|_| while !write(sender) {});
}

/// Waits until `is_so`.
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < until, "it is not so that {what}");
        thread::yield_now();
    }
}

/// What a consumer that gave way is given: the records, of which the first may stand for others.
/// Returns how many were missed; all others come once and in order.
fn drain_late(consumer: &mut Consumer, from: u64, until: u64) -> u64 {
    let records = consumer.drain();
    let mut next = from;
    let mut missed = 0;
    for record in &records {
        assert_eq!(record.sequence, next);
        match record.phase {
            Phase::Gap => {
                let reason = record.reason.as_deref().unwrap();
                assert!(reason.ends_with("are left to the cellar"), "{reason}");
                missed += record.dropped.unwrap();
                next += record.dropped.unwrap();
            }
            _ => next += 1,
        }
    }
    assert_eq!(next, until, "nothing is missing that is not counted");
    missed
}

#[test]
fn a_reader_gives_way_when_the_log_is_full_and_its_records_are_kept() {
    for disk in [0, 300_000] {
        let (seen, counted) = mpsc::channel();
        let keeper = Keeper(Counter(seen));
        let (sender, log) = open(100, disk, vec![Box::new(keeper)]);
        let mut late = log.subscribe(Reader::giving_way("late"));
        fill(&sender, 20);
        assert_eq!(drain_late(&mut late, 0, 20), 0, "as long as there is room, it has everything");
        fill(&sender, 5000);
        soon("the keeper has all, and it is full for nobody", || log.filling().is_none());
        let missed = drain_late(&mut late, 20, 5020);
        assert!((4000..5000).contains(&missed), "{missed}");
        fill(&sender, 40);
        assert_eq!(drain_late(&mut late, 5020, 5060), 0, "from then on it has everything again");
        log.end();
        assert!(counted.try_iter().eq(0..5060), "and the keeper has it anyway");
        assert!(late.drain().is_empty());
    }
}

#[test]
fn a_full_log_makes_room_as_soon_as_its_last_obstacle_is_gone() {
    type Leave = fn(&mut Consumer, Consumer);
    let leaves: [Leave; 3] = [
        |keeper, mut holder| assert_eq!((keeper.drain().len(), holder.drain().len()), (100, 100)),
        |keeper, mut holder| assert_eq!((holder.drain().len(), keeper.drain().len()), (100, 100)),
        |keeper, holder| {
            assert_eq!(keeper.drain().len(), 100);
            drop(holder);
        },
    ];
    for leave in leaves {
        let (sender, log) = open(100, 0, Vec::new());
        let mut keeper = log.subscribe(Reader::keeping("keeper", "the cellar".into()));
        let holder = log.subscribe(Reader::holding("holder"));
        let mut late = log.subscribe(Reader::giving_way("late"));
        // The alarm holds the log's thread where it has found that nobody gives way.
        let gate = Arc::new(Barrier::new(2));
        let passed = Arc::clone(&gate);
        log.warn_by(move |_| {
            passed.wait();
            passed.wait();
        });
        fill(&sender, 80);
        gate.wait();
        fill(&sender, 20);
        assert!(!write(&sender), "it is full");
        sender.shared.woken.store(false, Ordering::Release);
        leave(&mut keeper, holder);
        gate.wait();
        soon("there is room", || write(&sender));
        assert_eq!(drain_late(&mut late, 0, 101), 100);
    }
}

#[test]
fn who_looks_behind_a_batch_is_not_given_again_what_it_missed() {
    let (sender, log) = open(100, 0, Vec::new());
    let mut keeper = log.subscribe(Reader::keeping("keeper", "the cellar".into()));
    let late = log.subscribe(Reader::giving_way("late"));
    fill(&sender, 100);
    assert_eq!(keeper.drain().len(), 100);
    fill(&sender, 1);
    let missed = late.peek().unwrap();
    assert_eq!((missed.len(), missed[0].dropped), (1, Some(100)));
    let behind = late.peek_behind(&missed).unwrap();
    assert_eq!((behind.len(), behind[0].sequence), (1, 100));
    assert!(late.peek_behind(&behind).is_none());
}

#[test]
fn a_reader_that_drains_while_the_log_is_full_misses_nothing_uncounted() {
    let (seen, _counted) = mpsc::channel();
    let (sender, log) = open(50, 30_000, vec![Box::new(Keeper(Counter(seen)))]);
    let mut late = log.subscribe(Reader::giving_way("late"));
    let (mut next, mut missed) = (0, 0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| fill(&sender, 30_000));
        loop {
            let has_ended = writer.is_finished();
            let until = late.drain().iter().fold(next, |next, record| {
                assert_eq!(record.sequence, next);
                missed += record.dropped.unwrap_or_default();
                next + record.dropped.unwrap_or(1)
            });
            next = until;
            if has_ended {
                return;
            }
        }
    });
    assert_eq!(next, 30_000);
    assert!(missed < 30_000);
}

#[test]
fn a_full_log_waits_for_who_does_not_give_way_and_says_so_before() {
    let (seen, _counted) = mpsc::channel();
    for (readers, slowest) in [
        (vec![Reader::holding("slow"), Reader::giving_way("late")], "slow"),
        // With nobody that keeps them, giving way would lose them.
        (vec![Reader::giving_way("late")], "late"),
    ] {
        let keeper = Keeper(Counter(seen.clone()));
        let sinks: Vec<Box<dyn Sink>> =
            if slowest == "slow" { vec![Box::new(keeper)] } else { vec![Box::new(keeper.0)] };
        let (sender, log) = open(100, 0, sinks);
        let (alarmed, alarms) = mpsc::channel();
        log.warn_by(move |filling| alarmed.send(filling).unwrap());
        let mut readers: Vec<_> = readers.into_iter().map(|reader| log.subscribe(reader)).collect();
        fill(&sender, 79);
        assert_eq!(log.filling(), None);
        fill(&sender, 1);
        let filling = alarms.recv_timeout(LONG).unwrap();
        assert_eq!((filling.reader, filling.percent, filling.records), (slowest, 80, 80));
        fill(&sender, 20);
        assert!(!write(&sender), "it is full");
        assert_eq!(log.filling().unwrap().percent, 100);
        for reader in &mut readers {
            assert_eq!(reader.drain().len(), 100);
        }
        assert_eq!(log.filling(), None);
        fill(&sender, 90);
        assert!(alarms.recv_timeout(LONG).is_ok(), "it is said once each time");
        drop(log);
        assert!(alarms.try_recv().is_err());
    }
}

#[test]
fn an_alarm_may_end_the_log() {
    let (sender, log) = open(10, 0, Vec::new());
    let log = Arc::new(log);
    let _late = log.subscribe(Reader::holding("late"));
    let (ended, ends) = mpsc::channel();
    let weak = Arc::downgrade(&log);
    log.warn_by(move |_| {
        weak.upgrade().unwrap().end();
        ended.send(()).unwrap();
    });
    fill(&sender, 10);
    ends.recv_timeout(LONG).expect("it does not wait for itself");
    log.end();
}

#[test]
fn lines_come_in_pieces_and_none_is_taken_if_one_of_them_is_not() {
    for disk in [0, 1 << 30] {
        let held = if disk == 0 { 20_000 } else { 2000 };
        let (sender, log) = open(held, disk, Vec::new());
        let mut consumer = log.subscribe(Reader::holding("test"));
        let mut other = log.subscribe(Reader::holding("other"));
        fill(&sender, 12_000);
        for fails_at in 0..2 {
            let mut pieces = 0;
            let taken = consumer.drain_lines(|_, _| {
                pieces += 1;
                if pieces > fails_at { Err("no memory") } else { Ok(()) }
            });
            assert_eq!((taken, pieces, consumer.lag()), (Err("no memory"), fails_at + 1, 12_000));
        }
        let (mut lines, mut pieces) = (Vec::new(), 0);
        let taken = consumer.drain_lines(|piece, _| {
            assert!(piece.ends_with(b"\n"));
            lines.extend_from_slice(piece);
            pieces += 1;
            Ok::<_, ()>(())
        });
        assert_eq!((taken, pieces > 1, consumer.lag()), (Ok(()), true, 0));
        let records = serde_json::Deserializer::from_slice(&lines).into_iter();
        assert_eq!(records.collect::<Result<Vec<Record>, _>>().unwrap(), other.drain());
        consumer.drain_lines(|_, _| Err("there is none")).unwrap();
    }
}

#[test]
fn what_comes_while_lines_are_taken_is_taken_once_also_if_there_is_no_memory_for_it() {
    let (sender, log) = open(40_000, 0, Vec::new());
    let mut consumer = log.subscribe(Reader::holding("test"));
    fill(&sender, 10);
    let mut lines = 0;
    let mut count = |piece: &[u8]| lines += std::str::from_utf8(piece).unwrap().lines().count();
    let mut pieces = 0;
    consumer
        .drain_lines(|piece, _| {
            pieces += 1;
            match pieces {
                // More than one piece.
                1 => fill(&sender, 20_000),
                2 => {}
                _ => return Err("no memory"),
            }
            count(piece);
            Ok(())
        })
        .unwrap();
    while consumer.lag() > 0 {
        consumer
            .drain_lines(|piece, _| {
                count(piece);
                Ok::<_, ()>(())
            })
            .unwrap();
    }
    assert_eq!(lines, 20_010);
}

/// Blocks in the middle of what it is given, until it is let go on.
struct Stopped(mpsc::Sender<()>, mpsc::Receiver<()>);

impl Stopped {
    fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((reached, reach), (go, goes)) = (mpsc::channel(), mpsc::channel());
        (Self(reached, goes), reach, go)
    }

    fn stop(&self) {
        self.0.send(()).unwrap();
        // Also when nobody is left who could say so.
        let _ = self.1.recv_timeout(LONG);
    }
}

impl Sink for Stopped {
    fn name(&self) -> &'static str {
        "stopped"
    }

    fn write(&mut self, _records: &[Record]) -> io::Result<()> {
        self.stop();
        Ok(())
    }
}

#[test]
fn who_stops_in_the_middle_of_taking_records_stops_nobody_else() {
    let (sink, sink_stands, sink_goes) = Stopped::new();
    let (sender, log) = open(10_000, 0, vec![Box::new(sink)]);
    let (taker, taker_stands, taker_goes) = Stopped::new();
    let mut lines = log.subscribe(Reader::holding("lines"));
    let mut other = log.subscribe(Reader::holding("other"));
    fill(&sender, 1000);
    thread::scope(|scope| {
        scope.spawn(move || {
            lines.drain_lines(|_, _| {
                taker.stop();
                Ok::<_, ()>(())
            })
        });
        // One stands in its lines, the other in the log's own thread.
        sink_stands.recv_timeout(LONG).unwrap();
        taker_stands.recv_timeout(LONG).unwrap();
        let (wrote, written) = mpsc::channel();
        let (sender, log) = (&sender, &log);
        scope.spawn(move || {
            fill(sender, 4000);
            assert_eq!(other.drain().len(), 5000);
            assert!(log.active().is_empty() && log.filling().is_none());
            wrote.send(()).unwrap();
        });
        let others_are_done = written.recv_timeout(LONG);
        // As often as they are given records, until the log has ended.
        drop((taker_goes, sink_goes));
        others_are_done.expect("exchanges and readers wait for one that stands still");
    });
}
