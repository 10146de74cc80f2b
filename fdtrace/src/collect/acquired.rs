//! Descriptors that were acquired: when they end.
//!
//! The kernel side tells only of what is installed. That a descriptor was closed shows when its number is used again, when its
//! process ends, or when the kernel's table of descriptors is compared ([`Acquisitions::closed`]).

use std::collections::HashMap;

use fdtrace_common::descriptor;

use crate::{
    kernel::{AcquiredTable, Closed},
    stream::{Acquired, Cause, Event, Moment, Release, acquisition},
};

/// What hooks on entry to a function tell of is not in the table of descriptors yet; by then it is.
const GRACE_NS: u64 = 100_000_000;

/// What is known of acquired descriptors that are open.
pub(super) struct Acquisitions {
    table: AcquiredTable,
    open: Open,
}

/// Acquired descriptors that are open, by key.
#[derive(Default)]
struct Open {
    places: HashMap<u64, Place>,
    by_process: HashMap<u32, Vec<u64>>,
}

#[derive(Clone, Copy)]
struct Place {
    generation: u64,
    tgid: u32,
    /// An exec is about to close it.
    ends_at_exec: bool,
}

impl Acquisitions {
    pub(super) fn new(table: AcquiredTable) -> Self {
        Self { table, open: Open::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.places.is_empty()
    }

    /// Adds an event to a batch, and what follows from it for descriptors.
    pub(super) fn note(&mut self, event: Event, batch: &mut Vec<Event>) {
        let ended = match &event {
            Event::Exit { tgid, time, .. } if !self.is_empty() => Some((*tgid, *time)),
            _ => None,
        };
        self.open.note(event, batch);
        if let Some((tgid, time)) = ended {
            for closed in self.open.end(tgid, time, batch) {
                // The kernel side has taken out what it has told of.
                self.table.forget(closed);
            }
        }
    }

    /// What was closed, by the kernel's table of descriptors; all that waited in the ring before must have been noted.
    pub(super) fn closed(&mut self, now: u64) -> Vec<Event> {
        // What cannot be read now is read the next time.
        let mut closed = self.table.closed().unwrap_or_default();
        closed.retain(|closed| closed.time + GRACE_NS < now);
        self.end(&closed, now)
    }

    /// The same, of those too that were acquired a moment ago: what is not there twice, a pause apart, has not been on its
    /// way into the table.
    pub(super) fn closed_by_now(&mut self, now: u64, pause: impl FnOnce()) -> Vec<Event> {
        let mut closed = self.table.closed().unwrap_or_default();
        if closed.iter().any(|closed| closed.time + GRACE_NS >= now) {
            pause();
            let again = self.table.closed().unwrap_or_default();
            closed.retain(|closed| again.contains(closed));
        }
        self.end(&closed, now)
    }

    fn end(&mut self, closed: &[Closed], now: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for closed in closed.iter().copied() {
            if self.open.close(closed, now, &mut events) {
                self.table.forget(closed);
            }
        }
        events
    }

    /// After a loss: what the kernel's own table has and nobody heard of, and the other way round.
    pub(super) fn resync(&mut self, now: u64) -> Vec<Event> {
        let Ok(truth) = self.table.all() else { return Vec::new() };
        let truth: HashMap<u64, Acquired> =
            truth.into_iter().map(|(key, found)| (key, acquisition(&found))).collect();
        self.open.resync(&truth, now)
    }
}

impl Open {
    fn note(&mut self, event: Event, batch: &mut Vec<Event>) {
        match event {
            Event::Acquired(acquired) => self.begin(acquired, batch),
            Event::Open(open) if open.moment == Moment::Exec && descriptor::is_key(open.handle) => {
                if let Some(place) = self.places.get_mut(&open.handle) {
                    place.ends_at_exec |= place.generation == open.generation;
                }
                batch.push(event);
            }
            Event::Exec { tgid, time, .. } => {
                batch.push(event);
                self.exec(tgid, time, batch);
            }
            event => batch.push(event),
        }
    }

    fn begin(&mut self, acquired: Acquired, batch: &mut Vec<Event>) {
        let (key, generation, tgid) = (acquired.alloc.handle, acquired.alloc.generation, acquired.alloc.tgid);
        if let Some(former) = self.places.get(&key).copied() {
            if former.generation >= generation {
                // The kernel's own table has told us already.
                return;
            }
            batch.push(self.finish(key, former, generation, Cause::Close));
        }
        self.places.insert(key, Place { generation, tgid, ends_at_exec: false });
        self.by_process.entry(tgid).or_default().push(key);
        batch.push(Event::Acquired(acquired));
    }

    /// A process runs another program: what had the close-on-exec flag is closed.
    fn exec(&mut self, tgid: u32, time: u64, batch: &mut Vec<Event>) {
        let keys = self.by_process.get(&tgid).cloned().unwrap_or_default();
        for key in keys {
            if let Some(place) = self.places.get(&key).copied().filter(|place| place.ends_at_exec) {
                batch.push(self.finish(key, place, time, Cause::Exec));
            }
        }
    }

    /// A process has ended, and its table with it.
    fn end(&mut self, tgid: u32, time: u64, batch: &mut Vec<Event>) -> Vec<Closed> {
        let keys = self.by_process.remove(&tgid).unwrap_or_default();
        let mut ended = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(place) = self.places.get(&key).copied().filter(|place| place.tgid == tgid) else {
                continue;
            };
            batch.push(self.finish(key, place, time, Cause::Exit));
            ended.push(Closed { key, time: place.generation });
        }
        ended
    }

    fn close(&mut self, closed: Closed, now: u64, events: &mut Vec<Event>) -> bool {
        let Some(place) = self.places.get(&closed.key).copied() else { return false };
        if place.generation != closed.time {
            return false;
        }
        events.push(self.finish(closed.key, place, now, Cause::Close));
        true
    }

    fn resync(&mut self, truth: &HashMap<u64, Acquired>, now: u64) -> Vec<Event> {
        let mut events = Vec::new();
        let gone: Vec<(u64, Place)> = self
            .places
            .iter()
            .filter(|(key, _)| !truth.contains_key(key))
            .map(|(key, place)| (*key, *place))
            .collect();
        for (key, place) in gone {
            events.push(self.finish(key, place, now, Cause::Unknown));
        }
        truth.values().for_each(|found| self.begin(*found, &mut events));
        events
    }

    fn finish(&mut self, key: u64, place: Place, time: u64, cause: Cause) -> Event {
        self.places.remove(&key);
        if let Some(keys) = self.by_process.get_mut(&place.tgid) {
            keys.retain(|known| *known != key);
            if keys.is_empty() {
                self.by_process.remove(&place.tgid);
            }
        }
        Event::Release(Release {
            handle: key,
            generation: place.generation,
            time,
            tgid: place.tgid,
            cause,
            never_opened: false,
            unaccounted: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{self, Alloc, Call, Leaving};

    const TABLE: u64 = 0xffff_8880_0000_0040;

    fn acquired(fd: u32, time: u64, tgid: u32) -> Event {
        let call = Call { acquired: true, user_stack: 1, ..Call::default() };
        let handle = descriptor::key(TABLE, fd);
        Event::Acquired(Acquired { alloc: Alloc { handle, generation: time, tgid, tid: tgid, call }, of: 8 })
    }

    fn noted(open: &mut Open, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
        let mut batch = Vec::new();
        events.into_iter().for_each(|event| open.note(event, &mut batch));
        batch
    }

    fn releases(events: &[Event]) -> Vec<(u32, u64, Cause)> {
        let release = |event: &Event| match event {
            Event::Release(release) => {
                Some((descriptor::number(release.handle), release.generation, release.cause))
            }
            _ => None,
        };
        events.iter().filter_map(release).collect()
    }

    #[test]
    fn a_number_that_is_used_again_was_closed_before() {
        let mut open = Open::default();
        let events = noted(&mut open, [acquired(5, 10, 1), acquired(5, 20, 1), acquired(5, 20, 1)]);
        assert_eq!(releases(&events), [(5, 10, Cause::Close)]);
        assert!(matches!(events[1], Event::Release(_)), "before the new one begins");
        assert_eq!(events.len(), 3, "what is known already is reported once");
    }

    #[test]
    fn an_exec_closes_what_it_said_it_would() {
        let mut open = Open::default();
        let at_exec = Event::Open(stream::Open {
            handle: descriptor::key(TABLE, 5),
            generation: 10,
            time: 30,
            tgid: 1,
            fd: 5,
            moment: Moment::Exec,
            close_on_exec: true,
            socket_state: 0,
            deleted: false,
            of_thread: None,
            waiting: 0,
        });
        let exec = Event::Exec { time: 31, tgid: 1, comm: [0; 16], path: Vec::new() };
        let events = noted(&mut open, [acquired(5, 10, 1), acquired(6, 11, 1), at_exec, exec]);
        assert_eq!(releases(&events), [(5, 10, Cause::Exec)]);
        assert!(matches!(events.last(), Some(Event::Release(_))), "after the exec");
    }

    #[test]
    fn what_a_process_has_at_its_end_ends_behind_it() {
        let mut open = Open::default();
        noted(&mut open, [acquired(5, 10, 1), acquired(6, 11, 2)]);
        let mut batch = vec![Event::Exit { time: 40, tgid: 1, how: Leaving::default() }];
        let closed = open.end(1, 40, &mut batch);
        assert_eq!(releases(&batch), [(5, 10, Cause::Exit)]);
        assert_eq!(closed, [Closed { key: descriptor::key(TABLE, 5), time: 10 }]);
        assert_eq!(open.places.len(), 1);
    }

    #[test]
    fn a_look_at_the_tables_closes_only_what_it_saw() {
        let mut open = Open::default();
        noted(&mut open, [acquired(5, 10, 1), acquired(5, 20, 1)]);
        let mut events = Vec::new();
        let key = descriptor::key(TABLE, 5);
        assert!(!open.close(Closed { key, time: 10 }, 50, &mut events), "the place was used again");
        assert!(open.close(Closed { key, time: 20 }, 50, &mut events));
        assert_eq!(releases(&events), [(5, 20, Cause::Close)]);
    }

    #[test]
    fn a_loss_is_put_right_both_ways() {
        let mut open = Open::default();
        noted(&mut open, [acquired(5, 10, 1), acquired(6, 11, 1)]);
        let truth = [acquired(6, 11, 1), acquired(7, 12, 1)].map(|event| match event {
            Event::Acquired(found) => (found.alloc.handle, found),
            _ => unreachable!(),
        });
        let events = open.resync(&truth.into_iter().collect(), 60);
        assert_eq!(releases(&events), [(5, 10, Cause::Unknown)]);
        assert_eq!(events.len(), 2);
        assert_eq!(open.places.len(), 2);
    }
}
