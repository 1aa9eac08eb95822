//! What a log holds, and how far those who read it have come.

use std::os::unix::net::UnixStream;

use slab::Slab;

use super::SEGMENT;
use crate::Record;
use crate::reader::Reader;
use crate::segment::{Ring, Segments};

/// What is behind the lock.
pub(crate) struct State {
    /// The next record's sequence number.
    pub(crate) next: u64,
    /// The newest records, not yet part of a segment.
    pub(super) fresh: Vec<Record>,
    /// How many of them are of clients without the token.
    fresh_strangers: usize,
    pub(crate) segments: Segments,
    /// Records of clients without the token, wherever they are.
    pub(super) strangers: usize,
    /// Records that could not be kept and that no gap record has counted yet.
    pub(super) dropped: u64,
    /// Those of clients without the token that were not kept, since they had more than their share;
    /// and how many of them gap records have counted.
    pub(crate) shed: u64,
    pub(super) shed_told: u64,
    pub(crate) cursors: Slab<Cursor>,
    pub(super) is_spilling: bool,
    pub(crate) has_ended: bool,
}

/// How far a consumer has come.
pub(crate) struct Cursor {
    pub(crate) at: u64,
    pub(crate) reader: Reader,
    /// How many records before `at` it was not given, since it had to give way.
    pub(crate) missed: u64,
    /// Whether it has been given something that it has not yet gone behind.
    pub(crate) is_reading: bool,
    /// Written to when something comes, if it is to be.
    pub(crate) signal: Option<UnixStream>,
    pub(crate) is_armed: bool,
}

impl State {
    pub(super) fn new(ring: Option<Ring>) -> Self {
        Self {
            next: 0,
            fresh: Vec::new(),
            fresh_strangers: 0,
            segments: Segments::new(ring),
            strangers: 0,
            dropped: 0,
            shed: 0,
            shed_told: 0,
            cursors: Slab::new(),
            is_spilling: false,
            has_ended: false,
        }
    }

    /// Adds a consumer, at the oldest record that there is. Returns its key.
    pub(super) fn subscribe(&mut self, reader: Reader) -> usize {
        let at = self.first();
        self.cursors.insert(Cursor {
            at,
            reader,
            missed: 0,
            is_reading: false,
            signal: None,
            is_armed: false,
        })
    }

    /// How far the consumer with this key has come; a consumer that is gone has all.
    pub(crate) fn position(&self, key: usize) -> u64 {
        self.cursors.get(key).map_or(self.next, |cursor| cursor.at)
    }

    /// Gives `record` the next sequence number, and puts it in.
    pub(super) fn push(&mut self, record: &mut Option<Record>, is_of_stranger: bool) {
        let Some(mut record) = record.take() else { return };
        record.sequence = self.next;
        self.next += 1;
        // Counted here, where it is known: who seals holds the lock.
        self.fresh_strangers += usize::from(is_of_stranger);
        self.strangers += usize::from(is_of_stranger);
        self.fresh.push(record);
        if self.fresh.len() >= SEGMENT {
            self.seal();
        }
    }

    /// Whether there are records that were not kept, and that no gap record has counted yet.
    pub(super) fn has_gap(&self) -> bool {
        self.dropped > 0 || self.shed > self.shed_told
    }

    pub(super) fn in_memory(&self) -> usize {
        self.segments.in_memory + self.fresh.len()
    }

    pub(super) fn seal(&mut self) {
        if !self.fresh.is_empty() {
            let first = self.next - self.fresh.len() as u64;
            // The next one is likely to have as many, and what grows step by step is copied.
            let next = Vec::with_capacity(self.fresh.len());
            let records = std::mem::replace(&mut self.fresh, next);
            self.segments.push(first, records, std::mem::take(&mut self.fresh_strangers));
        }
    }

    /// The first sequence number that is still held.
    pub(crate) fn first(&self) -> u64 {
        self.segments.first().unwrap_or(self.next - self.fresh.len() as u64)
    }
}
