//! What was closed a moment ago: by whom is reported right behind it, if at all.

use std::collections::{HashMap, VecDeque};

use crate::stream::ClosedBy;

/// Closed handles of a process that are remembered: one call closes more only where it closes all that there is.
const MAX: usize = 1024;

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
pub(super) struct RecentCloses(HashMap<u32, VecDeque<Closed>>);

impl RecentCloses {
    pub(super) fn note(&mut self, tgid: u32, closed: Closed) {
        let recent = self.0.entry(tgid).or_default();
        if recent.len() == MAX {
            recent.pop_front();
        }
        recent.push_back(closed);
    }

    /// What a process has closed in the time that somebody answers for.
    pub(super) fn take(&mut self, closed_by: &ClosedBy) -> Vec<Closed> {
        let Some(recent) = self.0.get_mut(&closed_by.tgid) else { return Vec::new() };
        let before = recent.iter().rposition(|closed| closed.time < closed_by.since);
        let since = recent.split_off(before.map_or(0, |last| last + 1));
        let (taken, later): (Vec<Closed>, Vec<Closed>) =
            since.into_iter().partition(|closed| closed.time <= closed_by.time);
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
        let mut closes = RecentCloses::default();
        let closed = |time| Closed { time, group: 0, last: true };
        [10, 20, 21, 30].map(closed).into_iter().for_each(|closed| closes.note(1, closed));
        let closed_by = ClosedBy { since: 20, time: 25, tgid: 1, tid: 1, call: Call::default() };
        assert_eq!(closes.take(&closed_by), [closed(20), closed(21)]);
        assert_eq!(closes.take(&closed_by), []);
        assert_eq!(closes.take(&ClosedBy { tgid: 2, ..closed_by }), [], "another process");
        assert_eq!(closes.take(&ClosedBy { since: 5, time: 40, ..closed_by }), [closed(10), closed(30)]);
    }

    #[test]
    fn a_storm_takes_no_more_room() {
        let mut closes = RecentCloses::default();
        (0..5000).for_each(|time| closes.note(1, Closed { time, group: 0, last: true }));
        let all = ClosedBy { since: 0, time: 5000, tgid: 1, tid: 1, call: Call::default() };
        assert_eq!(closes.take(&all).len(), MAX);
    }
}
