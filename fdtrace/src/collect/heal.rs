//! What is done about losses: the fold is compared with the kernel's own table, and that table with the handles.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use fdtrace_common::{
    look::Phantom,
    wire::{Entry, PREEXISTING},
};

use super::monotonic_ns;
use crate::{
    handles::Fold,
    kernel::{PhantomFinder, Tracer},
    stream::{Alloc, Event, entry_call},
};

/// A handle whose release runs right now has no reference left either. One that has none a second later was missed.
const PHANTOM_AGE: Duration = Duration::from_secs(1);

/// The difference between the kernel's table and the fold, before the last events are in.
pub(super) struct Difference {
    absent: Vec<Alloc>,
    gone: Vec<(u64, u64)>,
}

/// Finds and heals what was lost.
pub(super) struct Healer {
    phantoms: PhantomFinder,
    lost_events: u64,
    /// While set, releases are remembered: the table was read, and what it showed may have gone since.
    released: Option<HashSet<(u64, u64)>>,
    skipped: (u64, u64),
    /// Handles that had no reference left when they were looked at.
    suspects: Option<(Instant, Vec<Phantom>)>,
    /// Whether a skipped run of the allocation's program can have been a handle's.
    allocations_can_be_skipped: bool,
    /// Allocations that may have been skipped; nothing tells which.
    pub(super) unhealed: u64,
}

impl Healer {
    /// A kernel that does not preempt itself skips a run only when an interrupt comes in the midst of one, and no handle
    /// is made in an interrupt.
    pub(super) const fn new(phantoms: PhantomFinder, kernel_preempts: bool) -> Self {
        Self {
            phantoms,
            lost_events: 0,
            released: None,
            skipped: (0, 0),
            suspects: None,
            allocations_can_be_skipped: kernel_preempts,
            unhealed: 0,
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

    /// Compares the kernel's table, just read, with the fold. Handles younger than `young_after` are not missed: survivors
    /// mode does not speak of them.
    pub(super) fn compare(&self, truth: &[(u64, Entry)], fold: &Fold, young_after: u64) -> Difference {
        let known: HashSet<(u64, u64)> =
            truth.iter().map(|(handle, entry)| (*handle, entry.generation)).collect();
        let gone = fold
            .table()
            .iter()
            .map(|(handle, known)| (handle, known.generation))
            .filter(|identity| !known.contains(identity))
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

    /// After skipped runs, looks for entries of the kernel's table whose handle is gone; twice, a second apart. What is
    /// confirmed is taken out of the kernel's table.
    pub(super) fn find_phantoms(
        &mut self,
        skipped: (u64, u64),
        tracer: &mut Tracer,
        fold: &Fold,
    ) -> Vec<Event> {
        if skipped != self.skipped {
            if self.allocations_can_be_skipped {
                self.unhealed += skipped.0.saturating_sub(self.skipped.0);
            }
            self.skipped = skipped;
            self.suspects = self.phantoms.find().ok().flatten().map(|found| (Instant::now(), found));
        }
        if self.suspects.as_ref().is_some_and(|(since, _)| since.elapsed() >= PHANTOM_AGE) {
            return self.confirm(tracer, fold);
        }
        Vec::new()
    }

    fn confirm(&mut self, tracer: &mut Tracer, fold: &Fold) -> Vec<Event> {
        let Some((_, suspects)) = self.suspects.take() else { return Vec::new() };
        let Ok(Some(still)) = self.phantoms.find() else { return Vec::new() };
        let still: HashSet<(u64, u64)> =
            still.into_iter().map(|phantom| (phantom.handle, phantom.generation)).collect();
        let time = monotonic_ns();
        let mut gone = Vec::new();
        for Phantom { handle, generation } in suspects {
            if still.contains(&(handle, generation)) {
                tracer.forget(handle, generation);
                if fold.table().get(handle).is_some_and(|known| known.generation == generation) {
                    gone.push(Event::FoundGone { time, handle, generation });
                }
            }
        }
        gone
    }
}

fn alloc(handle: u64, entry: &Entry) -> Alloc {
    Alloc { handle, generation: entry.generation, tgid: entry.tgid, tid: entry.tid, call: entry_call(entry) }
}
