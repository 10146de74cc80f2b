//! How many handles of one kind of call were alive at once, while more and more were made.

use std::collections::VecDeque;

/// Changes that are remembered one by one.
const MAX_CHANGES: usize = 1024;
/// Record highs that are remembered after that.
const MAX_HIGHS: usize = 1024;
/// Moments that are remembered then, each with how many had been made.
const MAX_MOMENTS: usize = 256;
/// The last moments, of which each is remembered: what a cache holds at its end was made a few calls before.
const MAX_LATEST: usize = 256;

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    live: u64,
    made: u64,
    /// Each change, while there are few: when (ns), and whether up.
    changes: Vec<(u64, bool)>,
    /// When there are more: how many had been made when the number was higher than ever before, and how high it was.
    highs: Vec<(u64, u64)>,
    /// Only so much higher is worth remembering.
    step: u64,
    /// When so many had been made, evenly over all that were.
    moments: Vec<(u64, u64)>,
    /// So many are made between two of them.
    apart: u64,
    /// When the last ones were made.
    latest: VecDeque<u64>,
}

impl Series {
    /// The number now.
    pub(crate) const fn live(&self) -> u64 {
        self.live
    }

    pub(crate) fn rise(&mut self, time: u64) {
        self.live += 1;
        self.made += 1;
        self.note(time, true);
    }

    pub(crate) fn fall(&mut self, time: u64) {
        self.live = self.live.saturating_sub(1);
        self.note(time, false);
    }

    fn note(&mut self, time: u64, up: bool) {
        if self.step == 0 {
            self.changes.push((time, up));
            if self.changes.len() == MAX_CHANGES {
                self.highs = highs(&self.changes);
                let rises = self.changes.iter().filter(|(_, up)| *up);
                self.moments = rises.zip(1..).map(|((time, _), made)| (*time, made)).collect();
                let last = self.moments.len().saturating_sub(MAX_LATEST);
                self.latest = self.moments[last..].iter().map(|(time, _)| *time).collect();
                (self.changes, self.step, self.apart) = (Vec::new(), 1, 1);
            }
            return;
        }
        if up {
            if self.latest.len() == MAX_LATEST {
                self.latest.pop_front();
            }
            self.latest.push_back(time);
        }
        if up && self.made >= self.moments.last().map_or(0, |(_, made)| made + self.apart) {
            self.moments.push((time, self.made));
        }
        while self.moments.len() > MAX_MOMENTS {
            thin_out(&mut self.moments);
            self.apart *= 2;
        }
        if up && self.highs.last().is_none_or(|(_, high)| self.live >= high + self.step) {
            if self.highs.len() == MAX_HIGHS {
                thin_out(&mut self.highs);
                self.step *= 2;
            }
            self.highs.push((self.made, self.live));
        }
    }

    /// How many were made after a moment (ns); of many, exact to a hundredth of them, and exact if those were few.
    pub(crate) fn made_after(&self, time: u64) -> u64 {
        if self.step == 0 {
            return self.changes.iter().filter(|(at, up)| *up && *at > time).count() as u64;
        }
        if self.latest.front().is_some_and(|first| *first <= time) {
            return self.latest.iter().filter(|at| **at > time).count() as u64;
        }
        let before = self.moments.partition_point(|(at, _)| *at <= time);
        self.made - before.checked_sub(1).map_or(0, |index| self.moments[index].1)
    }

    /// The highest up to a share of all that were made, in hundredths, where only highs are remembered.
    fn high_at(&self, percent: u64) -> u64 {
        let after = self.highs.partition_point(|(made, _)| made * 100 <= self.made * percent);
        after.checked_sub(1).map_or(0, |index| self.highs[index].1)
    }
}

/// Keeps every second one.
fn thin_out<T>(all: &mut Vec<T>) {
    let mut index = 0;
    all.retain(|_| {
        index += 1;
        index % 2 == 0
    });
}

/// How many had been made at each record high, and how high it was.
fn highs(changes: &[(u64, bool)]) -> Vec<(u64, u64)> {
    let (mut live, mut made, mut highest) = (0_u64, 0, 0);
    let mut highs = Vec::new();
    for (_, up) in changes {
        made += u64::from(*up);
        live = if *up { live + 1 } else { live.saturating_sub(1) };
        if live > highest {
            highest = live;
            highs.push((made, live));
        }
    }
    highs
}

/// The highest sum of several numbers while the first so many hundredths of all were made: exact for those whose changes are
/// all remembered; for the others each one's own highest. By how many were made, and not by time: a program may sleep, or
/// do something else for most of its life.
pub(crate) fn highest<'a>(all: impl Iterator<Item = &'a Series>, percent: u64) -> u64 {
    let mut changes = Vec::new();
    let mut sum = 0;
    for series in all {
        sum += series.high_at(percent);
        changes.extend_from_slice(&series.changes);
    }
    // What ends and what begins at one moment did not live together.
    changes.sort_unstable();
    let made = changes.iter().filter(|(_, up)| *up).count() as u64;
    let mut within = highs(&changes).into_iter().filter(|(at, _)| at * 100 <= made * percent);
    sum + within.next_back().map_or(0, |(_, high)| high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_were_made_after_one_of_the_last_is_exact() {
        let mut series = Series::default();
        for made in 1..=8000 {
            series.rise(made * 10);
            series.fall(made * 10 + 5);
            if made > 1000 {
                assert_eq!(series.made_after((made - 7) * 10), 7, "of {made}");
            }
        }
        assert!(series.made_after(40_000).abs_diff(4000) <= 80);
    }

    fn series(changes: &[(u64, bool)]) -> Series {
        let mut series = Series::default();
        for (time, up) in changes {
            if *up { series.rise(*time) } else { series.fall(*time) }
        }
        series
    }

    #[test]
    fn the_highest_among_the_first() {
        let pool = series(&[(1, true), (2, true), (3, false), (4, true), (5, true), (9, true)]);
        assert_eq!(pool.live(), 4);
        assert_eq!(highest([&pool].into_iter(), 60), 2);
        assert_eq!(highest([&pool].into_iter(), 100), 4);
        assert_eq!(highest([&pool].into_iter(), 0), 0);
    }

    #[test]
    fn one_after_the_other_is_one_at_once() {
        let many: Vec<Series> = (0..50).map(|n| series(&[(n * 2, true), (n * 2 + 2, false)])).collect();
        assert_eq!(highest(many.iter(), 100), 1);
    }

    #[test]
    fn a_long_life_is_remembered_by_its_highs() {
        let mut long = Series::default();
        (0..100_000).for_each(|time| long.rise(time));
        assert!(long.changes.is_empty() && long.highs.len() <= MAX_HIGHS);
        let half = highest([&long].into_iter(), 50);
        assert!((49_000..=50_000).contains(&half), "{half}");
        assert_eq!(long.live(), 100_000);
    }

    #[test]
    fn what_was_made_after_a_moment() {
        let few = series(&[(1, true), (2, false), (3, true), (5, true)]);
        assert_eq!([0, 1, 4, 5].map(|time| few.made_after(time)), [3, 2, 1, 0]);
        let mut many = Series::default();
        (1..=100_000).for_each(|time| many.rise(time));
        for time in [0, 1, 500, 50_000, 99_999, 100_000] {
            let exact = 100_000 - time;
            assert!((exact..=exact + 1_000).contains(&many.made_after(time)), "{time}");
        }
        assert!(many.moments.len() <= MAX_MOMENTS);
    }

    #[test]
    fn a_storm_has_few_highs() {
        let mut storm = Series::default();
        for time in 0..50_000 {
            storm.rise(time);
            storm.fall(time);
        }
        storm.rise(50_001);
        assert_eq!(highest([&storm].into_iter(), 100), 1);
    }
}
