//! Taking all records that are there, once something has been made of them.

use std::ops::Deref;

use super::{Batch, Consumer};

/// All records that were there at one time, as they lie in the log.
#[derive(Debug)]
pub struct Peeked {
    batches: Vec<Batch>,
    /// The sequence number of the first of them, be it that this one was missed.
    begin: u64,
}

impl Consumer {
    /// All records that are there now; what comes meanwhile is for the next time. They stay in the
    /// log until [`Consumer::commit_all`]; who does not come to that says so by [`Consumer::leave`].
    pub fn peek_all(&self) -> Peeked {
        let (begin, until) = self.span();
        let (mut batches, mut at) = (Vec::<Batch>::new(), begin);
        while at < until
            && let Some(batch) =
                batches.last().map_or_else(|| self.peek(), |last| self.peek_behind(last))
        {
            at = batch.end;
            batches.push(batch);
        }
        Peeked { batches, begin }
    }

    /// Goes on behind what was peeked at, which the log may then let go of; or stays where it is, and
    /// returns false, if it is no longer where that begins.
    pub fn commit_all(&mut self, peeked: &Peeked) -> bool {
        let Some(end) = peeked.batches.last().map(|last| last.end) else { return true };
        let mut is_taken = false;
        self.shared.advance(|state| {
            if let Some(cursor) = state.cursors.get_mut(self.key)
                && cursor.at - cursor.missed == peeked.begin
                // Else it had to give way, and would go back.
                && cursor.at <= end
            {
                cursor.go_to(end);
                is_taken = true;
            }
        });
        is_taken
    }

    /// Has not taken what it was given.
    pub fn leave(&self) {
        if let Some(cursor) = self.shared.lock().cursors.get_mut(self.key) {
            cursor.is_reading = false;
        }
    }
}

impl Deref for Peeked {
    type Target = [Batch];

    fn deref(&self) -> &[Batch] {
        &self.batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bounds, Log, Mode, Outcome, Overflow, Reader, Recorder, Session};

    #[test]
    fn what_was_peeked_at_is_taken_once_and_only_by_the_first_who_says_so() {
        let bounds = Bounds { records: 100, disk: 0, overflow: Overflow::Refuse };
        let (sender, log) = Log::open(Session(7), bounds, Vec::new()).unwrap();
        let mut consumer = log.subscribe(Reader::giving_way("test"));
        let fill = || {
            for _ in 0..10 {
                let permit = sender.try_reserve().unwrap();
                let recorder = Recorder::open(permit, Mode::Reverse, "127.0.0.1:9".into());
                recorder.finish(Outcome::Complete);
            }
        };
        let sequences = |peeked: &Peeked| -> Vec<u64> {
            peeked.iter().flat_map(|batch| batch.iter()).map(|record| record.sequence).collect()
        };
        fill();
        let left = consumer.peek_all();
        consumer.leave();
        let (first, second) = (consumer.peek_all(), consumer.peek_all());
        assert_eq!(sequences(&left), (0..10).collect::<Vec<_>>());
        assert_eq!(sequences(&first), sequences(&second));
        fill();
        assert!(consumer.commit_all(&first));
        assert!(!consumer.commit_all(&second));
        let behind = consumer.peek_all();
        assert_eq!(sequences(&behind), (10..20).collect::<Vec<_>>());
        assert!(consumer.commit_all(&behind) && !consumer.commit_all(&behind));
        assert!(consumer.peek_all().is_empty() && consumer.lag() == 0);
    }
}
