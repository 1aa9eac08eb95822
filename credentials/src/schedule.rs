//! When a credential is fetched. Knows the time, and nothing of secrets.

use std::time::{Duration, Instant};

use crate::Error;

/// How long after a failure a request does not cause another fetch: at first, and at most. A
/// place that is asked and is empty is not asked rarer: it costs little, and nobody is prompted.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long after an upstream's refusal, where the fetch brought nothing new, another one causes
/// no fetch: at most; at first [`FIRST_PAUSE`].
const LONGEST_DOUBT: Duration = Duration::from_mins(5);

/// No value is fetched ahead of its expiry more often than this.
const SHORTEST_LIFE: Duration = Duration::from_millis(100);

/// See the module. Fetches are numbered; a request for one is a ticket, served by the fetch of
/// that number or a later one.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// The last fetch that is wanted.
    requested: u64,
    /// The last that has begun.
    begun: u64,
    is_running: bool,
    /// When the next is due that nobody has asked for.
    due: Option<Instant>,
    failure: Option<Failure>,
    /// Until when refusals cause none, and how long that was for.
    doubt_pause: (Option<Instant>, Duration),
}

#[derive(Debug)]
struct Failure {
    error: Error,
    /// The pause that follows.
    pause: Duration,
    until: Instant,
}

impl Default for Schedule {
    /// The first fetch is wanted.
    fn default() -> Self {
        Self {
            requested: 1,
            begun: 0,
            is_running: false,
            due: None,
            failure: None,
            doubt_pause: (None, FIRST_PAUSE),
        }
    }
}

impl Schedule {
    /// Why the last fetch failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// A ticket for a fetch that begins after this call.
    pub(crate) fn request(&mut self) -> u64 {
        self.requested = self.begun + 1;
        self.requested
    }

    /// A ticket for the fetch that runs, or else for a new one.
    ///
    /// # Errors
    /// The last one failed a moment ago.
    pub(crate) fn join(&mut self) -> Result<u64, Error> {
        if self.is_running || self.requested > self.begun {
            return Ok(self.requested);
        }
        match &self.failure {
            Some(failure) if Instant::now() < failure.until => Err(failure.error.clone()),
            _ => Ok(self.request()),
        }
    }

    /// A ticket for a fetch because of a refusal; `None` when there were too many for nothing.
    pub(crate) fn doubt(&mut self) -> Option<u64> {
        if self.is_running || self.requested > self.begun {
            return Some(self.requested);
        }
        let (until, pause) = self.doubt_pause;
        let now = Instant::now();
        if until.is_some_and(|until| now < until) {
            return None;
        }
        self.doubt_pause = (Some(now + pause), (pause * 2).min(LONGEST_DOUBT));
        Some(self.request())
    }

    /// Begins the fetch that is due.
    ///
    /// # Errors
    /// None is; when one will be, if that is known.
    pub(crate) fn begin(&mut self) -> Result<u64, Option<Instant>> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if self.requested <= self.begun && !is_due {
            return Err(self.due);
        }
        self.begun += 1;
        self.requested = self.begun;
        self.is_running = true;
        self.due = None;
        Ok(self.begun)
    }

    /// The fetch brought a value, which is another than before or not.
    pub(crate) fn succeeded(&mut self, is_new: bool, expires: Option<Instant>) {
        self.is_running = false;
        self.failure = None;
        if is_new {
            self.doubt_pause = (None, FIRST_PAUSE);
        }
        let now = Instant::now();
        let ahead =
            |ends: Instant| (ends.saturating_duration_since(now) / 5 * 4).max(SHORTEST_LIFE);
        self.due = expires.map(|ends| now + ahead(ends));
    }

    /// The fetch failed. It is tried again unasked only if there is a value that expires: a
    /// source may prompt its user.
    pub(crate) fn failed(&mut self, error: Error, is_expiring: bool) {
        self.is_running = false;
        let is_missing = matches!(error, Error::NotFound { .. });
        let pause = match &self.failure {
            Some(last) if !is_missing => (last.pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        let until = Instant::now() + pause;
        self.due = is_expiring.then_some(until);
        self.failure = Some(Failure { error, pause, until });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Schedule;
    use crate::{Error, Locator};

    fn unavailable() -> Error {
        let locator = Locator::parse("env://X").unwrap();
        Error::Unavailable { locator, reason: "locked".into() }
    }

    #[test]
    fn whoever_asks_while_a_fetch_runs_waits_for_the_same() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.join().unwrap(), 1);
        assert_eq!(schedule.begin(), Ok(1));
        assert_eq!(schedule.join().unwrap(), 1);
        assert_eq!(schedule.doubt(), Some(1));
        schedule.succeeded(true, None);
        assert_eq!(schedule.begin(), Err(None));
    }

    #[test]
    fn a_reload_during_a_fetch_is_a_fetch_of_its_own() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        assert_eq!(schedule.request(), 2);
        assert_eq!(schedule.request(), 2);
        schedule.succeeded(true, None);
        assert_eq!(schedule.begin(), Ok(2));
        schedule.succeeded(true, None);
        assert_eq!(schedule.begin(), Err(None));
    }

    #[test]
    fn a_value_is_fetched_again_before_it_expires() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        let ends = Instant::now() + Duration::from_secs(100);
        schedule.succeeded(true, Some(ends));
        let due = schedule.begin().unwrap_err().unwrap();
        let ahead = ends - due;
        assert!(ahead > Duration::from_secs(19) && ahead < Duration::from_secs(22), "{ahead:?}");
    }

    #[test]
    fn failures_are_answered_at_once_for_longer_each_time() {
        let mut schedule = Schedule::default();
        let mut last = Duration::ZERO;
        for n in 1..8 {
            assert_eq!(schedule.begin(), Ok(n));
            schedule.failed(unavailable(), false);
            assert!(schedule.join().is_err());
            assert_eq!(schedule.begin(), Err(None), "it is not tried unasked");
            let pause = schedule.failure.as_ref().unwrap().pause;
            assert!(pause > last || pause == super::LONGEST_PAUSE);
            last = pause;
            schedule.request();
        }
        assert_eq!(last, super::LONGEST_PAUSE);
    }

    #[test]
    fn a_value_that_expires_is_tried_for_unasked() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        schedule.failed(unavailable(), true);
        assert!(schedule.begin().unwrap_err().is_some());
    }

    #[test]
    fn refusals_that_bring_nothing_new_cause_fewer_fetches() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        schedule.succeeded(true, None);
        assert_eq!(schedule.doubt(), Some(2));
        schedule.begin().unwrap();
        schedule.succeeded(false, None);
        assert_eq!(schedule.doubt(), None);
        schedule.request();
        schedule.begin().unwrap();
        schedule.succeeded(true, None);
        assert!(schedule.doubt().is_some());
    }
}
