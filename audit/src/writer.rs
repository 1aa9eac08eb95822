//! The one thread behind a log: feeds the sinks, moves records to disk, wakes who waits.
//!
//! Exchanges wake it only when somebody wants to know of the next record, and it then waits a
//! little for more, so that its work is done for many at once. While records keep coming for the
//! sinks it looks for them by itself: to wake it costs an exchange more than its record does.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::log::{Bounds, Faults, Sender, Shared};
use crate::reader::Filling;
use crate::{Consumer, Reader, Record, Session};

/// How long records are gathered before they are handed on; and while they come for the sinks one
/// behind the other, so that more of them are written at once.
const GATHER: Duration = Duration::from_millis(5);
const GATHER_BUSY: Duration = Duration::from_millis(10);

/// What the disk is called to which records are moved, where its failing is told of.
const DISK: &str = "audit_disk";

/// When a sink that failed is tried again, or that disk.
const RETRY: Duration = Duration::from_secs(1);

/// Where records go besides consumers. It is given every record once, in order, on the log's own
/// thread; after an error the same records come again.
pub trait Sink: Send {
    /// What it is, where its failing is told of: `audit_file`.
    fn name(&self) -> &'static str;

    /// Writes the records.
    ///
    /// # Errors
    /// They could not be written. The log holds them until they can.
    fn write(&mut self, records: &[Record]) -> io::Result<()>;

    /// Where the records are once they are written, in words, if they can be found there again.
    /// Then consumers can give way, where they would hold up the log.
    fn keeps(&self) -> Option<String> {
        None
    }

    /// The log has ended, and all is written.
    fn end(&mut self) {}
}

/// A log, with the thread behind it. Dropping it ends it. A child that is forked has no such thread:
/// it must neither use nor drop its copy, nor those of the log's [`Consumer`]s.
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens a log within `bounds` for the records of `session`, of which `sinks` are given all.
    ///
    /// # Errors
    /// The system refuses a thread or a temporary file.
    pub fn open(
        session: Session,
        bounds: Bounds,
        sinks: Vec<Box<dyn Sink>>,
    ) -> io::Result<(Sender, Self)> {
        let shared = Arc::new(Shared::new(session, bounds)?);
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            outlets: sinks
                .into_iter()
                .map(|sink| {
                    let reader = match sink.keeps() {
                        Some(place) => Reader::keeping(sink.name(), place),
                        None => Reader::holding(sink.name()),
                    };
                    let consumer = Consumer::new(Arc::clone(&shared), reader);
                    Outlet { consumer, sink, retry: None }
                })
                .collect(),
            is_busy: false,
            disk: None,
        };
        let thread =
            thread::Builder::new().name("nono-audit".into()).spawn(move || writer.run())?;
        // Only this sets it.
        let _ = shared.writer.set(thread.thread().clone());
        shared.wake();
        let sender = Sender::new(Arc::clone(&shared));
        let writer = Mutex::new(Some(thread));
        Ok((sender, Self { shared, writer }))
    }

    /// A new consumer, which sees all that the log still holds and all that comes.
    pub fn subscribe(&self, reader: Reader) -> Consumer {
        Consumer::new(Arc::clone(&self.shared), reader)
    }

    /// How full the log is, once that is much, and whom it waits for.
    pub fn filling(&self) -> Option<Filling> {
        self.shared.filling()
    }

    /// How many records of clients that had not shown the session token were not kept: they would
    /// have had more than their share of the log.
    pub fn shed(&self) -> u64 {
        self.shared.lock().shed
    }

    /// Has `count` called with each record that is not kept, by the thread of its exchange. Only
    /// the first one counts.
    pub fn count_unkept_by(&self, count: impl Fn(&Record) + Send + Sync + 'static) {
        // A second one is refused.
        let _ = self.shared.unkept.set(Box::new(count));
    }

    /// Has `alarm` called when the log begins to be full, each time that it does: on the log's own
    /// thread, which it must not hold up. Only the first one counts.
    pub fn warn_by(&self, alarm: impl Fn(Filling) + Send + Sync + 'static) {
        // A second one is refused.
        let _ = self.shared.alarm.set(Box::new(alarm));
    }

    /// The exchanges that run, as records of what is known so far.
    pub fn active(&self) -> Vec<Record> {
        let mut running: Vec<_> =
            self.shared.active.all().iter().filter_map(|recorder| recorder.so_far()).collect();
        running.sort_unstable_by_key(|record| record.id.number);
        running
    }

    /// The sinks that do not take records now, by name, and why; the log holds for them what
    /// they have not taken. As one of them, the disk to which records are moved.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        self.shared.faults.lock().iter().map(|(name, why)| (*name, why.clone())).collect()
    }

    /// Says that no more records come, and waits until the sinks have all; of several calls, each, but
    /// for one of the log's own thread.
    pub fn end(&self) {
        self.shared.lock().has_ended = true;
        self.shared.wake();
        if self.shared.writer.get().is_some_and(|own| own.id() == thread::current().id()) {
            return;
        }
        // Held to the end, so that nobody returns before the one who waits.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.take() {
            // A panic in it has been reported by its hook.
            let _ = writer.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

struct Writer {
    shared: Arc<Shared>,
    outlets: Vec<Outlet>,
    /// Whether a sink was given records the last time, so that it looks for more by itself.
    is_busy: bool,
    /// When the disk is tried again, if it failed.
    disk: Option<Instant>,
}

/// A sink, and how far it has come.
struct Outlet {
    consumer: Consumer,
    sink: Box<dyn Sink>,
    /// When it is tried again, if it failed.
    retry: Option<Instant>,
}

impl Outlet {
    /// Gives the sink what is there now and it has not yet, and says whether there was any that it
    /// took. What comes meanwhile is for the next time, or is little and takes as long. After an
    /// error it is left alone for a while.
    fn feed(&mut self, is_last: bool, faults: &Faults) -> bool {
        if !is_last && self.retry.is_some_and(|retry| Instant::now() < retry) {
            return false;
        }
        self.retry = None;
        let (mut at, newest) = self.consumer.span();
        let until = if is_last { u64::MAX } else { newest };
        let mut has_fed = false;
        while at < until
            && let Some(batch) = self.consumer.peek()
        {
            let written = self.sink.write(&batch);
            if let Err(error) = written {
                faults.lock().insert(self.sink.name(), error.to_string());
                self.retry = Instant::now().checked_add(RETRY);
                return false;
            }
            faults.lock().remove(self.sink.name());
            self.consumer.commit(&batch);
            (at, has_fed) = (batch.end(), true);
        }
        has_fed
    }

    /// Ends the sink, and says how many records it has not taken.
    fn end(&mut self, faults: &Faults) {
        self.sink.end();
        let left = self.consumer.lag();
        let mut faults = faults.lock();
        if let (Some(why), 1..) = (faults.get_mut(self.sink.name()), left) {
            *why = format!("{why}; {left} records were not written");
        }
    }
}

impl Writer {
    fn run(&mut self) {
        loop {
            self.sleep();
            let has_ended = self.shared.lock().has_ended;
            if !has_ended {
                gather(if self.is_busy { GATHER_BUSY } else { GATHER });
            }
            self.is_busy = false;
            for outlet in &mut self.outlets {
                self.is_busy |= outlet.feed(has_ended, &self.shared.faults);
            }
            self.spill();
            self.shared.warn();
            self.notify();
            if has_ended {
                self.outlets.iter_mut().for_each(|outlet| outlet.end(&self.shared.faults));
                return;
            }
        }
    }

    /// Moves records to disk, where there are too many in memory.
    fn spill(&mut self) {
        if self.disk.is_some_and(|retry| retry <= Instant::now()) {
            self.disk = None;
            self.shared.lock().segments.try_disk_again();
            self.shared.faults.lock().remove(DISK);
        }
        if let Err(error) = self.shared.spill() {
            self.disk = Instant::now().checked_add(RETRY);
            self.shared.faults.lock().insert(DISK, error.to_string());
        }
    }

    /// Until there is something to do.
    fn sleep(&self) {
        if self.is_busy {
            return;
        }
        let retries = self.outlets.iter().map(|outlet| outlet.retry);
        let retry = retries.chain([self.disk]).flatten().min();
        while !self.shared.woken.swap(false, Ordering::Acquire) {
            match retry.map(|retry| retry.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return,
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// Tells those who wait, and asks to be woken for them and the sinks.
    fn notify(&self) {
        let mut state = self.shared.lock();
        let (next, has_ended) = (state.next, state.has_ended);
        let mut is_awaited = false;
        for (_, cursor) in &mut state.cursors {
            if cursor.is_armed
                && (cursor.at < next || has_ended)
                && let Some(signal) = &mut cursor.signal
            {
                cursor.is_armed = false;
                // Full only when nobody has read for long, and then it is readable.
                let _ = signal.write(&[0]);
            }
            is_awaited |= cursor.is_armed;
        }
        // Also for who waits still: the exchange that has woken it may have done so before it was
        // asked to, and taken back by that what was asked for meanwhile.
        if !self.is_busy && (is_awaited || !self.outlets.is_empty()) {
            self.shared.want();
            if self
                .outlets
                .iter()
                .any(|outlet| outlet.retry.is_none() && outlet.consumer.is_behind(&state))
            {
                self.shared.woken.store(true, Ordering::Release);
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

/// Lets some more records come.
fn gather(time: Duration) {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
