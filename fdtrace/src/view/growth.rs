//! How a number of live handles develops from look to look.

use std::collections::VecDeque;

use crate::report::Verdict;

/// How many looks are remembered.
const MEMORY: usize = 12;

/// The last looks at one number.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    looks: VecDeque<(u64, u64)>,
}

impl History {
    /// One more look: when (ns), and how many.
    pub(super) fn push(&mut self, now: u64, live: u64) {
        if self.looks.len() == MEMORY {
            self.looks.pop_front();
        }
        self.looks.push_back((now, live));
    }

    /// The change since the look before.
    pub(super) fn change(&self) -> i64 {
        let before = self.looks.iter().rev().nth(1).map_or(0, |(_, live)| *live);
        let now = self.looks.back().map_or(0, |(_, live)| *live);
        now.cast_signed().wrapping_sub(before.cast_signed())
    }

    /// How many more a second, over all looks that are remembered; 0 when there is but one.
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    pub(super) fn per_second(&self) -> f64 {
        let (Some((since, before)), Some((now, live))) = (self.looks.front(), self.looks.back()) else {
            return 0.0;
        };
        if now <= since { 0.0 } else { (*live as f64 - *before as f64) * 1e9 / (now - since) as f64 }
    }

    /// Growing: it rose at least twice, fell at most once for every four rises, and is higher than it was in the first
    /// half. Burst: it rose once and stays. Steady: it is no higher than it was in the first half.
    pub(super) fn verdict(&self, allocated: u64) -> Verdict {
        if allocated == 1 {
            return Verdict::Single;
        }
        if self.looks.len() < 3 {
            return Verdict::Unknown;
        }
        let live: Vec<u64> = self.looks.iter().map(|(_, live)| *live).collect();
        let rises = live.windows(2).filter(|pair| pair[1] > pair[0]).count();
        let falls = live.windows(2).filter(|pair| pair[1] < pair[0]).count();
        let first_half = live[..live.len().div_ceil(2)].iter().max().copied().unwrap_or(0);
        let last = live[live.len() - 1];
        if rises >= 2 && falls * 4 <= rises && last > first_half {
            Verdict::Growing
        } else if falls == 0 && rises <= 1 {
            Verdict::Burst
        } else if last <= first_half {
            Verdict::Steady
        } else {
            Verdict::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(live: &[u64]) -> History {
        let mut history = History::default();
        for (second, live) in (1..).zip(live) {
            history.push(second * 1_000_000_000, *live);
        }
        history
    }

    #[test]
    fn verdicts() {
        assert_eq!(history(&[10, 20, 30]).verdict(30), Verdict::Growing);
        assert_eq!(history(&[10, 10, 20, 20, 30, 30]).verdict(30), Verdict::Growing);
        assert_eq!(history(&[10, 12, 9, 11, 10, 12]).verdict(500), Verdict::Steady);
        assert_eq!(history(&[50, 50, 50]).verdict(50), Verdict::Burst);
        assert_eq!(history(&[1, 1, 1]).verdict(1), Verdict::Single);
        assert_eq!(history(&[10, 20]).verdict(20), Verdict::Unknown);
    }

    #[test]
    fn change_and_rate() {
        let grown = history(&[10, 20, 40]);
        assert_eq!(grown.change(), 20);
        assert!((grown.per_second() - 15.0).abs() < 1e-9);
        assert_eq!(history(&[7]).change(), 7, "what is new since tracing began");
        assert!(history(&[7]).per_second().abs() < 1e-9);
        assert_eq!(history(&[9, 2]).change(), -7);
    }

    #[test]
    fn forgets_what_is_long_ago() {
        let long: Vec<u64> = (0..100).collect();
        assert_eq!(history(&long).looks.len(), MEMORY);
    }
}
