//! How old handles of one kind of call became: an age is how many others were made since. Time would not do, for a program may
//! sleep, or do something else for most of its life.

/// By power of two.
const CLASSES: usize = 64;

/// Ages at release.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ages(Option<Box<[u32; CLASSES]>>);

impl Ages {
    pub(crate) fn add(&mut self, age: u64) {
        let classes = self.0.get_or_insert_with(|| Box::new([0; CLASSES]));
        let class = (u64::BITS - age.leading_zeros()).min(63) as usize;
        classes[class] = classes[class].saturating_add(1);
    }
}

/// The age that so many of a hundred did not reach; 0 when there are none. It is the end of its class, so up to twice
/// as much as it was.
pub(crate) fn percentile<'a>(all: impl Iterator<Item = &'a Ages>, percent: u64) -> u64 {
    percentile_of_shares(all.map(|ages| (ages, 1)), percent)
}

/// The same, where each is counted in calls of its own, which are but one in so many of all.
pub(crate) fn percentile_of_shares<'a>(all: impl Iterator<Item = (&'a Ages, u64)>, percent: u64) -> u64 {
    let mut sums = [0_u64; CLASSES];
    for (ages, one_in) in all {
        let shift = one_in.next_power_of_two().trailing_zeros() as usize;
        for (class, count) in ages.0.iter().flat_map(|classes| classes.iter().enumerate()) {
            // No time at all is none, whatever the clock.
            let class = if class == 0 { 0 } else { (class + shift).min(CLASSES - 1) };
            sums[class] += u64::from(*count);
        }
    }
    let wanted = (sums.iter().sum::<u64>() * percent).div_ceil(100);
    let mut seen = 0;
    for (class, count) in sums.iter().enumerate() {
        seen += count;
        if wanted > 0 && seen >= wanted {
            return 1 << class;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_over_several() {
        let (mut short, mut long) = (Ages::default(), Ages::default());
        (0..90).for_each(|_| short.add(1000));
        (0..10).for_each(|_| long.add(1_000_000));
        assert_eq!(percentile([&short, &long].into_iter(), 90), 1024);
        assert_eq!(percentile([&short, &long].into_iter(), 91), 1 << 20);
        assert_eq!(percentile(std::iter::empty(), 90), 0);
        assert_eq!(percentile_of_shares([(&short, 4), (&Ages::default(), 1)].into_iter(), 90), 4096);
    }
}
