//! Events in, live handles by group out.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use fdtrace_common::{hash, wire::CAUSES};

use super::{
    images::{Image, ImageId, Images},
    table::{Handle, Table},
};
use crate::stream::{Alloc, Call, Cause, Event, Release, Stack};

/// Index of a group.
pub type GroupId = u32;

/// How many handles came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handles made.
    pub allocated: u64,
    /// Handles gone, by [`Cause`].
    pub released_by: [u64; CAUSES],
    /// Of those gone, the ones that no open ever completed.
    pub never_opened: u64,
}

impl Counts {
    /// Handles gone.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released_by.iter().sum()
    }

    /// Handles alive.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.allocated.saturating_sub(self.released())
    }

    /// Adds others to these.
    pub fn add(&mut self, other: &Self) {
        self.allocated += other.allocated;
        self.never_opened += other.never_opened;
        for (sum, more) in self.released_by.iter_mut().zip(other.released_by) {
            *sum += more;
        }
    }
}

/// Handles that one image allocated by one call chain and one system call.
#[derive(Clone, Debug)]
pub struct Group {
    /// The image.
    pub image: ImageId,
    /// Distinguishes it from every other group of this trace.
    pub serial: u64,
    /// The call.
    pub call: Call,
    /// What came and went.
    pub counts: Counts,
}

/// What the fold itself found to be wrong, and what it put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Handles added or taken away because the kernel's table said so.
    pub healed: u64,
    /// Handles whose address was allocated again without a release in between.
    pub phantoms: u64,
    /// Releases of handles whose allocation did not come through.
    pub unmatched: u64,
}

/// Live handles, and who made them.
#[derive(Default)]
pub struct Fold {
    table: Table,
    images: Images,
    groups: Vec<Group>,
    free_groups: Vec<GroupId>,
    by_call: HashMap<(ImageId, Call), GroupId, BuildHasherDefault<CallHasher>>,
    /// Most allocations repeat the one before.
    last: Option<((u32, Call), GroupId)>,
    stacks: HashMap<u64, Arc<[u64]>, BuildHasherDefault<CallHasher>>,
    errors: BTreeMap<i32, u64>,
    /// Groups of images that are gone, with nothing alive.
    retired: Counts,
    loss: Loss,
    serial: u64,
}

impl Fold {
    /// Applies one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Alloc(alloc) => self.allocate(&alloc),
            Event::Release(release) => self.release(&release),
            Event::Stack(Stack { hash, frames, .. }) => {
                self.stacks.insert(hash, frames.into());
            }
            Event::Fork { child, comm, .. } => {
                self.end_image(child);
                self.images.begin(child, Some(comm), None);
            }
            Event::Exec { tgid, comm, path, .. } => {
                self.end_image(tgid);
                self.images.begin(tgid, Some(comm), Some(path));
            }
            Event::Exit { tgid, .. } => self.end_image(tgid),
            Event::Failure { errno, .. } => *self.errors.entry(errno).or_default() += 1,
            Event::FoundLive(alloc) => self.heal_live(&alloc),
            Event::FoundGone { handle, generation, .. } => self.heal_gone(handle, generation),
            Event::Mapped(_) | Event::Gap { .. } | Event::Swallowed(_) | Event::Fact(_) | Event::Look(_) => {}
        }
    }

    /// Applies a batch, waiting for the table's memory once for all of it.
    pub fn apply_all(&mut self, events: &mut Vec<Event>) {
        let touched = events.iter().fold(0, |sum, event| {
            sum ^ match event {
                Event::Alloc(alloc) => self.table.touch(alloc.handle),
                Event::Release(release) => self.table.touch(release.handle),
                _ => 0,
            }
        });
        std::hint::black_box(touched);
        for event in events.drain(..) {
            self.apply(event);
        }
    }

    fn allocate(&mut self, alloc: &Alloc) {
        if let Some(old) = self.table.get(alloc.handle) {
            if old.generation >= alloc.generation {
                // The kernel's table has told us already.
                return;
            }
            self.loss.phantoms += 1;
            self.drop_handle(alloc.handle, Cause::Unknown, false);
        }
        let group = self.group(alloc.tgid, alloc.call);
        let (generation, tid) = (alloc.generation, alloc.tid);
        self.table.insert(alloc.handle, Handle { generation, group, tid, kind: 0 });
        let group = &mut self.groups[group as usize];
        group.counts.allocated += 1;
        self.images.get_mut(group.image).live += 1;
    }

    fn release(&mut self, release: &Release) {
        match self.table.get(release.handle) {
            Some(handle) if handle.generation == release.generation => {
                self.drop_handle(release.handle, release.cause, release.never_opened);
            }
            _ => self.loss.unmatched += 1,
        }
    }

    fn drop_handle(&mut self, address: u64, cause: Cause, never_opened: bool) {
        let Some(handle) = self.table.remove(address) else { return };
        let group = &mut self.groups[handle.group as usize];
        group.counts.released_by[cause as usize] += 1;
        group.counts.never_opened += u64::from(never_opened);
        let image = group.image;
        self.images.get_mut(image).live -= 1;
        self.retire(image);
    }

    fn end_image(&mut self, tgid: u32) {
        if let Some(image) = self.images.end(tgid) {
            self.retire(image);
        }
    }

    /// An image that has ended and of which nothing lives leaves only its sums behind, so that a machine that starts a
    /// thousand processes a second can be watched for a year.
    fn retire(&mut self, id: ImageId) {
        let image = self.images.get_mut(id);
        if !image.ended || image.live > 0 {
            return;
        }
        for group in std::mem::take(&mut image.groups) {
            let gone = &mut self.groups[group as usize];
            self.retired.add(&std::mem::take(&mut gone.counts));
            self.by_call.remove(&(id, gone.call));
            self.free_groups.push(group);
        }
        self.last = None;
        self.images.forget(id);
    }

    fn group(&mut self, tgid: u32, call: Call) -> GroupId {
        if let Some((key, group)) = self.last
            && key == (tgid, call)
            && !self.images.get(self.groups[group as usize].image).ended
        {
            return group;
        }
        let image = self.images.current(tgid);
        let group = match self.by_call.get(&(image, call)) {
            Some(group) => *group,
            None => self.add_group(image, call),
        };
        self.last = Some(((tgid, call), group));
        group
    }

    fn add_group(&mut self, image: ImageId, call: Call) -> GroupId {
        self.serial += 1;
        let group = Group { image, serial: self.serial, call, counts: Counts::default() };
        let id = if let Some(id) = self.free_groups.pop() {
            self.groups[id as usize] = group;
            id
        } else {
            self.groups.push(group);
            GroupId::try_from(self.groups.len() - 1).unwrap_or(GroupId::MAX)
        };
        self.by_call.insert((image, call), id);
        self.images.get_mut(image).groups.push(id);
        id
    }

    /// Puts in a handle that the kernel's table has and whose allocation never came through.
    pub fn heal_live(&mut self, alloc: &Alloc) {
        match self.table.get(alloc.handle) {
            Some(known) if known.generation >= alloc.generation => {}
            _ => {
                self.allocate(alloc);
                self.loss.healed += 1;
            }
        }
    }

    /// Takes out a handle that the kernel's table no longer has and whose release never came through.
    pub fn heal_gone(&mut self, address: u64, generation: u64) {
        if self.table.get(address).is_some_and(|handle| handle.generation == generation) {
            self.drop_handle(address, Cause::Unknown, false);
            self.loss.healed += 1;
        }
    }

    /// Says what a handle is, by the caller's numbering; false when there is no such handle.
    pub fn set_kind(&mut self, address: u64, generation: u64, kind: u8) -> bool {
        self.table.set_kind(address, generation, kind)
    }

    /// The live handles.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Groups with live handles.
    pub fn live_groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        (0..).zip(&self.groups).filter(|(_, group)| group.counts.live() > 0)
    }

    /// An image that has groups.
    #[must_use]
    pub fn image(&self, id: ImageId) -> &Image {
        self.images.get(id)
    }

    /// The frames of a stack, innermost first.
    #[must_use]
    pub fn stack(&self, name: u64) -> Option<Arc<[u64]>> {
        self.stacks.get(&name).cloned()
    }

    /// All that came and went, as far as events told.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = self.retired;
        self.groups.iter().for_each(|group| sum.add(&group.counts));
        sum
    }

    /// Allocations that failed, by error number.
    #[must_use]
    pub const fn errors(&self) -> &BTreeMap<i32, u64> {
        &self.errors
    }

    /// What was wrong, and what was put right.
    #[must_use]
    pub const fn loss(&self) -> Loss {
        self.loss
    }
}

/// Hashes keys that are hashes already.
#[derive(Default)]
pub(super) struct CallHasher(u64);

impl Hasher for CallHasher {
    fn finish(&self) -> u64 {
        hash::finish(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = hash::mix(self.0, word);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call =
        Call { user_stack: 11, kernel_stack: 12, detail: 0, syscall: Some(257), kernel_task: false };

    fn alloc(handle: u64, generation: u64, tgid: u32) -> Event {
        Event::Alloc(Alloc { handle, generation, tgid, tid: tgid, call: CALL })
    }

    fn release(handle: u64, generation: u64) -> Event {
        Event::Release(Release {
            handle,
            generation,
            time: generation + 1,
            tgid: 1,
            cause: Cause::Close,
            never_opened: false,
            unaccounted: false,
        })
    }

    fn folded(events: impl IntoIterator<Item = Event>) -> Fold {
        let mut fold = Fold::default();
        events.into_iter().for_each(|event| fold.apply(event));
        fold
    }

    #[test]
    fn live_is_allocated_less_released() {
        let fold = folded([alloc(8, 1, 5), alloc(16, 2, 5), release(8, 1)]);
        let groups: Vec<_> = fold.live_groups().collect();
        assert_eq!(groups.len(), 1, "one call, one process: one group");
        assert_eq!(groups[0].1.counts.live(), 1);
        assert_eq!(fold.counts().allocated, 2);
        assert_eq!(fold.counts().released_by[Cause::Close as usize], 1);
        assert_eq!(fold.table().len(), 1);
    }

    #[test]
    fn an_address_used_again_without_a_release_is_a_phantom() {
        let fold = folded([alloc(8, 1, 5), alloc(8, 9, 5), release(8, 9)]);
        assert_eq!(fold.loss().phantoms, 1);
        assert_eq!(fold.counts().live(), 0);
        assert!(fold.table().is_empty());
    }

    #[test]
    fn a_release_of_an_older_generation_leaves_the_newer_alone() {
        let fold = folded([alloc(8, 9, 5), release(8, 1)]);
        assert_eq!(fold.table().len(), 1);
        assert_eq!(fold.loss().unmatched, 1);
    }

    #[test]
    fn healing_is_done_once_however_the_events_arrive() {
        let mut fold = Fold::default();
        let Event::Alloc(lost) = alloc(8, 3, 5) else { unreachable!() };
        fold.heal_live(&lost);
        fold.heal_live(&lost);
        fold.apply(alloc(8, 3, 5));
        assert_eq!((fold.counts().allocated, fold.loss().healed), (1, 1));
        fold.heal_gone(8, 2);
        assert_eq!(fold.table().len(), 1, "another generation");
        fold.heal_gone(8, 3);
        fold.heal_gone(8, 3);
        assert_eq!((fold.counts().live(), fold.loss().healed), (0, 2));
    }

    #[test]
    fn a_process_that_is_gone_leaves_its_sums_and_no_group() {
        let exit = Event::Exit { time: 9, tgid: 5 };
        let fold = folded([alloc(8, 1, 5), exit, release(8, 1)]);
        assert_eq!(fold.live_groups().count(), 0);
        assert_eq!(fold.retired.allocated, 1);
        assert_eq!(fold.counts().released(), 1);
        assert_eq!((fold.free_groups.len(), fold.by_call.len()), (1, 0));
    }

    #[test]
    fn handles_of_a_process_that_is_gone_stay_its_own() {
        let fork = Event::Fork { time: 9, parent: 1, child: 5, comm: *b"another\0\0\0\0\0\0\0\0\0" };
        let fold = folded([alloc(8, 1, 5), Event::Exit { time: 9, tgid: 5 }, fork, alloc(16, 2, 5)]);
        let names: Vec<_> = fold.live_groups().map(|(_, group)| fold.image(group.image).comm).collect();
        assert_eq!(names.len(), 2, "the same pid, two processes");
        assert_eq!(names.iter().filter(|name| name.is_none()).count(), 1);
    }

    #[test]
    fn an_exec_begins_a_new_image() {
        let exec = Event::Exec {
            time: 9,
            tgid: 5,
            comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            path: b"/bin/sh".to_vec(),
        };
        let fold = folded([alloc(8, 1, 5), exec, alloc(16, 2, 5)]);
        assert_eq!(fold.live_groups().count(), 2);
    }

    #[test]
    fn batches_are_the_same_as_single_events() {
        let events: Vec<Event> = (0..1000)
            .flat_map(|n| [alloc(8 * (n + 1), n, 5), alloc(8 * (n + 5000), n, 6), release(8 * (n + 1), n)])
            .collect();
        let one = folded(events.clone());
        let mut other = Fold::default();
        for chunk in events.chunks(64) {
            other.apply_all(&mut chunk.to_vec());
        }
        assert_eq!(one.counts(), other.counts());
        assert_eq!(one.table().len(), other.table().len());
    }
}
