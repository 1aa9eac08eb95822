//! Records that the log does not keep, or cannot give: whose these are, and what stands for them.

use std::io;
use std::sync::atomic::Ordering;

use super::{Shared, State};
use crate::recorder::unix_ms;
use crate::{Decision, Mode, Outcome, Phase, Record, RecordId};

/// Clients that have not shown the session token have at most one in so many of the places in
/// memory, and of the bytes on disk.
const STRANGERS: u8 = 4;

impl Shared {
    /// Whether the log takes one more record of a client that has not shown the session token. Such
    /// clients must not be able to fill it. They have their share of the memory; beyond that they
    /// have their share of the disk, and all the room that others make by giving way, for as long
    /// as the rest of the memory is left to those with the token.
    pub(super) fn takes_stranger(&self, state: &State) -> bool {
        let share = self.bounds.records.div_ceil(STRANGERS.into());
        if state.strangers < share {
            return true;
        }
        let used = state.segments.used().filter(|_| state.segments.has_room());
        let has_share = used.is_some_and(|used| used * f64::from(STRANGERS) < 1.0);
        (has_share || state.can_give_way()) && state.in_memory() < self.bounds.records - share
    }

    /// Has a record counted that is not kept.
    pub(super) fn let_go(&self, record: &Record) {
        if let Some(count) = self.unkept.get() {
            count(record);
        }
    }

    /// What stands for `count` records from `first` on that are on disk and cannot be read.
    pub(crate) fn unreadable(&self, first: u64, count: u64, error: &io::Error) -> Record {
        let reason = format!("records could not be read back from the disk: {error}");
        Record { sequence: first, reason: Some(reason.into()), ..self.gap(count) }
    }

    /// What stands for `count` records from `first` on that a consumer was too late for.
    pub(crate) fn missed(&self, state: &State, first: u64, count: u64) -> Record {
        let reason = format!(
            "they were not taken before the log was full, and are left to {}",
            state.keepers().collect::<Vec<_>>().join(" and ")
        );
        Record { sequence: first, reason: Some(reason.into()), ..self.gap(count) }
    }

    /// What stands for the records that were not kept since it was last asked for.
    pub(super) fn unkept_since(&self, state: &mut State) -> Record {
        let shed = state.shed - state.shed_told;
        state.shed_told = state.shed;
        let gap = self.gap(std::mem::take(&mut state.dropped) + shed);
        if shed == 0 {
            return gap;
        }
        let reason = format!(
            "there was no place for the records of some exchanges, {shed} of them of clients that \
             had not shown the session token"
        );
        Record { reason: Some(reason.into()), ..gap }
    }

    fn gap(&self, dropped: u64) -> Record {
        let number = self.counts.opened.fetch_add(1, Ordering::Relaxed);
        let id = RecordId { session: self.session, number };
        Record {
            phase: Phase::Gap,
            decision: Decision::Deny,
            outcome: Outcome::Refused,
            reason: Some("there was no place for the records of some exchanges".into()),
            dropped: Some(dropped),
            ..Record::new(id, unix_ms(), Mode::Reverse)
        }
    }
}
