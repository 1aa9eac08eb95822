//! Taking records as JSON Lines, in pieces.

use std::thread;

use super::Consumer;
use crate::segment::{Held, Place};
use crate::texts::Texts;

/// Lines are handed on when they have so many bytes: most drains are one piece, of which no second
/// copy is made. Fewer where there is no memory for that.
const PIECE: usize = 4 << 20;
const SMALL_PIECE: usize = 512 << 10;

/// So much room for lines is kept from one drain to the next: a piece may be larger by all lines of
/// a segment.
const ROOM: usize = 8 << 20;

impl Consumer {
    /// Hands all records that are there to `take` as JSON Lines, in pieces that end with a line; with
    /// how many bytes all pieces are likely to have together.
    ///
    /// # Errors
    /// What `take` returns. Then no record counts as taken.
    pub fn drain_lines<E>(
        &mut self,
        mut take: impl FnMut(&[u8], usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.hand_lines(usize::MAX, &mut take)?;
        // A gap may have been waiting for the place that this makes; or it waits for the next time.
        // One piece, since of several those before one that is not taken would come again.
        let _ = self.hand_lines(1, &mut take);
        Ok(())
    }

    /// Hands on at most so many pieces: all of them, or none counts as taken.
    fn hand_lines<E>(
        &mut self,
        most: usize,
        take: &mut impl FnMut(&[u8], usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lines = Texts::new(std::mem::take(&mut self.lines));
        let (begin, until) = self.span();
        let (mut at, mut behind, mut taken, mut pieces) = (begin, None, None, 0);
        let mut whole = 0;
        let mut piece = PIECE;
        while at < until
            && pieces < most
            && let Some((part, end)) = self.read(behind, Place::read, Held::Records)
        {
            match part {
                Held::Records(records) => lines.put_lines(&records),
                Held::Lines(held) => lines.bytes.extend_from_slice(&held),
            }
            if behind.is_none() && !lines.reserve_for(end - at, until.saturating_sub(end), PIECE) {
                piece = SMALL_PIECE;
            }
            (at, behind) = (end, Some(end));
            if lines.bytes.len() >= piece || at >= until {
                if pieces == 0 {
                    whole = lines.expected_for(at - begin, until.saturating_sub(begin));
                }
                take(&lines.bytes, whole).inspect_err(|_| self.leave())?;
                lines.bytes.clear();
                (taken, pieces) = (behind, pieces + 1);
            }
            // Exchanges that wait for the processor wait for some records, not for all of them.
            thread::yield_now();
        }
        self.keep(lines.bytes);
        match taken {
            Some(end) => self.go_to(end),
            None => self.leave(),
        }
        Ok(())
    }

    /// Keeps the room for lines for the next time, unless it is much. What is larger than all before
    /// is given back, once: glibc asks the system anew for each piece of memory that is larger than
    /// any that was freed, also for the copies that are made of these lines.
    fn keep(&mut self, mut room: Vec<u8>) {
        let size = room.capacity();
        if size > self.freed {
            self.freed = size;
        } else if size <= ROOM {
            room.clear();
            self.lines = room;
        }
    }
}
