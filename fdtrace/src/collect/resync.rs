//! What is done about losses: the fold is compared with the kernel's own table, and that table with the handles.

use std::{collections::HashSet, time::Instant};

use fdtrace_common::{
    descriptor,
    wire::{Entry, PREEXISTING},
};

use super::{missed::Skips, monotonic_ns};
use crate::{
    handles::Fold,
    kernel::{Phantom, PhantomFinder, Tracer},
    stream::{Alloc, Event, entry_call},
};

/// The difference between the kernel's table and the fold, before the last events are in.
pub(super) struct Difference {
    absent: Vec<Alloc>,
    gone: Vec<(u64, u64)>,
}

/// Finds and resyncs what was lost.
pub(super) struct Resync {
    phantoms: PhantomFinder,
    lost_events: u64,
    /// While set, releases are remembered: the table was read, and what it showed may have gone since.
    released: Option<HashSet<(u64, u64)>>,
    /// Releases that were skipped.
    pub(super) skips: Skips,
    missed_allocations: u64,
    /// Whether a missed probe of the allocation's program can have been a handle's.
    allocations_can_be_skipped: bool,
    /// Allocations that may have been skipped; nothing tells which.
    pub(super) unsynced: u64,
}

impl Resync {
    /// A kernel that does not preempt itself skips a run only when an interrupt comes in the midst of one, and no handle
    /// is made in an interrupt.
    pub(super) fn new(phantoms: PhantomFinder, kernel_preempts: bool) -> Self {
        Self {
            phantoms,
            lost_events: 0,
            released: None,
            skips: Skips::default(),
            missed_allocations: 0,
            allocations_can_be_skipped: kernel_preempts,
            unsynced: 0,
        }
    }

    /// How many events were lost since the last time that this was asked.
    pub(super) fn events_lost_since(&mut self, lost: u64) -> u64 {
        lost.saturating_sub(std::mem::replace(&mut self.lost_events, lost))
    }

    /// Remembers releases, while a resync is under way.
    pub(super) fn note_releases(&mut self, events: &[Event]) {
        let Some(released) = &mut self.released else { return };
        released.extend(events.iter().filter_map(|event| match event {
            Event::Release(release) => Some((release.handle, release.generation)),
            _ => None,
        }));
    }

    /// From now on what is released is remembered, until [`Self::finish`].
    pub(super) fn begin(&mut self) {
        self.released = Some(HashSet::new());
    }

    /// What a part of the kernel's table has and the fold has not, every event being in it that came before the reading.
    pub(super) fn absent(truth: &[(u64, Entry)], fold: &Fold) -> Vec<Alloc> {
        truth
            .iter()
            .filter(|(handle, entry)| {
                entry.generation != PREEXISTING
                    && fold.table().get(*handle).is_none_or(|known| known.generation != entry.generation)
            })
            .map(|(handle, entry)| alloc(*handle, entry))
            .collect()
    }

    /// Those that have not been released since [`Self::begin`].
    pub(super) fn still(&mut self, found: Vec<Alloc>) -> Vec<Alloc> {
        let released = self.released.take().unwrap_or_default();
        let mut still = found;
        still.retain(|alloc| !released.contains(&(alloc.handle, alloc.generation)));
        still
    }

    /// Compares the kernel's table, just read, with the fold, in which every event is that came before the loss was
    /// counted. Handles younger than `young_after` are not missed: they are below the minimum age.
    pub(super) fn compare(&self, truth: &[(u64, Entry)], fold: &Fold, young_after: u64) -> Difference {
        let known: HashSet<(u64, u64)> =
            truth.iter().map(|(handle, entry)| (*handle, entry.generation)).collect();
        let gone = fold
            .table()
            .iter()
            .map(|(handle, known)| (handle, known.generation))
            .filter(|identity| !descriptor::is_key(identity.0) && !known.contains(identity))
            .collect();
        let old: Vec<(u64, Entry)> =
            truth.iter().filter(|(_, entry)| entry.generation <= young_after).copied().collect();
        let absent = Self::absent(&old, fold);
        Difference { absent, gone }
    }

    /// What the difference amounts to, after the events that came meanwhile.
    pub(super) fn finish(&mut self, difference: Difference) -> Vec<Event> {
        let time = monotonic_ns();
        let gone = difference.gone.into_iter();
        let gone = gone.map(|(handle, generation)| Event::FoundGone { time, handle, generation });
        gone.chain(self.still(difference.absent).into_iter().map(Event::FoundLive)).collect()
    }

    /// After missed probes, looks for entries of the kernel's table whose handle is gone. What is proven is taken out of
    /// that table.
    pub(super) fn find_phantoms(
        &mut self,
        (allocations, releases): (u64, u64),
        tracer: &mut Tracer,
        fold: &Fold,
    ) -> Vec<Event> {
        if self.allocations_can_be_skipped {
            self.unsynced += allocations.saturating_sub(self.missed_allocations);
        }
        self.missed_allocations = allocations;
        self.skips.note(releases);
        let proven = self.skips.search(Instant::now(), || self.phantoms.find().ok().flatten());
        let time = monotonic_ns();
        let mut gone = Vec::new();
        for Phantom { handle, generation } in proven {
            tracer.forget(handle, generation);
            if fold.table().get(handle).is_some_and(|known| known.generation == generation) {
                gone.push(Event::FoundGone { time, handle, generation });
            }
        }
        gone
    }
}

fn alloc(handle: u64, entry: &Entry) -> Alloc {
    Alloc { handle, generation: entry.generation, tgid: entry.tgid, tid: entry.tid, call: entry_call(entry) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap, VecDeque};

    use super::*;
    use crate::stream::{Cause, Release};

    /// So few that each is used again and again.
    const ADDRESSES: u64 = 24;
    /// Handles that are younger are not spoken of in the min-age filter; one event takes one tick.
    const MIN_AGE: u64 = 40;

    struct Random(u64);

    impl Random {
        /// A number below `end`.
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % end
        }

        fn small(&mut self, end: u8) -> usize {
            usize::try_from(self.below(end.into())).unwrap_or_default()
        }

        fn one_in(&mut self, times: u64) -> bool {
            self.below(times) == 0
        }
    }

    /// The kernel side: its table, and a ring that loses what finds it full.
    struct Kernel {
        random: Random,
        clock: u64,
        table: HashMap<u64, Entry>,
        table_size: usize,
        /// Alive, but the table was full.
        untold: HashSet<u64>,
        ring: VecDeque<Event>,
        ring_size: usize,
        lost: u64,
        min_age: bool,
    }

    impl Kernel {
        fn new(seed: u64, min_age: bool) -> Self {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let table_size = if random.one_in(3) { 8 } else { 1000 };
            let ring_size = 1 + random.small(12);
            let (table, untold, ring) = (HashMap::new(), HashSet::new(), VecDeque::new());
            Self { random, clock: 1, table, table_size, untold, ring, ring_size, lost: 0, min_age }
        }

        fn send(&mut self, event: Event) {
            if self.ring.len() < self.ring_size {
                self.ring.push_back(event);
            } else {
                self.lost += 1;
            }
        }

        /// What other processes do while somebody does something else.
        fn live_on(&mut self, most: u64) {
            for _ in 0..self.random.below(most + 1) {
                let address = 8 * (1 + self.random.below(ADDRESSES));
                // A thousand lives at one address, while nobody can have looked.
                let lives = if self.random.one_in(200) { 1000 } else { 1 };
                (0..lives).for_each(|_| self.turn(address));
            }
        }

        /// What lives dies, what does not is born.
        fn turn(&mut self, address: u64) {
            self.clock += 1;
            if let Some(entry) = self.table.remove(&address) {
                self.released(address, entry);
            } else if self.untold.remove(&address) {
                // Its release is not seen either.
            } else if self.table.len() < self.table_size {
                let entry = Entry { generation: self.clock, tgid: 5, tid: 5, ..Entry::default() };
                self.table.insert(address, entry);
                if !self.min_age {
                    self.send(Event::Alloc(alloc(address, &entry)));
                }
            } else {
                self.untold.insert(address);
            }
        }

        fn released(&mut self, handle: u64, entry: Entry) {
            let cause = if self.random.one_in(3) { Cause::Exit } else { Cause::Close };
            if self.min_age {
                if cause == Cause::Close && self.clock - entry.generation < MIN_AGE {
                    return;
                }
                self.send(Event::Alloc(alloc(handle, &entry)));
            }
            self.send(Event::Release(Release {
                handle,
                generation: entry.generation,
                time: self.clock,
                tgid: 5,
                cause,
                never_opened: false,
                unaccounted: false,
            }));
        }

        /// Reads the table in parts; the world does not stand still in between.
        fn read(&mut self) -> Vec<(u64, Entry)> {
            let mut read = Vec::new();
            for bucket in 0..4 {
                let in_bucket = self.table.iter().filter(|(address, _)| **address / 8 % 4 == bucket);
                read.extend(in_bucket.map(|(address, entry)| (*address, *entry)));
                self.live_on(3);
            }
            read
        }

        fn young_after(&self) -> u64 {
            if self.min_age { self.clock.saturating_sub(MIN_AGE) } else { u64::MAX }
        }
    }

    /// What the collector's thread does, step by step.
    struct Collector {
        kernel: Kernel,
        resync: Resync,
        fold: Fold,
    }

    impl Collector {
        fn new(seed: u64, min_age: bool) -> Self {
            let resync = Resync::new(PhantomFinder::blind(), false);
            Self { kernel: Kernel::new(seed, min_age), resync, fold: Fold::default() }
        }

        fn feed(&mut self, mut events: Vec<Event>) {
            self.resync.note_releases(&events);
            self.fold.apply_all(&mut events);
        }

        /// As much as the ring can hold, in parts.
        fn drain(&mut self, busy: bool) {
            let mut left = self.kernel.ring_size;
            while left > 0 && !self.kernel.ring.is_empty() {
                let part = 1 + self.kernel.random.small(6);
                let part = part.min(left).min(self.kernel.ring.len());
                let events = self.kernel.ring.drain(..part).collect();
                self.feed(events);
                left -= part;
                if busy {
                    self.kernel.live_on(4);
                }
            }
        }

        fn check_losses(&mut self, busy: bool) {
            let lost = self.resync.events_lost_since(self.kernel.lost);
            if lost == 0 {
                return;
            }
            self.feed(vec![Event::Gap { time: self.kernel.clock, events: lost }]);
            self.drain(busy);
            let young_after = self.kernel.young_after();
            let truth =
                if busy { self.kernel.read() } else { self.kernel.table.clone().into_iter().collect() };
            let difference = self.resync.compare(&truth, &self.fold, young_after);
            self.resync.begin();
            self.drain(busy);
            let found = self.resync.finish(difference);
            self.feed(found);
        }

        fn sweep(&mut self, busy: bool) {
            let until = self.kernel.young_after();
            self.resync.begin();
            let truth =
                if busy { self.kernel.read() } else { self.kernel.table.clone().into_iter().collect() };
            let old: Vec<_> = truth.into_iter().filter(|(_, entry)| entry.generation <= until).collect();
            let absent = Resync::absent(&old, &self.fold);
            self.drain(busy);
            let still = self.resync.still(absent);
            self.feed(still.into_iter().map(Event::Alloc).collect());
        }

        fn turn(&mut self) {
            self.kernel.live_on(30);
            if !self.kernel.random.one_in(3) {
                self.drain(true);
            }
            if self.kernel.min_age && self.kernel.random.one_in(4) {
                self.sweep(true);
            }
            if self.kernel.random.one_in(3) {
                self.check_losses(true);
            }
        }

        /// Nothing happens any more, and everybody has their say once.
        fn settle(&mut self) {
            self.drain(false);
            self.check_losses(false);
            self.kernel.clock += MIN_AGE;
            if self.kernel.min_age {
                self.sweep(false);
            }
        }

        fn seen(&self) -> BTreeSet<(u64, u64)> {
            self.fold.table().iter().map(|(address, handle)| (address, handle.generation)).collect()
        }

        fn there(&self) -> BTreeSet<(u64, u64)> {
            self.kernel.table.iter().map(|(address, entry)| (*address, entry.generation)).collect()
        }
    }

    fn runs(min_age: bool) {
        let (mut lost, mut healed, mut full) = (0, 0, 0);
        for seed in 1..=1000 {
            let mut collector = Collector::new(seed, min_age);
            for round in 0..3 {
                (0..8).for_each(|_| collector.turn());
                collector.settle();
                assert_eq!(collector.seen(), collector.there(), "seed {seed}, round {round}");
                let live = collector.fold.counts().live();
                assert_eq!(live, collector.kernel.table.len() as u64, "seed {seed}, round {round}");
            }
            lost += collector.kernel.lost;
            healed += collector.fold.loss().healed;
            full += u64::from(!collector.kernel.untold.is_empty());
        }
        assert!(lost > 100_000 && healed > 1000 && full > 30, "{lost} lost, {healed} healed, {full} full");
    }

    #[test]
    fn whatever_is_lost_the_live_set_is_the_kernels() {
        runs(false);
    }

    #[test]
    fn so_it_is_in_min_age_mode() {
        runs(true);
    }
}
