//! What the collector tells others: all that is known at one moment, as plain data.

use std::{collections::BTreeMap, sync::Arc};

use fdtrace_common::counters::{Counter, Counters};

use super::Worker;
use crate::{
    handles::{Counts, GroupId, Handle, Image, Loss},
    kernel::ProgramCost,
    stream::{Call, Cause, Name},
};

/// How many kinds of handles can be told apart.
pub const KIND_SLOTS: usize = 16;

/// The oldest handles of a group that are named.
const OLDEST: usize = 3;

/// All that is known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When, `CLOCK_MONOTONIC` in ns.
    pub now: u64,
    /// The kernel side's own counters.
    pub counters: Counters,
    /// Runs that the kernel skipped: of the allocation's program, and of the release's.
    pub skipped: (u64, u64),
    /// Skipped runs after which an allocation may be missing.
    pub unhealed: u64,
    /// What the fold found to be wrong.
    pub loss: Loss,
    /// Records that were no events.
    pub malformed: u64,
    /// Call chains that events name and that did not come through.
    pub unknown_stacks: u64,
    /// All that came and went. Lives that were lost in the ring from beginning to end are among them, by the kernel
    /// side's own counters; their cause is unknown.
    pub counts: Counts,
    /// Failed allocations, by error number.
    pub errors: BTreeMap<i32, u64>,
    /// Groups with live handles.
    pub groups: Vec<GroupSnapshot>,
    /// What the programs have cost.
    pub costs: Vec<ProgramCost>,
}

/// Live handles that one image allocated by one call chain.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// Distinguishes it from every other group of this trace.
    pub serial: u64,
    /// The process.
    pub tgid: u32,
    /// Distinguishes its program from every other image of this trace.
    pub image: u64,
    /// The image's name, when it was seen to begin.
    pub comm: Option<Name>,
    /// The path given to `execve`, when that was seen.
    pub path: Option<Vec<u8>>,
    /// The image runs no longer.
    pub ended: bool,
    /// The call that made the handles.
    pub call: Call,
    /// Its user stack, innermost frame first, as addresses in the process.
    pub user: Option<Arc<[u64]>>,
    /// Its kernel stack, as kernel addresses.
    pub kernel: Option<Arc<[u64]>>,
    /// What came and went.
    pub counts: Counts,
    /// Live handles of at least the age that was asked for.
    pub aged: u64,
    /// Live handles by kind.
    pub kinds: [u64; KIND_SLOTS],
    /// The oldest live handles, oldest first.
    pub oldest: Vec<OldHandle>,
}

/// One of the oldest handles of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldHandle {
    /// Its address.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// The thread that allocated it.
    pub tid: u32,
    /// Its kind, 0 for not known.
    pub kind: u8,
}

impl Worker {
    pub(super) fn snapshot(&self, min_age_ns: u64) -> Snapshot {
        let now = monotonic_ns();
        let groups = self.groups(now.saturating_sub(min_age_ns));
        let known = |name: u64| name == 0 || self.fold.stack(name).is_some();
        let unknown_stacks = self
            .fold
            .live_groups()
            .filter(|(_, group)| !known(group.call.user_stack) || !known(group.call.kernel_stack))
            .count();
        Snapshot {
            now,
            counters: self.counters,
            skipped: self.tracer.skipped(),
            unhealed: self.healer.unhealed,
            loss: self.fold.loss(),
            malformed: self.malformed,
            unknown_stacks: unknown_stacks as u64,
            counts: self.counts(),
            errors: self.fold.errors().clone(),
            groups,
            costs: self.tracer.costs(),
        }
    }

    /// One moment's sums, so that what lives is always what was allocated less what was released: they come from the
    /// fold. What the fold cannot know, because both ends of a life were lost, is what the counters have beyond it; they
    /// were read before the ring was drained.
    fn counts(&self) -> Counts {
        let mut counts = self.fold.counts();
        if self.counters.get(Counter::LostEvents) > 0 {
            let unseen = self.counters.get(Counter::Allocated).saturating_sub(counts.allocated);
            counts.allocated += unseen;
            counts.released_by[Cause::Unknown as usize] += unseen;
            counts.never_opened = counts.never_opened.max(self.counters.get(Counter::NeverOpened));
        }
        counts
    }

    /// Handles allocated at `aged_before` or earlier count as aged.
    fn groups(&self, aged_before: u64) -> Vec<GroupSnapshot> {
        let mut groups: BTreeMap<GroupId, GroupSnapshot> =
            self.fold.live_groups().map(|(id, group)| (id, self.group(group))).collect();
        // One pass over the table: a slot per group is cheaper than a search per handle.
        let mut slots: Vec<Option<&mut GroupSnapshot>> = Vec::new();
        for (id, group) in &mut groups {
            slots.resize_with(*id as usize + 1, || None);
            slots[*id as usize] = Some(group);
        }
        for (address, handle) in self.fold.table().iter() {
            if let Some(Some(group)) = slots.get_mut(handle.group as usize) {
                group.aged += u64::from(handle.generation <= aged_before);
                group.count(address, handle);
            }
        }
        groups.into_values().collect()
    }

    fn group(&self, group: &crate::handles::Group) -> GroupSnapshot {
        let image: &Image = self.fold.image(group.image);
        GroupSnapshot {
            serial: group.serial,
            tgid: image.tgid,
            image: image.serial,
            comm: image.comm,
            path: image.path.clone(),
            ended: image.ended,
            call: group.call,
            user: self.fold.stack(group.call.user_stack),
            kernel: self.fold.stack(group.call.kernel_stack),
            counts: group.counts,
            aged: 0,
            kinds: [0; KIND_SLOTS],
            oldest: Vec::new(),
        }
    }
}

impl GroupSnapshot {
    fn count(&mut self, address: u64, handle: Handle) {
        if let Some(slot) = self.kinds.get_mut(usize::from(handle.kind)) {
            *slot += 1;
        }
        let generation = handle.generation;
        if self.oldest.len() == OLDEST && self.oldest[OLDEST - 1].generation <= generation {
            return;
        }
        let place = self.oldest.partition_point(|old| old.generation <= generation);
        self.oldest
            .insert(place, OldHandle { handle: address, generation, tid: handle.tid, kind: handle.kind });
        self.oldest.truncate(OLDEST);
    }
}

/// `CLOCK_MONOTONIC` in ns, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid structure; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
