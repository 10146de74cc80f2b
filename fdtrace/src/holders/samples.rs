//! How many handles there are, again and again during the walks.

use std::{thread::sleep, time::Duration};

use super::{Counted, HolderSnapshot, memory::word};
use crate::{
    kernel::{Exactness, HandleCounter, HolderWalk},
    process::around,
};

/// What was read so far.
pub(super) struct Samples<'a> {
    programs: &'a HolderWalk,
    counter: &'a HandleCounter,
    range: Option<Range>,
}

/// The last number, the least, and the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    last: u64,
    min: u64,
    max: u64,
}

impl Range {
    /// As [`Samples::bytes`] has it.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == size_of::<[u64; 3]>()).then(|| Self {
            last: word(bytes, 0),
            min: word(bytes, 8),
            max: word(bytes, 16),
        })
    }

    pub(super) const fn counted(self, exactness: Exactness, limit: u64) -> Counted {
        Counted { last: self.last, min: self.min, max: self.max, exactness, limit }
    }

    fn with(self, other: Self) -> Self {
        Self { last: other.last, min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

impl<'a> Samples<'a> {
    pub(super) const fn new(programs: &'a HolderWalk, counter: &'a HandleCounter) -> Self {
        Self { programs, counter, range: None }
    }

    /// Counts now, without so many that the walks do not see. What cannot be read is no sample.
    pub(super) fn take(&mut self, own: u64) {
        let Ok(now) = self.counter.sample(self.programs) else { return };
        let now = now.saturating_sub(own);
        let sample = Range { last: now, min: now, max: now };
        self.range = Some(self.range.map_or(sample, |range| range.with(sample)));
    }

    /// The same where it takes no time.
    pub(super) fn take_if_cheap(&mut self, own: u64) {
        if self.counter.is_cheap() {
            self.take(own);
        }
    }

    /// Somebody who lost the processor while he opens or closes a file has a handle that is nowhere to be found. Where
    /// others run, gives them some turns; only until the number moves where that is all there is to know.
    pub(super) fn wait_for_others(&mut self, until_it_moves: bool) {
        const TURNS: usize = 8;
        const TURN: Duration = Duration::from_millis(4);
        let first = self.range;
        for _ in 0..TURNS {
            if until_it_moves && self.range != first || !around::others_run() {
                return;
            }
            sleep(TURN);
            self.take(0);
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let words = |range: Range| [range.last, range.min, range.max].map(u64::to_ne_bytes).concat();
        self.range.map_or_else(Vec::new, words)
    }
}

impl HolderSnapshot {
    /// Takes in what was read.
    pub(super) fn note(&mut self, samples: &Samples<'_>) {
        if let (Some(counted), Some(range)) = (&mut self.counted, samples.range) {
            *counted = counted.add(range);
        }
    }
}

impl Counted {
    /// Takes in what was read since.
    fn add(self, range: Range) -> Self {
        let all = Range { last: self.last, min: self.min, max: self.max }.with(range);
        Self { last: all.last, min: all.min, max: all.max, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_as_bytes_and_back() {
        let bytes = [7u64, 5, 9].map(u64::to_ne_bytes).concat();
        let range = Range::parse(&bytes).expect("a range");
        assert_eq!(range, Range { last: 7, min: 5, max: 9 });
        assert_eq!(Range::parse(&bytes[..20]), None);
        let counted = Counted { last: 4, min: 4, max: 6, exactness: Exactness::FileNr, limit: 10 };
        assert_eq!(counted.add(range), Counted { last: 7, min: 4, max: 9, ..counted });
    }
}
