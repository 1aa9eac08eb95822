//! Spares a worker the way to sleep and back while one client asks it one thing after the other
//! and all answer at once.
//!
//! To sleep until a socket has something, and be woken, takes longer than a server on the same
//! machine takes to answer. So a worker that has learned that its next wait will be short looks at
//! its sockets again and again instead, for [`BUDGET`] at most. It does so only where that costs
//! nobody anything: as long as one connection alone keeps it busy, or one after the other, and while
//! such waits do end in time; where they do not, because the upstream is far, the client thinks, or
//! others need the processor, it sleeps as always. Bodies that stream, and tunnels after their
//! beginning, are not seen here. Adaptive mutexes do the same, and hypervisors before they halt.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::exchange::Peer;

/// How long is looked, at most.
const BUDGET: Duration = Duration::from_micros(50);

/// A wait is worth it if the last one of its kind was no longer. More than the budget, since it
/// was slept through, which takes time.
const SHORT: Duration = Duration::from_micros(150);

/// So many waits in a row must be of one connection, or of those that took its place.
const ALONE: u32 = 16;

/// How many waits are slept through after one that took too long.
const PAUSE: u32 = 32;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The upstream's response.
    Response,
    /// What the client sends next, if need be on another connection.
    Request,
}

thread_local! {
    static HABIT: Cell<Habit> = const { Cell::new(Habit::NEW) };
    /// Until when is looked.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Who looks, while there is nothing to look for.
    static WATCHER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Says that the connection of `peer`, one of this worker's, waits from `now` on.
pub(crate) fn wait_for(awaited: Awaited, peer: &Arc<Peer>, now: Instant) {
    let mut habit = HABIT.get();
    let is_worth_it = habit.wait_for(awaited, number(peer), now);
    HABIT.set(habit);
    UNTIL.set(is_worth_it.then(|| now + BUDGET));
    if is_worth_it && let Some(watcher) = WATCHER.take() {
        watcher.wake();
    }
}

/// Says that what `peer` waited for has come, and that work will follow that takes long.
pub(crate) fn come(peer: &Arc<Peer>) {
    let mut habit = HABIT.get();
    // Not asked for the time at each message of a tunnel for which nobody looks any more.
    if habit.waits.is_some() && habit.number == Some(number(peer)) {
        UNTIL.set(None);
        habit.come(Instant::now());
        HABIT.set(habit);
    }
}

/// Says that the connection of `peer` is at its end, and that another may take its place.
pub(crate) fn leave(peer: &Arc<Peer>) {
    if HABIT.get().number == Some(number(peer)) {
        wait_for(Awaited::Request, peer, Instant::now());
        let mut habit = HABIT.get();
        habit.leave();
        HABIT.set(habit);
    }
}

/// Stands for a connection: no other has it at the same time.
fn number(peer: &Arc<Peer>) -> usize {
    Arc::as_ptr(peer).addr()
}

/// Looks at the worker's sockets for as long as that is worth it; never ends.
pub(super) async fn watch() {
    #[cfg(feature = "bench")]
    if crate::bench::Part::Watching.is_left_out() {
        return;
    }
    loop {
        match UNTIL.get() {
            None => rest().await,
            // The runtime looks at its sockets before it comes back here.
            Some(until) if Instant::now() < until => tokio::task::yield_now().await,
            Some(_) => {
                UNTIL.set(None);
                let mut habit = HABIT.get();
                habit.missed();
                HABIT.set(habit);
            }
        }
    }
}

/// Waits until there is something to look for.
async fn rest() {
    poll_fn(|cx| {
        if UNTIL.get().is_some() {
            return Poll::Ready(());
        }
        WATCHER.replace(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// What was learned of a worker's waits.
#[derive(Debug, Clone, Copy)]
struct Habit {
    /// Stands for the connection that waited last, until its end.
    number: Option<usize>,
    /// How often it did in a row, and those before it whose place it took.
    in_a_row: u32,
    /// What it waits for, since when.
    waits: Option<(Awaited, Instant)>,
    /// How long the last wait for each took.
    response: Duration,
    request: Duration,
    /// Waits still to be slept through.
    pause: u32,
}

impl Habit {
    const NEW: Self = Self {
        number: None,
        in_a_row: 0,
        waits: None,
        response: Duration::MAX,
        request: Duration::MAX,
        pause: 0,
    };

    /// Notes a wait from `now` on, which ends the one before; whether it is worth looking.
    fn wait_for(&mut self, awaited: Awaited, number: usize, now: Instant) -> bool {
        if self.number.is_some_and(|last| last != number) {
            *self = Self { pause: self.pause, ..Self::NEW };
        }
        self.number = Some(number);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.pause = self.pause.saturating_sub(1);
        self.come(now);
        self.waits = Some((awaited, now));
        self.in_a_row >= ALONE && self.pause == 0 && *self.last(awaited) <= SHORT
    }

    /// Notes that the wait has ended.
    fn come(&mut self, now: Instant) {
        if let Some((ended, since)) = self.waits.take() {
            *self.last(ended) = now.saturating_duration_since(since);
        }
    }

    /// Notes that the connection that waited last is at its end.
    fn leave(&mut self) {
        self.number = None;
    }

    /// Notes that what was looked for did not come in time.
    fn missed(&mut self) {
        self.pause = PAUSE;
    }

    fn last(&mut self, awaited: Awaited) -> &mut Duration {
        match awaited {
            Awaited::Response => &mut self.response,
            Awaited::Request => &mut self.request,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{ALONE, Awaited, Habit, PAUSE, UNTIL, come, leave, wait_for};
    use crate::exchange::Peer;

    /// The waits of a worker, one behind the other.
    struct Worker {
        habit: Habit,
        now: Instant,
    }

    impl Worker {
        fn new() -> Self {
            Self { habit: Habit::NEW, now: Instant::now() }
        }

        /// An exchange of the connection of that `number` whose response takes so many
        /// microseconds; whether it was worth looking for it.
        fn exchange(&mut self, number: usize, response: u64) -> bool {
            let is_worth_it = self.habit.wait_for(Awaited::Response, number, self.now);
            self.now += Duration::from_micros(response);
            self.habit.wait_for(Awaited::Request, number, self.now);
            self.now += Duration::from_micros(20);
            is_worth_it
        }

        fn exchanges(&mut self, response: u64) -> usize {
            (0..1000).filter(|_| self.exchange(1, response)).count()
        }
    }

    #[test]
    fn one_client_whose_upstream_is_near_is_looked_for() {
        assert_eq!(Worker::new().exchanges(30), 1000 - ALONE as usize / 2);
    }

    #[test]
    fn an_upstream_that_is_far_is_slept_for() {
        assert_eq!(Worker::new().exchanges(1000), 0);
    }

    #[test]
    fn several_clients_are_slept_for() {
        let mut worker = Worker::new();
        assert!((0..1000).all(|n| !worker.exchange(n % 2, 30)));
    }

    #[test]
    fn a_client_that_opens_one_connection_after_the_other_is_looked_for() {
        let mut worker = Worker::new();
        let looked = (0..1000).filter(|&number| {
            let is_worth_it = worker.exchange(number, 30);
            worker.habit.leave();
            is_worth_it
        });
        assert_eq!(looked.count(), 1000 - ALONE as usize / 2);
    }

    /// Connections of this thread, as its worker sees them.
    fn connections() -> [Arc<Peer>; 2] {
        let [one, two] = ["127.0.0.1:1", "127.0.0.1:2"].map(|it| Arc::new(Peer::new(it.into())));
        for _ in 0..ALONE {
            wait_for(Awaited::Request, &one, Instant::now());
        }
        assert!(UNTIL.get().is_some());
        [one, two]
    }

    #[test]
    fn what_comes_ends_the_wait_of_its_own_connection_alone() {
        let [one, two] = connections();
        come(&two);
        assert!(UNTIL.get().is_some());
        come(&one);
        assert!(UNTIL.get().is_none());
    }

    #[test]
    fn a_connection_takes_the_place_of_one_that_has_left() {
        let [one, two] = connections();
        leave(&one);
        wait_for(Awaited::Request, &two, Instant::now());
        assert!(UNTIL.get().is_some());
        leave(&one);
        wait_for(Awaited::Request, &one, Instant::now());
        assert!(UNTIL.get().is_none(), "the other is still there");
    }

    #[test]
    fn work_behind_what_came_is_no_part_of_the_wait() {
        let mut worker = Worker::new();
        let looked = (0..1000).filter(|_| {
            let is_worth_it = worker.habit.wait_for(Awaited::Request, 1, worker.now);
            worker.now += Duration::from_micros(20);
            worker.habit.come(worker.now);
            worker.now += Duration::from_millis(1);
            is_worth_it
        });
        assert_eq!(looked.count(), 1001 - ALONE as usize);
    }

    #[test]
    fn a_wait_that_was_too_long_is_followed_by_many_that_are_slept_through() {
        let mut worker = Worker::new();
        worker.exchanges(30);
        worker.habit.missed();
        let slept = (0..1000).take_while(|_| !worker.exchange(1, 30)).count();
        assert_eq!(slept, PAUSE as usize / 2);
    }
}
