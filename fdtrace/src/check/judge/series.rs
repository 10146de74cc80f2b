//! How many handles of one kind of call were alive at once, over time.

/// Changes that are remembered one by one.
const MOST_CHANGES: usize = 1024;
/// Record highs that are remembered after that.
const MOST_HIGHS: usize = 1024;

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    live: u64,
    /// Each change, while there are few: when (ns), and whether up.
    changes: Vec<(u64, bool)>,
    /// When there are more: the moments at which the number was higher than ever before, and how high.
    highs: Vec<(u64, u64)>,
}

impl Series {
    /// The number now.
    pub(crate) const fn live(&self) -> u64 {
        self.live
    }

    /// When it first changed, ns.
    pub(crate) fn begin(&self) -> Option<u64> {
        self.changes.first().map(|(time, _)| *time).or_else(|| self.highs.first().map(|(time, _)| *time))
    }

    pub(crate) fn rise(&mut self, time: u64) {
        self.live += 1;
        self.note(time, true);
    }

    pub(crate) fn fall(&mut self, time: u64) {
        self.live = self.live.saturating_sub(1);
        self.note(time, false);
    }

    fn note(&mut self, time: u64, up: bool) {
        if self.highs.is_empty() {
            self.changes.push((time, up));
            if self.changes.len() == MOST_CHANGES {
                self.highs = highs(&self.changes);
                self.changes = Vec::new();
            }
        } else if up && self.highs.last().is_none_or(|(_, high)| self.live > *high) {
            if self.highs.len() == MOST_HIGHS {
                let mut index = 0;
                self.highs.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
            }
            self.highs.push((time, self.live));
        }
    }

    /// The highest up to a moment, where only highs are remembered.
    fn high_at(&self, time: u64) -> u64 {
        let after = self.highs.partition_point(|(when, _)| *when <= time);
        after.checked_sub(1).map_or(0, |index| self.highs[index].1)
    }
}

fn highs(changes: &[(u64, bool)]) -> Vec<(u64, u64)> {
    let (mut live, mut highest) = (0_u64, 0);
    let mut highs = Vec::new();
    for (time, up) in changes {
        live = if *up { live + 1 } else { live.saturating_sub(1) };
        if live > highest {
            highest = live;
            highs.push((*time, live));
        }
    }
    highs
}

/// The highest sum of several numbers up to a moment: exact for those whose changes are all remembered, and for the others
/// their own highest.
pub(crate) fn highest<'a>(all: impl Iterator<Item = &'a Series>, until: u64) -> u64 {
    let mut changes = Vec::new();
    let mut sum = 0;
    for series in all {
        sum += series.high_at(until);
        changes.extend(series.changes.iter().filter(|(time, _)| *time <= until));
    }
    // What ends and what begins at one moment did not live together.
    changes.sort_unstable();
    sum + highs(&changes).last().map_or(0, |(_, high)| *high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(changes: &[(u64, bool)]) -> Series {
        let mut series = Series::default();
        for (time, up) in changes {
            if *up { series.rise(*time) } else { series.fall(*time) }
        }
        series
    }

    #[test]
    fn the_highest_up_to_a_moment() {
        let pool = series(&[(1, true), (2, true), (3, false), (4, true), (5, true), (9, true)]);
        assert_eq!(pool.live(), 4);
        assert_eq!(highest([&pool].into_iter(), 4), 2);
        assert_eq!(highest([&pool].into_iter(), 9), 4);
        assert_eq!(highest([&pool].into_iter(), 0), 0);
    }

    #[test]
    fn one_after_the_other_is_one_at_once() {
        let many: Vec<Series> = (0..50).map(|n| series(&[(n * 2, true), (n * 2 + 2, false)])).collect();
        assert_eq!(highest(many.iter(), 1000), 1);
    }

    #[test]
    fn a_long_life_is_remembered_by_its_highs() {
        let mut long = Series::default();
        (0..100_000).for_each(|time| long.rise(time));
        assert!(long.changes.is_empty() && long.highs.len() <= MOST_HIGHS);
        let half = highest([&long].into_iter(), 50_000);
        assert!((45_000..=50_001).contains(&half), "{half}");
        assert_eq!(long.live(), 100_000);
    }

    #[test]
    fn a_storm_has_few_highs() {
        let mut storm = Series::default();
        for time in 0..50_000 {
            storm.rise(time);
            storm.fall(time);
        }
        storm.rise(50_001);
        assert_eq!(highest([&storm].into_iter(), 60_000), 1);
    }
}
