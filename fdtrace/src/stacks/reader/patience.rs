//! How long somebody waits for an answer. One file may take a second, but many files that do are somebody's plan.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What the largest programs take of a slow disk.
pub(super) const AT_FIRST: Duration = Duration::from_secs(1);
/// What a usual program takes.
const LATER: Duration = Duration::from_millis(100);
/// So many may be late in a while before patience ends.
const MOST_LATE: usize = 3;
const WHILE: Duration = Duration::from_secs(60);

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
        if self.late.len() < MOST_LATE { self.at_first } else { LATER }
    }

    pub(super) fn lost(&mut self) {
        self.late.push_back(Instant::now());
        if self.late.len() > MOST_LATE {
            self.late.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_many_are_late() {
        let mut patience = Patience::new(AT_FIRST);
        for _ in 0..MOST_LATE {
            assert_eq!(patience.now(), AT_FIRST);
            patience.lost();
        }
        assert_eq!(patience.now(), LATER);
    }
}
