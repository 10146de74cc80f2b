//! How a number of live handles develops from look to look.

/// How many samples are remembered, an even number; older ones are thinned out as more come.
const MEMORY: usize = 24;

/// Looks before which no verdict is given.
const SAMPLES_TO_EVALUATE: u64 = 3;

/// Looks at one number over its whole life, evenly spread, and the last two.
#[derive(Clone, Debug)]
pub(super) struct History {
    samples: Vec<(u64, u64)>,
    /// One in so many samples is remembered.
    stride: u64,
    seen: u64,
    latest: (u64, u64),
    before: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { samples: Vec::new(), stride: 1, seen: 0, latest: (0, 0), before: 0 }
    }
}

impl History {
    /// One more look: when (ns), and how many.
    /// Bytes of memory that one has at most.
    pub(super) const WEIGHT: usize = size_of::<Self>() + 2 * MEMORY * size_of::<(u64, u64)>();

    pub(super) fn push(&mut self, now: u64, live: u64) {
        self.before = self.latest.1;
        self.latest = (now, live);
        if self.seen.is_multiple_of(self.stride) {
            if self.samples.len() == MEMORY {
                self.thin_out();
            }
            self.samples.push(self.latest);
        }
        self.seen += 1;
    }

    fn thin_out(&mut self) {
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            index % 2 == 1
        });
        self.stride *= 2;
    }

    /// The change since the sample before.
    pub(super) fn change(&self) -> i64 {
        self.latest.1.cast_signed().wrapping_sub(self.before.cast_signed())
    }

    /// How many more a second, over all samples that are remembered; 0 when there is but one.
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    pub(super) fn per_second(&self) -> f64 {
        let (now, live) = self.latest;
        match self.samples.first() {
            Some((since, before)) if now > *since => {
                (live as f64 - *before as f64) * 1e9 / (now - since) as f64
            }
            _ => 0.0,
        }
    }

    /// Whether there were looks enough for a verdict.
    pub(super) const fn is_evaluated(&self) -> bool {
        self.seen >= SAMPLES_TO_EVALUATE
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
    fn change_and_rate() {
        let grown = history(&[10, 20, 40]);
        assert_eq!(grown.change(), 20);
        assert!((grown.per_second() - 15.0).abs() < 1e-9);
        assert_eq!(history(&[7]).change(), 7, "what is new since tracing began");
        assert!(history(&[7]).per_second().abs() < 1e-9);
        assert_eq!(history(&[9, 2]).change(), -7);
    }

    #[test]
    fn remembers_all_of_a_long_life_in_little_memory() {
        let long: Vec<u64> = (0..10_000).collect();
        let long = history(&long);
        assert!(long.samples.len() <= MEMORY);
        assert_eq!((long.samples[0].1, long.change()), (0, 1));
        let gaps: Vec<_> = long.samples.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!(gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
        assert!((long.per_second() - 1.0).abs() < 1e-9);
    }
}
