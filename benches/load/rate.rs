//! Requests at a fixed rate (an open loop): each has the time when it is due, whether or not
//! those before it have been answered, and is measured from then on.
//!
//! So a server that stalls is charged with all that had to wait for it, and not with one request
//! as in a closed loop (coordinated omission). A free connection takes the request that is due
//! next; what was due and could not be sent until the end counts with the time it had waited.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench_support::{Arguments, Failure};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use crate::connection::{Connection, Plan};
use crate::requests::{again, micros, summary};

/// When each request is due, and when the run ends.
#[derive(Debug)]
struct Schedule {
    start: Instant,
    every: Duration,
    total: u64,
    end: Instant,
    next: AtomicU64,
}

impl Schedule {
    fn new(rate: u32, seconds: Duration) -> Result<Self, Failure> {
        if rate == 0 {
            return Err("--rate must be 1 or more".into());
        }
        let start = Instant::now() + Duration::from_millis(50);
        let every = Duration::from_secs(1) / rate;
        let total = u64::try_from(seconds.as_nanos() / every.as_nanos())?;
        // Twice the time: enough to see that a server does not keep up.
        Ok(Self { start, every, total, end: start + seconds * 2, next: AtomicU64::new(0) })
    }

    /// When the next request is due; none when all have been taken or the time is over.
    fn take(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.total && Instant::now() < self.end).then(|| self.due(number))
    }

    fn due(&self, number: u64) -> Instant {
        let nanos = u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(nanos.saturating_mul(number))
    }
}

pub(crate) async fn run(plan: Plan, arguments: &Arguments) -> Result<Value, Failure> {
    let plan = Arc::new(plan);
    let seconds = Duration::try_from_secs_f64(arguments.required("seconds")?)?;
    let connections: usize = arguments.required("connections")?;
    // Opened before the schedule begins, since it is not connecting that is measured.
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push((Connection::open(&plan, None).await?, Alarm::new()?));
    }
    let schedule = Arc::new(Schedule::new(arguments.required("rate")?, seconds)?);
    let mut running: JoinSet<_> = opened
        .into_iter()
        .map(|(connection, alarm)| {
            keep(Arc::clone(&plan), Arc::clone(&schedule), connection, alarm)
        })
        .collect();
    let mut took = Vec::new();
    while let Some(done) = running.join_next().await {
        took.extend(done??);
    }
    let answered = took.len() as u64;
    let elapsed = schedule.start.elapsed().as_secs_f64();
    let unsent = answered..schedule.total;
    took.extend(unsent.clone().map(|number| micros(schedule.due(number))));
    let mut found = summary(took, elapsed);
    found["requests"] = answered.into();
    found["unsent"] = unsent.count().into();
    Ok(found)
}

/// One connection: takes what is due next, for as long as there is something.
async fn keep(
    plan: Arc<Plan>,
    schedule: Arc<Schedule>,
    connection: Connection,
    alarm: Alarm,
) -> Result<Vec<u64>, Failure> {
    let mut connection = Some(connection);
    let mut took = Vec::new();
    while let Some(due) = schedule.take() {
        alarm.wait_until(due).await?;
        let (open, may_follow) = again(&plan, connection.take()).await?;
        took.push(micros(due));
        connection = may_follow.then_some(open);
    }
    Ok(took)
}

/// Wakes at a time, to some microseconds: the runtime's own timers know milliseconds.
#[derive(Debug)]
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    fn new() -> Result<Self, Failure> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(deprecated, reason = "safe code has nothing else; the descriptor is owned")]
        Ok(Self(AsyncFd::new(timer)?))
    }

    async fn wait_until(&self, due: Instant) -> Result<(), Failure> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: left.try_into()?,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let rung = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut [0; 8])?));
            match rung {
                Ok(Err(error)) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                Ok(Ok(_)) => return Ok(()),
                _ => {}
            }
        }
    }
}
