//! What was closed a moment ago: by whom is told right behind it, if at all.

use std::collections::{HashMap, VecDeque};

use crate::stream::LetGo;

/// Closed handles of a process that are remembered: one call closes more only where it closes all that there is.
const MOST: usize = 1024;

/// A handle that its process has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) time: u64,
    pub(super) group: usize,
    /// It was the last one of its call.
    pub(super) last: bool,
}

/// What processes have closed last, in the order of the stream.
#[derive(Clone, Default)]
pub(super) struct Partings(HashMap<u32, VecDeque<Closed>>);

impl Partings {
    pub(super) fn note(&mut self, tgid: u32, closed: Closed) {
        let recent = self.0.entry(tgid).or_default();
        if recent.len() == MOST {
            recent.pop_front();
        }
        recent.push_back(closed);
    }

    /// What a process has closed in the time that somebody answers for.
    pub(super) fn take(&mut self, let_go: &LetGo) -> Vec<Closed> {
        let Some(recent) = self.0.get_mut(&let_go.tgid) else { return Vec::new() };
        let before = recent.iter().rposition(|closed| closed.time < let_go.since);
        let since = recent.split_off(before.map_or(0, |last| last + 1));
        let (taken, later): (Vec<Closed>, Vec<Closed>) =
            since.into_iter().partition(|closed| closed.time <= let_go.time);
        recent.extend(later);
        taken
    }

    pub(super) fn end(&mut self, tgid: u32) {
        self.0.remove(&tgid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Call;

    #[test]
    fn each_is_answered_for_once() {
        let mut partings = Partings::default();
        let closed = |time| Closed { time, group: 0, last: true };
        [10, 20, 21, 30].map(closed).into_iter().for_each(|closed| partings.note(1, closed));
        let let_go = LetGo { since: 20, time: 25, tgid: 1, tid: 1, call: Call::default() };
        assert_eq!(partings.take(&let_go), [closed(20), closed(21)]);
        assert_eq!(partings.take(&let_go), []);
        assert_eq!(partings.take(&LetGo { tgid: 2, ..let_go }), [], "another process");
        assert_eq!(partings.take(&LetGo { since: 5, time: 40, ..let_go }), [closed(10), closed(30)]);
    }

    #[test]
    fn a_storm_takes_no_more_room() {
        let mut partings = Partings::default();
        (0..5000).for_each(|time| partings.note(1, Closed { time, group: 0, last: true }));
        let all = LetGo { since: 0, time: 5000, tgid: 1, tid: 1, call: Call::default() };
        assert_eq!(partings.take(&all).len(), MOST);
    }
}
