//! How long somebody waits for an answer. One file may take a second, but many files that do are somebody's plan.
//!
//! A second of a usual machine, that is: one that is emulated needs ten for the same, and nobody made that up.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::process::speed::slowness;

/// What the largest programs take of a slow disk.
const AT_FIRST: Duration = Duration::from_secs(1);
/// What a usual program takes.
const LATER: Duration = Duration::from_millis(100);
/// So many may be late in a while before patience ends.
const MAX_LATE: usize = 3;
const WHILE: Duration = Duration::from_secs(60);

/// How long a first question may take on this machine.
pub(super) fn at_first() -> Duration {
    AT_FIRST * slowness()
}

/// When questions were answered too late.
pub(super) struct Patience {
    at_first: Duration,
    late: VecDeque<Instant>,
}

impl Patience {
    pub(super) const fn new(at_first: Duration) -> Self {
        Self { at_first, late: VecDeque::new() }
    }

    pub(super) fn now(&mut self) -> Duration {
        self.late.retain(|late| late.elapsed() < WHILE);
        if self.late.len() < MAX_LATE { self.at_first } else { LATER * slowness() }
    }

    pub(super) fn lost(&mut self) {
        self.late.push_back(Instant::now());
        if self.late.len() > MAX_LATE {
            self.late.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_many_are_late() {
        let mut patience = Patience::new(Duration::MAX);
        for _ in 0..MAX_LATE {
            assert_eq!(patience.now(), Duration::MAX);
            patience.lost();
        }
        assert_eq!(patience.now(), LATER * slowness());
    }
}
