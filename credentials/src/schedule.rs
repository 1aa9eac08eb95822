//! When a credential is fetched. Knows the time, and nothing of secrets.

use std::time::{Duration, Instant};

use http::StatusCode;

use crate::Error;

/// How long after a failure a request does not cause another fetch: at first, and at most. A
/// place that is asked and is empty is not asked rarer: it costs little, and nobody is prompted.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long after an upstream's refusal another one of the same kind causes no fetch: at most.
const LONGEST_DOUBT: Duration = Duration::from_mins(5);

/// After how many first pauses in which nothing was fetched for a refusal the next pause is half
/// as long. In the long run no refusals, however they are spread, cause more than one fetch in
/// that time.
const RELIEF: u32 = 30;

/// No value is fetched ahead of its expiry more often than this.
const SHORTEST_LIFE: Duration = Duration::from_millis(100);

/// See the module. Fetches are numbered; a request for one is a ticket, served by the fetch of
/// that number or a later one.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// The last fetch that is wanted.
    requested: u64,
    /// When it was last asked for: what is fetched is to be as new as that.
    asked: Instant,
    /// The last that has begun.
    begun: u64,
    is_running: bool,
    /// When the next is due that nobody has asked for.
    due: Option<Instant>,
    failure: Option<Failure>,
    rejected: Pace,
    forbidden: Pace,
}

/// What an upstream's refusal says of the credential that it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It is not valid: 401 (RFC 9110 §15.5.2), or 407 of a proxy (§15.5.8).
    Rejected,
    /// It is not enough: 403 (RFC 9110 §15.5.4). Mostly it has no right to what was asked for and
    /// a new one would have none either; but some upstreams answer so to one that has expired.
    Forbidden,
}

impl Doubt {
    /// What an upstream says with `status`, if that is a refusal.
    pub fn of(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::UNAUTHORIZED => Some(Self::Rejected),
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            _ => None,
        }
    }
}

/// How often refusals of one kind cause a fetch. A client can provoke them, and where each fetch
/// brings a new value, that is no sign that the old one was at fault. So the pause after one
/// doubles each time, whatever it brought, and only time makes it shorter.
#[derive(Debug)]
struct Pace {
    first: Duration,
    /// The pause after the next fetch.
    next: Duration,
    /// When the last pause ends.
    until: Option<Instant>,
}

impl Pace {
    fn new(first: Duration) -> Self {
        Self { first, next: first, until: None }
    }

    /// Whether a refusal at `now` causes a fetch; if so, the next pause begins.
    fn allows(&mut self, now: Instant) -> bool {
        if let Some(until) = self.until {
            let Some(quiet) = now.checked_duration_since(until) else { return false };
            let halvings = quiet.as_secs() / (self.first * RELIEF).as_secs();
            let halvings = i32::try_from(halvings).unwrap_or(i32::MAX);
            self.next = self.next.mul_f64(0.5_f64.powi(halvings)).max(self.first);
        }
        self.until = Some(now + self.next);
        self.next = (self.next * 2).min(LONGEST_DOUBT);
        true
    }
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
            asked: Instant::now(),
            begun: 0,
            is_running: false,
            due: None,
            failure: None,
            rejected: Pace::new(FIRST_PAUSE),
            forbidden: Pace::new(30 * FIRST_PAUSE),
        }
    }
}

impl Schedule {
    /// Why the last fetch failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// When the fetch that runs was asked for, or was due; at the earliest, when the schedule was
    /// made.
    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    /// A ticket for a fetch that begins after this call.
    pub(crate) fn request(&mut self) -> u64 {
        self.asked = Instant::now();
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

    /// A ticket for a fetch because of a refusal; `None` when there were too many.
    pub(crate) fn doubt(&mut self, doubt: Doubt) -> Option<u64> {
        if self.is_running || self.requested > self.begun {
            return Some(self.requested);
        }
        let pace = match doubt {
            Doubt::Rejected => &mut self.rejected,
            Doubt::Forbidden => &mut self.forbidden,
        };
        pace.allows(Instant::now()).then(|| self.request())
    }

    /// Begins the fetch that is due.
    ///
    /// # Errors
    /// None is; when one will be, if that is known.
    pub(crate) fn begin(&mut self) -> Result<u64, Option<Instant>> {
        let now = Instant::now();
        if self.requested <= self.begun {
            if self.due.is_none_or(|due| due > now) {
                return Err(self.due);
            }
            self.asked = now;
        }
        self.begun += 1;
        self.requested = self.begun;
        self.is_running = true;
        self.due = None;
        Ok(self.begun)
    }

    /// The fetch brought a value.
    pub(crate) fn succeeded(&mut self, expires: Option<Instant>) {
        self.is_running = false;
        self.failure = None;
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

    use super::{Doubt, FIRST_PAUSE, LONGEST_DOUBT, Pace, RELIEF, Schedule};
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
        assert_eq!(schedule.doubt(Doubt::Rejected), Some(1));
        schedule.succeeded(None);
        assert_eq!(schedule.begin(), Err(None));
    }

    #[test]
    fn a_reload_during_a_fetch_is_a_fetch_of_its_own() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        assert_eq!(schedule.request(), 2);
        assert_eq!(schedule.request(), 2);
        schedule.succeeded(None);
        assert_eq!(schedule.begin(), Ok(2));
        schedule.succeeded(None);
        assert_eq!(schedule.begin(), Err(None));
    }

    #[test]
    fn a_value_is_fetched_again_before_it_expires() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        let ends = Instant::now() + Duration::from_secs(100);
        schedule.succeeded(Some(ends));
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
    fn refusals_cause_fewer_fetches_whatever_those_bring() {
        let mut schedule = Schedule::default();
        schedule.begin().unwrap();
        schedule.succeeded(None);
        for (doubt, ticket) in [(Doubt::Rejected, 2), (Doubt::Forbidden, 3)] {
            assert_eq!(schedule.doubt(doubt), Some(ticket), "each kind has a pace of its own");
            schedule.begin().unwrap();
            schedule.succeeded(None);
            assert_eq!(schedule.doubt(doubt), None);
        }
    }

    /// How often a pace allows a fetch when it is asked each second for an hour.
    fn in_an_hour(first: Duration) -> usize {
        let (mut pace, start) = (Pace::new(first), Instant::now());
        (0..3600).filter(|n| pace.allows(start + Duration::from_secs(*n))).count()
    }

    #[test]
    fn refusals_without_end_cause_few_fetches() {
        let rejected = in_an_hour(FIRST_PAUSE);
        assert!((15..=25).contains(&rejected), "{rejected}");
        let forbidden = in_an_hour(30 * FIRST_PAUSE);
        assert!((10..=20).contains(&forbidden), "{forbidden}");
    }

    #[test]
    fn a_pause_doubles_up_to_a_limit_and_time_shortens_it() {
        let mut pace = Pace::new(FIRST_PAUSE);
        let mut now = Instant::now();
        // A value that is replaced each minute is fetched at once each time.
        for _ in 0..100 {
            assert!(pace.allows(now));
            now += 2 * RELIEF * FIRST_PAUSE;
        }
        assert_eq!(pace.next, 2 * FIRST_PAUSE);
        for _ in 0..20 {
            assert!(pace.allows(now));
            now = pace.until.unwrap();
        }
        assert_eq!(pace.next, LONGEST_DOUBT);
        // Long after, it begins anew.
        assert!(pace.allows(now + Duration::from_hours(1000)));
        assert_eq!(pace.next, 2 * FIRST_PAUSE);
    }
}
