//! Who reads the log: what each is to it, who gives way when it is full, and whom it waits for.

use std::sync::atomic::Ordering;

use crate::log::{Cursor, Shared, State};

/// From so much on a log is said to fill, and down to so much until it is said again.
const MUCH: f64 = 0.8;
const LITTLE: f64 = 0.5;

/// What a consumer is to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Holding,
    /// Says where.
    Keeping(String),
    GivingWay,
}

impl Reader {
    /// The log holds for it what it has not yet taken, whatever comes.
    pub fn holding(name: &'static str) -> Self {
        Self { name, kind: Kind::Holding }
    }

    /// So too; and what it has taken can be found at `place`.
    pub fn keeping(name: &'static str, place: String) -> Self {
        Self { name, kind: Kind::Keeping(place) }
    }

    /// So too; but when the log is full, and others keep its records, it gives way: it is then
    /// given a record of [`crate::Phase::Gap`] in place of the oldest, and until it has read that,
    /// no more is held for it than what memory has room for.
    pub fn giving_way(name: &'static str) -> Self {
        Self { name, kind: Kind::GivingWay }
    }
}

/// A log that is about to be full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// How full it is.
    pub percent: u8,
    /// Whom it waits for: the name of its slowest reader.
    pub reader: &'static str,
    /// How many records that has not yet taken.
    pub records: u64,
}

impl Cursor {
    /// Goes on at `at`, behind what was read.
    pub(crate) fn go_to(&mut self, at: u64) {
        self.at = at;
        self.missed = 0;
        self.is_reading = false;
    }

    /// Whether it gives way now: not while it reads, or what it reads would count as missed.
    fn gives_way(&self) -> bool {
        self.reader.kind == Kind::GivingWay && !self.is_reading
    }
}

impl State {
    /// Where records can be found that are not here.
    pub(crate) fn keepers(&self) -> impl Iterator<Item = &str> {
        self.cursors.iter().filter_map(|(_, cursor)| match &cursor.reader.kind {
            Kind::Keeping(place) => Some(&**place),
            Kind::Holding | Kind::GivingWay => None,
        })
    }

    /// Whether all who have not taken the oldest records give way, to somebody who keeps them.
    pub(crate) fn can_give_way(&self) -> bool {
        let Some(end) = self.segments.oldest_end() else { return false };
        let can = |cursor: &Cursor| cursor.at >= end || cursor.gives_way();
        self.keepers().next().is_some() && self.cursors.iter().all(|(_, cursor)| can(cursor))
    }

    /// Whether records should go to disk when there is no room in memory: somebody waits for
    /// them who has missed none.
    pub(crate) fn needs_disk(&self) -> bool {
        let is_late = |cursor: &Cursor| cursor.gives_way() && cursor.missed > 0;
        let waits = |cursor: &Cursor| cursor.at < self.next && !is_late(cursor);
        self.segments.has_room() && self.cursors.iter().any(|(_, cursor)| waits(cursor))
    }

    /// Has those who give way do so for the oldest records; false if somebody needs them.
    pub(crate) fn give_way(&mut self) -> bool {
        let Some(end) = self.segments.oldest_end().filter(|_| self.can_give_way()) else {
            return false;
        };
        for (_, cursor) in self.cursors.iter_mut().filter(|(_, cursor)| cursor.at < end) {
            cursor.missed += end - cursor.at;
            cursor.at = end;
        }
        true
    }
}

impl Shared {
    /// How full the log is, if that is much and somebody holds it up.
    pub(crate) fn filling(&self) -> Option<Filling> {
        let state = self.lock();
        let fullness = self.fullness(&state);
        let is_kept = state.keepers().next().is_some();
        let readers = state.cursors.iter().map(|(_, cursor)| cursor);
        let holders = readers.filter(|cursor| !(is_kept && cursor.gives_way()));
        let slowest = holders.min_by_key(|cursor| cursor.at)?;
        let records = state.next - slowest.at;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        (fullness >= MUCH && records > 0).then_some(Filling {
            percent: (fullness * 100.0) as u8,
            reader: slowest.reader.name,
            records,
        })
    }

    /// Whether the writer is to be woken for the alarm: so much is in memory, and it has nothing
    /// else to do.
    pub(crate) fn should_warn(&self, in_memory: usize) -> bool {
        in_memory >= self.bounds.records / 5 * 4
            && self.alarm.get().is_some()
            && !self.has_warned.load(Ordering::Relaxed)
    }

    /// Raises the alarm if the log begins to be full.
    pub(crate) fn warn(&self) {
        let Some(alarm) = self.alarm.get() else { return };
        if self.has_warned.load(Ordering::Relaxed) {
            return;
        }
        if let Some(filling) = self.filling() {
            self.has_warned.store(true, Ordering::Relaxed);
            alarm(filling);
        }
    }

    /// Lets the alarm be raised again, if the log is no longer full. To be called with the lock
    /// held.
    pub(crate) fn calm(&self, state: &State) {
        if self.has_warned.load(Ordering::Relaxed) && self.fullness(state) < LITTLE {
            self.has_warned.store(false, Ordering::Relaxed);
        }
    }
}
