//! The search for a call's number that costs the start of a program least. That is a matter of how
//! many statements there are, all of which the kernel translates, and of how many it follows for
//! all numbers together, each of which it tries.

use super::layout::{Answer, Verdict};

/// Numbers below this one are tried: a little more than newer kernels have calls.
const TRIED: u32 = 480;
/// What a statement costs, measured in statements that are followed.
const STATEMENT: u64 = 60;
/// Single numbers that are compared one after the other.
const MOST_SINGLES: usize = 6;

/// Numbers in a row whose calls have the same verdict.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) verdict: Verdict,
}

impl Span {
    fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// How many of its numbers are tried.
    fn tried(&self) -> u64 {
        u64::from((self.last.saturating_add(1)).min(TRIED).saturating_sub(self.first))
    }
}

/// All numbers in their order, each with its verdict; those that have none are let pass.
pub(super) fn spans(verdicts: &[(u32, Verdict)]) -> Vec<Span> {
    let mut sorted: Vec<_> = verdicts.iter().collect();
    sorted.sort_by_key(|(number, _)| *number);
    let mut spans: Vec<Span> = Vec::new();
    for (number, verdict) in sorted {
        let next = spans.last().map_or(0, |span| span.last + 1);
        if next < *number {
            let verdict = Verdict::Give(Answer::Allow);
            spans.push(Span { first: next, last: number - 1, verdict });
        }
        match spans.last_mut() {
            Some(span) if span.verdict == *verdict => span.last = *number,
            _ => spans.push(Span { first: *number, last: *number, verdict: verdict.clone() }),
        }
    }
    spans
}

/// How a search goes on among some spans in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is one.
    Found,
    /// From this span on it goes on among one part of them, else among the other.
    From(usize),
    /// Those of a single number are compared, and all others have the same verdict.
    Singles,
}

/// Good steps among any spans in a row: the best of those that are tried.
#[derive(Debug)]
pub(super) struct Search {
    spans: Vec<Span>,
    /// The cost and the step from a first to a last span, by both.
    best: Vec<Vec<(u64, Step)>>,
    /// Where that search is best split, if it is. One more span at an end moves that towards it, so
    /// that few places are tried (Knuth, "Optimum binary search trees"; whether none better is left
    /// out was not proved for these costs).
    middles: Vec<Vec<usize>>,
}

impl Search {
    pub(super) fn new(spans: Vec<Span>) -> Self {
        let count = spans.len();
        let middles = (0..count).map(|first| vec![first; count]).collect();
        let mut search = Self { spans, best: vec![vec![(0, Step::Found); count]; count], middles };
        for length in 2..=count {
            for first in 0..=count - length {
                let last = first + length - 1;
                let (cost, middle) = search.split(first, last);
                let singles = search.singles_cost(first, last).filter(|singles| *singles < cost);
                search.best[first][last] =
                    singles.map_or((cost, Step::From(middle)), |cost| (cost, Step::Singles));
                search.middles[first][last] = middle;
            }
        }
        search
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(super) fn step(&self, first: usize, last: usize) -> Step {
        self.best[first][last].1
    }

    /// The cheapest split and its cost, if all shorter searches are known.
    fn split(&self, first: usize, last: usize) -> (u64, usize) {
        let each = STATEMENT + self.tried(first, last);
        let lowest = self.middles[first][last - 1].max(first + 1);
        let highest = self.middles[first + 1][last].max(lowest);
        let cost =
            |middle: usize| each + self.best[first][middle - 1].0 + self.best[middle][last].0;
        let costs = (lowest..=highest).map(|middle| (cost(middle), middle));
        costs.min_by_key(|(cost, _)| *cost).unwrap_or((u64::MAX, first + 1))
    }

    fn tried(&self, first: usize, last: usize) -> u64 {
        self.spans[first..=last].iter().map(Span::tried).sum()
    }

    fn singles_cost(&self, first: usize, last: usize) -> Option<u64> {
        let (singles, _) = self.singles(first, last)?;
        let mut left = self.tried(first, last);
        let mut cost = 0;
        for single in singles {
            cost += STATEMENT + left;
            left -= single.tried();
        }
        Some(cost)
    }

    /// The spans of a single number, and one that is like all others; none if these differ.
    pub(super) fn singles(&self, first: usize, last: usize) -> Option<(Vec<&Span>, &Span)> {
        if last - first > 2 * MOST_SINGLES {
            return None;
        }
        let spans = &self.spans[first..=last];
        let other = spans.iter().find(|span| !span.is_single())?;
        let singles = spans.iter().filter(|span| span.verdict != other.verdict).collect::<Vec<_>>();
        let are_few = singles.len() <= MOST_SINGLES;
        (are_few && singles.iter().all(|span| span.is_single())).then_some((singles, other))
    }
}
