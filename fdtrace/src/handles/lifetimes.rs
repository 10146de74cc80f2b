//! How old handles became, and how old those are that live.

/// Released handles are distinguished by the power of two of their age: so many powers.
const POWERS: usize = 32;

/// Ages below `2^20` ns, a millisecond, are all alike.
pub const SHORTEST_POWER: u32 = 20;

/// How old handles were when they were released. Each count stops at what four bytes hold: by then shares are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deaths([u32; POWERS]);

impl Deaths {
    /// One handle was released at this age, in ns.
    pub fn add(&mut self, age_ns: u64) {
        // The power of two below the age; what is younger than all that are distinguished comes first.
        let power = (age_ns >> SHORTEST_POWER).checked_ilog2().map_or(0, |power| power as usize + 1);
        let count = &mut self.0[power.min(POWERS - 1)];
        *count = count.saturating_add(1);
    }

    /// So many were released at ages of which only that is known, that they were short.
    pub fn add_short(&mut self, handles: u64) {
        self.0[0] = self.0[0].saturating_add(u32::try_from(handles).unwrap_or(u32::MAX));
    }

    /// Adds others to these.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// The counts, youngest first; `None` for those below all powers that are distinguished, `Some(power)` for ages from
    /// `2^power` ns up to twice that.
    pub fn by_power(&self) -> impl DoubleEndedIterator<Item = (Option<u32>, u64)> {
        self.0.iter().enumerate().map(|(index, count)| {
            let above = u32::try_from(index).unwrap_or(0).checked_sub(1);
            (above.map(|above| SHORTEST_POWER + above), u64::from(*count))
        })
    }
}

/// How many slices of time the births of living handles are distinguished by.
pub const SLICES: usize = 64;

/// When the handles were made that live, in slices of time as long as a power of two of nanoseconds; as short as the
/// oldest of them allows. Slices begin at multiples of their length, so that those of different lengths can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Births {
    now: u64,
    power: u32,
    /// The slice in which it is now comes first.
    slices: [u32; SLICES],
}

impl Births {
    /// None so far, at this moment.
    #[must_use]
    pub const fn at(now: u64) -> Self {
        Self { now, power: SHORTEST_POWER, slices: [0; SLICES] }
    }

    /// A handle lives that was made then.
    pub fn add(&mut self, birth: u64) {
        while self.slice(birth) >= SLICES {
            self.coarsen();
        }
        let index = self.slice(birth);
        self.slices[index] = self.slices[index].saturating_add(1);
    }

    fn slice(&self, birth: u64) -> usize {
        // What was made after this moment is as young as can be.
        let slices = (self.now >> self.power).saturating_sub(birth >> self.power);
        usize::try_from(slices).unwrap_or(usize::MAX)
    }

    /// Slices of twice the length.
    fn coarsen(&mut self) {
        let current = self.now >> self.power;
        let mut slices = [0_u32; SLICES];
        for (index, count) in self.slices.iter().enumerate() {
            // Behind the first slice of time there is nothing.
            let Some(slice) = current.checked_sub(index as u64) else { break };
            let index = usize::try_from((current >> 1) - (slice >> 1)).unwrap_or(0);
            slices[index] = slices[index].saturating_add(*count);
        }
        self.slices = slices;
        self.power += 1;
    }

    /// Adds others of the same moment to these.
    pub fn merge(&mut self, mut other: Self) {
        while self.power < other.power {
            self.coarsen();
        }
        while other.power < self.power {
            other.coarsen();
        }
        for (sum, more) in self.slices.iter_mut().zip(other.slices) {
            *sum = sum.saturating_add(more);
        }
    }

    /// The length of a slice is this power of two of nanoseconds.
    #[must_use]
    pub const fn power(&self) -> u32 {
        self.power
    }

    /// How many handles live that were made in each slice, the latest first. Those of slice `n` are older than `n - 1`
    /// slices and younger than `n + 1`.
    #[must_use]
    pub const fn slices(&self) -> &[u32; SLICES] {
        &self.slices
    }

    /// How many handles live.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.slices.iter().map(|count| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(deaths: &Deaths) -> Vec<(Option<u32>, u64)> {
        deaths.by_power().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn ages_at_release_by_power_of_two() {
        let mut deaths = Deaths::default();
        for age in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) - 1, 1 << 21, 1 << 30, u64::MAX] {
            deaths.add(age);
        }
        deaths.add_short(4);
        assert_eq!(counted(&deaths), [(None, 7), (Some(20), 2), (Some(21), 1), (Some(30), 1), (Some(50), 1)]);
        let mut sum = deaths;
        sum.merge(&deaths);
        assert_eq!((deaths.total(), sum.total()), (12, 24));
    }

    #[test]
    fn slices_are_as_short_as_the_oldest_allows() {
        let now = 10 << 30;
        let mut births = Births::at(now);
        births.add(now);
        births.add(now + 5);
        assert_eq!((births.power(), births.slices()[0]), (20, 2));
        births.add(0);
        assert_eq!(births.power(), 28, "ten seconds in slices of a quarter");
        assert_eq!((births.slices()[0], births.slices()[40], births.total()), (2, 1, 3));
    }

    #[test]
    fn sums_do_not_depend_on_the_order() {
        let now = 123_456_789_012;
        let times: Vec<u64> = (0..500_u64).map(|n| n * n * n * 900 + 77).collect();
        let born = |times: &[u64]| {
            let mut births = Births::at(now);
            times.iter().for_each(|time| births.add(*time));
            births
        };
        let (early, late) = times.split_at(250);
        let mut sum = born(late);
        sum.merge(born(early));
        assert_eq!(sum, born(&times));
        let mut sum = born(early);
        sum.merge(born(late));
        assert_eq!(sum, born(&times));
        let backwards: Vec<u64> = times.iter().rev().copied().collect();
        assert_eq!(sum, born(&backwards));
    }
}
