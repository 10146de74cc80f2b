//! The verdict by lifetimes: whether handles of a site stay for good, and whether more and more of them do.
//!
//! docs/growth.md says the rule in words, and how often it is wrong.

use crate::{
    handles::{Births, Deaths, GroupLives, SLICES},
    model::Trend,
};

/// So many handles have to be overdue before they are called growing: fewer are chance.
const FEWEST: f64 = 8.0;

/// Of overdue handles, this many for each that lives may have been released after all.
const MAX_RETURNED: f64 = 0.25;

/// When fewer than this were, nothing more is asked about them.
const HARDLY_ANY_RETURNED: f64 = 0.02;

/// Otherwise an overdue handle must be so many times less likely to be released in the next moment than a younger one.
const SAFER: f64 = 8.0;

/// Lifetimes without a scale: of those that reach an age, the share `1 - 2^-TAIL` is released before twice that age. A
/// tail that falls as fast, or faster, is one of handles that come back.
const TAIL: f64 = 0.7;

/// How sure it has to be that the tail falls more slowly: the logarithm of one in 150.
const SURE: f64 = 5.0;

/// Handles count as overdue at an age which is at most this part of the time, 3 of 5.
const SHARE_OF_TIME: (usize, usize) = (3, 5);

/// Of overdue handles, this share must have been made in the later half of the time that is looked at; and of a burst,
/// no more than the other in the last third.
const LATE_SHARE: f64 = 0.2;
const STRAY_SHARE: f64 = 0.1;

/// The time that is looked at is cut into so many parts, and handles must have been made in so many of them.
const PARTS: usize = 8;
const PARTS_WITH_BIRTHS: usize = 3;

/// How old the handles of one site became, and how old those are that live.
#[derive(Clone, Debug)]
pub(super) struct Ages {
    /// Handles made.
    pub(super) allocated: u64,
    /// The image runs no longer.
    pub(super) ended: bool,
    pub(super) deaths: Deaths,
    pub(super) births: Births,
}

/// What the ages come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evaluation {
    pub(super) verdict: Trend,
    /// Handles that are older than those became that were released.
    pub(super) overdue: u64,
}

/// What is seen of ages above one that is asked about, and below it.
struct Tail {
    /// Slices of that age.
    age: usize,
    /// Handles that live and are older.
    overdue: f64,
    /// Handles that were released and were older.
    returned: f64,
    /// The doublings of that age which all of those have seen.
    doublings: f64,
    /// Releases for the time that handles have spent above that age.
    risk_above: f64,
    /// And below it.
    risk_below: f64,
}

impl Ages {
    /// None yet.
    pub(super) fn at(now: u64) -> Self {
        Self { allocated: 0, ended: false, deaths: Deaths::default(), births: Births::at(now) }
    }

    /// Adds those of a group.
    pub(super) fn add(&mut self, group: &GroupLives) {
        self.allocated += group.allocated;
        self.ended = group.ended;
        self.deaths.merge(&group.deaths);
        self.births.merge(group.births);
    }

    /// Adds handles that are gone, with the groups that made them.
    pub(super) fn add_closed(&mut self, deaths: &Deaths) {
        self.allocated += deaths.total();
        self.deaths.merge(deaths);
    }

    /// Growing: what is overdue stays, and more of it was made in every part of the time. Burst: nearly all stays, and
    /// was made long ago. Steady: what was made is released.
    pub(super) fn evaluate(&self) -> Evaluation {
        let slices = self.births.slices();
        let oldest = slices.iter().rposition(|count| *count > 0).unwrap_or(0);
        let tails = (0..)
            .map(|doubling| 1_usize << doubling)
            .take_while(|age| age * SHARE_OF_TIME.1 <= oldest * SHARE_OF_TIME.0);
        let stays = tails.map(|age| self.tail(age)).find(Tail::stays);
        let overdue = stays.as_ref().map_or(0, |tail| sum(&slices[tail.age + 1..]));
        let released = self.deaths.total();
        let verdict = match &stays {
            _ if self.allocated == 1 => Trend::Single,
            Some(tail) if tail.overdue >= FEWEST && is_spread(&slices[tail.age + 1..=oldest]) => {
                Trend::Growing
            }
            _ if released >= self.births.total() => Trend::Steady,
            _ if released * 4 <= self.births.total() && is_long_ago(&slices[..=oldest]) => Trend::Burst,
            _ => Trend::Unknown,
        };
        Evaluation { verdict, overdue }
    }

    /// The age in ns below which half of the released handles were, roughly: a power of two.
    pub(super) fn median_ns(&self) -> Option<u64> {
        let half = self.deaths.total().div_ceil(2);
        let mut below = 0;
        let mut counts = self.deaths.by_power().filter(|(_, count)| *count > 0);
        let (power, _) = counts.find(|(_, count)| {
            below += count;
            below >= half
        })?;
        Some(1 << power.map_or(crate::handles::SHORTEST_POWER, |power| power + 1))
    }

    /// What is seen above and below the age of so many slices, a power of two.
    fn tail(&self, age: usize) -> Tail {
        let mut tail =
            Tail { age, overdue: 0.0, returned: 0.0, doublings: 0.0, risk_above: 0.0, risk_below: 0.0 };
        let mut time = (0.0, 0.0);
        let mut early = 0.0;
        let limit = as_number(age);
        for (index, count) in self.births.slices().iter().enumerate() {
            let (count, at) = (f64::from(*count), as_number(index));
            time.0 += count * at.min(limit);
            if index > age {
                tail.overdue += count;
                tail.doublings += count * (at / limit).log2();
                time.1 += count * (at - limit);
            }
        }
        let unit = f64::from(self.births.power());
        for (power, count) in self.deaths.by_power() {
            // The middle of the ages, in doublings of a slice.
            let middle = power.map_or(-10.0, |power| f64::from(power) + 0.5 - unit);
            let (count, at) = (as_number_of(count), middle.exp2());
            time.0 += count * at.min(limit);
            if at > limit {
                tail.returned += count;
                tail.doublings += count * (middle - limit.log2());
                time.1 += count * (at - limit);
            } else {
                early += count;
            }
        }
        tail.risk_above = tail.returned / time.1.max(f64::MIN_POSITIVE);
        tail.risk_below = early / time.0.max(f64::MIN_POSITIVE);
        tail
    }
}

impl Tail {
    /// Whether handles of this age stay for good, as far as can be reported.
    fn stays(&self) -> bool {
        let few = self.returned <= self.overdue * MAX_RETURNED;
        let hardly_any = self.returned <= self.overdue * HARDLY_ANY_RETURNED;
        let safer = self.risk_above * SAFER <= self.risk_below;
        few && (hardly_any || safer) && self.falls_slowly()
    }

    /// Releases above the age, against those of the steepest tail that would still be one of handles that stay; the
    /// probability of so few is at most `exp(-SURE)`, by Chernoff's bound.
    fn falls_slowly(&self) -> bool {
        let expected = self.doublings * TAIL * std::f64::consts::LN_2;
        if self.returned >= expected {
            return false;
        }
        let ratio = if self.returned > 0.0 { self.returned * (self.returned / expected).ln() } else { 0.0 };
        expected - self.returned + ratio >= SURE
    }
}

/// Whether handles were made all the time: in several parts of it, and not least in the later half. The latest come
/// first.
fn is_spread(slices: &[u32]) -> bool {
    let later = |parts: usize| as_number_of(sum(&slices[..slices.len().div_ceil(parts)]));
    let all = as_number_of(sum(slices));
    let parts = (0..PARTS).filter(|part| {
        let (from, to) = (slices.len() * part / PARTS, slices.len() * (part + 1) / PARTS);
        slices[from..to].iter().any(|count| *count > 0)
    });
    later(2) >= all * LATE_SHARE && later(3) >= 1.0 && parts.count() >= PARTS_WITH_BIRTHS
}

/// Whether nearly nothing was made in the last third of the time. The latest come first.
fn is_long_ago(slices: &[u32]) -> bool {
    let late = sum(&slices[..slices.len() / 3]);
    slices.len() > 3 && as_number_of(late) < as_number_of(sum(slices)) * STRAY_SHARE
}

fn sum(slices: &[u32]) -> u64 {
    slices.iter().map(|count| u64::from(*count)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "at most the number of slices")]
fn as_number(slices: usize) -> f64 {
    debug_assert!(slices <= SLICES);
    slices as f64
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn as_number_of(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;
    const MINUTE: u64 = 60_000;

    /// After a minute: so many handles were released at each of these ages, and those live that were made then, in ms.
    fn ages(released: &[(u64, u64)], births: impl Iterator<Item = u64>) -> Ages {
        let mut ages = Ages::at((1000 + MINUTE) * MILLISECOND);
        for (age, count) in released {
            (0..*count).for_each(|_| ages.deaths.add(age * MILLISECOND));
        }
        births.for_each(|birth| ages.births.add((1000 + birth) * MILLISECOND));
        ages.allocated = ages.deaths.total() + ages.births.total();
        ages
    }

    fn verdict(released: &[(u64, u64)], births: impl Iterator<Item = u64>) -> Trend {
        ages(released, births).evaluate().verdict
    }

    /// All the time, one in so many milliseconds.
    fn every(milliseconds: u64) -> impl Iterator<Item = u64> {
        (0..MINUTE).step_by(usize::try_from(milliseconds).unwrap_or(1))
    }

    const SHORT: &[(u64, u64)] = &[(1, 9000), (10, 4000), (100, 500), (300, 20)];

    #[test]
    fn what_stays_and_is_made_all_the_time_grows() {
        assert_eq!(verdict(&[], every(5000)), Trend::Growing);
        assert_eq!(verdict(SHORT, every(3000)), Trend::Growing, "one in a thousand");
        assert_eq!(verdict(SHORT, every(10_000)), Trend::Steady, "too few to be sure");
        let bursts = [5, 25, 45].into_iter().flat_map(|second| (0..10).map(move |n| second * 1000 + n));
        assert_eq!(verdict(SHORT, bursts), Trend::Growing);
    }

    #[test]
    fn what_came_once_and_stays_is_a_burst() {
        assert_eq!(verdict(&[], 0..50), Trend::Burst);
        assert_eq!(verdict(&[], every(1000).take(15)), Trend::Burst, "a pool");
        assert_eq!(verdict(SHORT, 0..50), Trend::Steady, "and the rest is released");
    }

    #[test]
    fn what_lives_long_and_is_released_does_not_grow() {
        // Lifetimes of a quarter of the time on average: of 400 handles 100 live, and most of those are young.
        let gone = [(500, 12), (1500, 24), (3000, 42), (6000, 65), (12_000, 80), (24_000, 60), (40_000, 12)];
        let living =
            (0..60).flat_map(|age| (0..7_u64 >> (age / 10)).map(move |n| MINUTE - age * 1000 - n * 100));
        assert_eq!(verdict(&gone, living), Trend::Steady);
        // Lifetimes of a tenth of the time, and the load has just risen.
        let risen = (MINUTE - 6000..MINUTE).step_by(5).chain((MINUTE - 20_000..MINUTE).step_by(500));
        assert_eq!(verdict(&[(3000, 300), (6000, 200), (12_000, 60)], risen), Trend::Unknown);
    }

    #[test]
    fn a_leak_that_begins_late_is_seen_soon() {
        let late = every(50).filter(|birth| *birth > MINUTE - 5000);
        assert_eq!(verdict(SHORT, late), Trend::Growing);
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(verdict(&[], std::iter::once(3)), Trend::Single);
        assert_eq!(verdict(&[], [0, 50_000].into_iter()), Trend::Unknown);
        assert_eq!(
            ages(&[], std::iter::empty()).evaluate(),
            Evaluation { verdict: Trend::Steady, overdue: 0 }
        );
    }

    #[test]
    fn the_median_and_what_is_overdue() {
        let leak = ages(SHORT, every(3000));
        assert_eq!(leak.median_ns(), Some(1 << 20));
        assert!((15..=20).contains(&leak.evaluate().overdue), "{:?}", leak.evaluate());
        assert_eq!(ages(&[(1000, 3)], every(1)).median_ns(), Some(1 << 30));
        assert_eq!(ages(&[], every(1)).median_ns(), None);
    }

    #[test]
    fn half_released_at_the_age_of_the_oldest_is_no_tail_that_stays() {
        let tail = ages(&[(30_000, 10)], every(2000)).tail(8);
        assert!(!tail.stays() && tail.returned >= 10.0, "{}", tail.returned);
    }
}
