//! When to try again.

use std::time::Duration;

/// The first pause, and the longest: an outage should be over for the records soon after it is.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);

/// The longest pause that a collector may ask for.
pub(super) const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// Pauses that double, each made shorter by chance, so that many who lost the same collector do
/// not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause: between half of it and all.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        // Without chance the whole is as good.
        let chance = getrandom::u32().map_or(1.0, |n| f64::from(n) / f64::from(u32::MAX));
        whole.mul_f64(f64::midpoint(1.0, chance))
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::new();
        let mut whole = FIRST;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        assert_eq!(whole, LONGEST);
    }
}
