//! Events in, live handles by group out.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    mem::take,
};

use fdtrace_common::{descriptor, wire::PREEXISTING};

use super::{
    counts::Counts,
    details::{Details, Mapping},
    fresh::{Fresh, FreshGroup},
    hasher::CallHasher,
    images::{Image, ImageId, Images},
    lifetimes::Deaths,
    sites::Sites,
    snapshot::{GroupLives, GroupSnapshot},
    stacks::Stacks,
    table::{Handle, Table},
};
use crate::stream::{
    Acquired, Alloc, Call, Cause, Described, Event, Existing, Fact, FdLookup, ImageKey, Mapped, Release,
    Stats,
};

/// Index of a group.
pub type GroupId = u32;

/// Handles that one image allocated by one stack and one system call.
#[derive(Clone, Debug)]
pub struct Group {
    /// The image.
    pub image: ImageId,
    /// Distinguishes it from every other group of this trace.
    pub serial: u64,
    /// The call.
    pub call: Call,
    /// Handles that are pre-existing, and that the image held when it began; nobody knows who made them.
    pub existing: bool,
    /// The call site, when it was found out.
    pub site: Option<u64>,
    /// What came and went.
    pub counts: Counts,
    /// How old those became that went.
    pub deaths: Deaths,
}

/// What the fold itself found to be wrong, and what it resynced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Handles added or taken away because the kernel's table said so.
    pub healed: u64,
    /// Handles whose address was allocated again without a release in between.
    pub phantoms: u64,
    /// Releases of handles whose allocation did not come through.
    pub unmatched: u64,
    /// Gaps in the stream, where events were lost.
    pub gaps: u64,
}

/// Live handles, who made them, and what was found out about them.
#[derive(Default)]
pub struct Fold {
    table: Table,
    images: Images,
    groups: Vec<Group>,
    free_groups: Vec<GroupId>,
    by_call: HashMap<(ImageId, Call, bool), GroupId, BuildHasherDefault<CallHasher>>,
    /// Most allocations repeat the one before.
    last: Option<((u32, Call), GroupId)>,
    stacks: Stacks,
    sites: Sites,
    details: Details,
    /// The handles to which acquired descriptors point.
    repeated: HashMap<u64, u64, BuildHasherDefault<CallHasher>>,
    fresh: Fresh,
    errors: BTreeMap<i32, u64>,
    /// Handles pre-existing, of images that are gone.
    existing: Counts,
    stats: Stats,
    loss: Loss,
    serial: u64,
}

impl Fold {
    /// A fold that remembers which groups are new, for somebody who finds out about them ([`Self::take_fresh`]).
    #[must_use]
    pub fn watched() -> Self {
        Self { fresh: Fresh::remembered(), ..Self::default() }
    }

    /// Applies one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Alloc(alloc) => self.allocate(&alloc),
            Event::Acquired(acquired) => self.acquire(&acquired),
            Event::Refused(alloc) => self.refuse(&alloc),
            Event::Release(release) => self.release(&release),
            // Nothing is counted; that there is such a group lets its call site be found out.
            Event::ClosedBy(closed_by) => {
                let group = self.group(closed_by.tgid, closed_by.call);
                self.retire(self.groups[group as usize].image);
            }
            Event::Stack(stack) => self.stacks.insert(stack),
            Event::Mapped(mapped) => self.map(&mapped),
            Event::Fork { time, parent, child, comm, .. } => {
                self.end_image(child);
                self.images.fork(parent, ImageKey { tgid: child, since: time }, comm);
            }
            Event::Exec { time, tgid, comm, path } => {
                self.end_image(tgid);
                self.images.begin(ImageKey { tgid, since: time }, Some(comm), Some(path));
            }
            Event::Exit { tgid, .. } => {
                if let Some(image) = self.images.exit(tgid) {
                    self.retire(image);
                }
            }
            Event::Failure(failure) => {
                *self.errors.entry(failure.errno).or_default() += u64::from(failure.times);
            }
            // What was open when a program ended is for whoever evaluates programs.
            Event::Open(_) | Event::Cut(_) => {}
            Event::Gap { .. } => self.loss.gaps += 1,
            Event::FoundLive(alloc) => self.found_live(&alloc),
            Event::FoundGone { handle, generation, time } => self.found_gone(handle, generation, time),
            Event::ShortLived(short_lived) => self.sites.add_short_lived(&short_lived),
            Event::Fact(fact) => self.learn(*fact),
            Event::Sample(stats) => self.stats = *stats,
        }
    }

    /// Bytes of memory that it has, and that a snapshot of it takes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        /// A group, its key, and what snapshots have of it.
        const GROUP: usize = size_of::<Group>()
            + size_of::<((ImageId, Call, bool), GroupId)>()
            + size_of::<GroupSnapshot>()
            + size_of::<GroupLives>();
        let groups = self.groups.capacity() * GROUP + self.errors.len() * size_of::<[u64; 16]>();
        let parts = [self.table.weight(), self.images.weight(), self.sites.weight(), self.details.weight()];
        (groups + parts.into_iter().sum::<usize>()) as u64
    }

    /// How many groups there are, those included that wait to be used again.
    pub(crate) const fn group_slots(&self) -> u64 {
        self.groups.len() as u64
    }

    /// Applies a batch, waiting for the table's memory once for all of it.
    pub fn apply_all(&mut self, events: &mut Vec<Event>) {
        let touched = events.iter().fold(0, |sum, event| {
            sum ^ match event {
                Event::Alloc(alloc) | Event::Acquired(Acquired { alloc, .. }) => {
                    self.table.touch(alloc.handle)
                }
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
            self.drop_handle(alloc.handle, Cause::Unknown, false, alloc.generation);
        }
        let group = self.group(alloc.tgid, alloc.call);
        let (generation, tid) = (alloc.generation, alloc.tid);
        self.table.insert(alloc.handle, Handle { generation, group, tid, kind: 0 });
        let group = &mut self.groups[group as usize];
        group.counts.allocated += 1;
        self.images.get_mut(group.image).live += 1;
    }

    fn acquire(&mut self, acquired: &Acquired) {
        let Alloc { handle, generation, tgid, .. } = acquired.alloc;
        self.allocate(&acquired.alloc);
        if self.table.get(handle).is_some_and(|known| known.generation == generation) {
            self.repeated.insert(handle, acquired.of);
            self.details.describe(handle, None, FdLookup::Found(tgid, descriptor::number(handle)));
        }
    }

    /// What could not be had was made and gone at once.
    fn refuse(&mut self, alloc: &Alloc) {
        let group = self.group(alloc.tgid, alloc.call);
        let counts = &mut self.groups[group as usize].counts;
        counts.allocated += 1;
        counts.released_by[Cause::Unknown as usize] += 1;
        counts.never_opened += 1;
        self.retire(self.groups[group as usize].image);
    }

    fn release(&mut self, release: &Release) {
        match self.table.get(release.handle) {
            Some(handle) if handle.generation == release.generation => {
                self.drop_handle(release.handle, release.cause, release.never_opened, release.time);
            }
            _ => self.loss.unmatched += 1,
        }
    }

    fn drop_handle(&mut self, address: u64, cause: Cause, never_opened: bool, time: u64) {
        let Some(handle) = self.table.remove(address) else { return };
        if descriptor::is_key(address) {
            self.repeated.remove(&address);
        }
        let group = &mut self.groups[handle.group as usize];
        group.counts.released_by[cause as usize] += 1;
        group.counts.never_opened += u64::from(never_opened);
        group.deaths.add(time.saturating_sub(handle.generation));
        let image = group.image;
        self.unpin(image);
        if let Some(mapping) = self.details.forget(address) {
            self.unpin(self.groups[mapping.group as usize].image);
        }
    }

    fn unpin(&mut self, image: ImageId) {
        self.images.get_mut(image).live -= 1;
        self.retire(image);
    }

    /// Who mapped a handle first is remembered, and how often it was mapped.
    fn map(&mut self, mapped: &Mapped) {
        if self.table.get(mapped.handle).is_none_or(|handle| handle.generation != mapped.generation) {
            self.loss.unmatched += 1;
            return;
        }
        if self.details.mapped_again(mapped.handle) {
            return;
        }
        let group = self.group(mapped.tgid, mapped.call);
        self.images.get_mut(self.groups[group as usize].image).live += 1;
        let Mapped { tgid, address, length, .. } = *mapped;
        self.details.map(mapped.handle, Mapping { group, tgid, address, length, times: 1 });
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
        let key = image.key;
        for group in take(&mut image.groups) {
            let gone = &mut self.groups[group as usize];
            let (counts, deaths) = (take(&mut gone.counts), take(&mut gone.deaths));
            self.by_call.remove(&(id, gone.call, gone.existing));
            self.free_groups.push(group);
            if gone.existing {
                self.existing.add(&counts);
            } else {
                self.sites.close(gone.site, (key, gone.call), &counts, &deaths);
            }
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
        let group = match self.by_call.get(&(image, call, false)) {
            Some(group) => *group,
            None => self.add_group(image, call, false),
        };
        self.last = Some(((tgid, call), group));
        group
    }

    fn add_group(&mut self, image: ImageId, call: Call, existing: bool) -> GroupId {
        self.serial += 1;
        let (serial, counts, deaths) = (self.serial, Counts::default(), Deaths::default());
        let group = Group { image, serial, call, existing, site: None, counts, deaths };
        let id = if let Some(id) = self.free_groups.pop() {
            self.groups[id as usize] = group;
            id
        } else {
            self.groups.push(group);
            GroupId::try_from(self.groups.len() - 1).unwrap_or(GroupId::MAX)
        };
        self.by_call.insert((image, call, existing), id);
        let image = self.images.get_mut(image);
        image.groups.push(id);
        self.fresh.add(image.key, call, existing);
        id
    }

    fn found_live(&mut self, alloc: &Alloc) {
        match self.table.get(alloc.handle) {
            Some(known) if known.generation >= alloc.generation => {}
            _ => {
                self.allocate(alloc);
                self.loss.healed += 1;
            }
        }
    }

    fn found_gone(&mut self, address: u64, generation: u64, time: u64) {
        if self.table.get(address).is_some_and(|handle| handle.generation == generation) {
            self.drop_handle(address, Cause::Unknown, false, time);
            self.loss.healed += 1;
        }
    }

    fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Identity(key, identity) => {
                if let Some(image) = self.images.find(key).or_else(|| self.images.begin_before(key)) {
                    self.images.identify(image, identity);
                }
            }
            Fact::Site(site) => self.sites.define(site),
            Fact::Belongs { image, call, site } => self.place(image, call, site),
            Fact::Described(described) => self.describe(described),
            Fact::Existing(existing) => self.add_existing(&existing),
        }
    }

    fn place(&mut self, key: ImageKey, call: Call, site: u64) {
        let group = self.images.find(key).and_then(|image| self.by_call.get(&(image, call, false)));
        match group {
            Some(group) => self.groups[*group as usize].site = Some(site),
            None => self.sites.place_closed((key, call), site),
        }
    }

    fn describe(&mut self, found: Described) {
        if self.table.set_kind(found.handle, found.generation, found.kind as u8) {
            self.details.describe(found.handle, found.name, found.descriptor);
        }
    }

    fn add_existing(&mut self, existing: &Existing) {
        // A damaged file may name a place where no handle lies.
        if existing.handle == 0 || self.table.get(existing.handle).is_some() {
            return;
        }
        let image = self.images.current(existing.tgid);
        let call = Call::default();
        let group = match self.by_call.get(&(image, call, true)) {
            Some(group) => *group,
            None => self.add_group(image, call, true),
        };
        self.groups[group as usize].counts.allocated += 1;
        self.images.get_mut(image).live += 1;
        let handle = Handle { generation: PREEXISTING, group, tid: existing.tgid, kind: 0 };
        self.table.insert(existing.handle, handle);
    }

    /// Groups that are new since the last time that this was asked, with their stacks.
    pub fn take_fresh(&mut self) -> Vec<FreshGroup> {
        let (images, stacks) = (&self.images, &self.stacks);
        self.fresh.take(|name| stacks.get(name), |key| images.find(key).map(|id| images.get(id)))
    }

    /// Whether there is a group that nobody has found out about.
    #[must_use]
    pub const fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Says that the kernel side will send every stack anew: those that are known are dropped, but not before all that
    /// may still name them has come through, which is when this is called again.
    pub fn forget_stacks(&mut self) {
        self.stacks.turn();
    }

    /// How many stacks are remembered.
    #[must_use]
    pub fn stacks(&self) -> usize {
        self.stacks.len()
    }

    /// Stacks that were named and never came through.
    #[must_use]
    pub const fn unknown_stacks(&self) -> u64 {
        self.fresh.unknown
    }

    /// The live handles.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// All groups of images that still matter.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        // A group in the list of free ones has no counts.
        (0..).zip(&self.groups).filter(|(_, group)| group.counts.allocated > 0)
    }

    /// Groups with live handles that were made since tracing began, and with descriptors that could not be had.
    pub fn live_groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let refused = |group: &Group| group.call.acquired && group.counts.never_opened > 0;
        self.groups().filter(move |(_, group)| !group.existing && (group.counts.live() > 0 || refused(group)))
    }

    /// A group, by its index.
    #[must_use]
    pub fn group_at(&self, id: GroupId) -> &Group {
        &self.groups[id as usize]
    }

    /// An image that has groups.
    #[must_use]
    pub fn image(&self, id: ImageId) -> &Image {
        self.images.get(id)
    }

    /// What is known of single handles.
    #[must_use]
    pub const fn details(&self) -> &Details {
        &self.details
    }

    /// The handle to which an acquired descriptor points.
    #[must_use]
    pub fn repeated_by(&self, key: u64) -> Option<u64> {
        self.repeated.get(&key).copied()
    }

    /// What is known of call sites.
    #[must_use]
    pub const fn sites(&self) -> &Sites {
        &self.sites
    }

    /// All handles that came and went, as far as events told; without those that are pre-existing.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = self.sites.closed();
        let made = |group: &&Group| !group.existing && !group.call.acquired;
        self.groups.iter().filter(made).for_each(|group| sum.add(&group.counts));
        sum
    }

    /// Handles that are pre-existing: how many there were, and how many of them are gone.
    #[must_use]
    pub fn existing(&self) -> Counts {
        let mut sum = self.existing;
        self.groups.iter().filter(|group| group.existing).for_each(|group| sum.add(&group.counts));
        sum
    }

    /// Allocations that failed, by error number.
    #[must_use]
    pub const fn errors(&self) -> &BTreeMap<i32, u64> {
        &self.errors
    }

    /// What the kernel side had counted at the last sample.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was wrong, and what was resynced.
    #[must_use]
    pub const fn loss(&self) -> Loss {
        self.loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Leaving;

    const CALL: Call = Call {
        user_stack: 11,
        kernel_stack: 12,
        detail: 0,
        syscall: Some(257),
        kernel_task: false,
        acquired: false,
    };

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

    fn gone(handle: u64, generation: u64) -> Event {
        Event::FoundGone { time: 99, handle, generation }
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
    fn resync_is_done_once_however_the_events_arrive() {
        let mut fold = Fold::default();
        let Event::Alloc(lost) = alloc(8, 3, 5) else { unreachable!() };
        fold.apply(Event::FoundLive(lost));
        fold.apply(Event::FoundLive(lost));
        fold.apply(alloc(8, 3, 5));
        assert_eq!((fold.counts().allocated, fold.loss().healed), (1, 1));
        fold.apply(gone(8, 2));
        assert_eq!(fold.table().len(), 1, "another generation");
        fold.apply(gone(8, 3));
        fold.apply(gone(8, 3));
        assert_eq!((fold.counts().live(), fold.loss().healed), (0, 2));
    }

    #[test]
    fn a_process_that_is_gone_leaves_its_sums_and_no_group() {
        let exit = Event::Exit { time: 9, tgid: 5, how: Leaving::default() };
        let fold = folded([alloc(8, 1, 5), exit, release(8, 1)]);
        assert_eq!(fold.live_groups().count(), 0);
        assert_eq!(fold.counts().allocated, 1);
        assert_eq!(fold.counts().released(), 1);
        assert_eq!((fold.free_groups.len(), fold.by_call.len()), (1, 0));
    }

    #[test]
    fn handles_of_a_process_that_is_gone_stay_its_own() {
        let fork =
            Event::Fork { time: 9, parent: 1, child: 5, shares: false, comm: *b"another\0\0\0\0\0\0\0\0\0" };
        let fold = folded([
            alloc(8, 1, 5),
            Event::Exit { time: 9, tgid: 5, how: Leaving::default() },
            fork,
            alloc(16, 2, 5),
        ]);
        let names: Vec<_> = fold.live_groups().map(|(_, group)| fold.image(group.image).comm).collect();
        assert_eq!(names.len(), 2, "the same pid, two processes");
        assert_eq!(names.iter().filter(|name| name.is_none()).count(), 1);
    }

    #[test]
    fn what_is_closed_behind_the_end_of_a_process_is_of_its_last_image() {
        let fork = Event::Fork { time: 3, parent: 1, child: 5, shares: false, comm: Default::default() };
        let exit = || Event::Exit { time: 9, tgid: 5, how: Leaving::default() };
        let mut fold = folded([fork, exit(), alloc(8, 4, 5)]);
        let image = fold.image(fold.live_groups().next().expect("a live handle").1.image);
        assert_eq!((image.key, image.ended), (ImageKey { tgid: 5, since: 3 }, true));
        fold.apply(release(8, 4));
        assert_eq!((fold.free_groups.len(), fold.by_call.len()), (1, 0), "nothing of it stays");
        let Event::Alloc(refused) = alloc(16, 5, 5) else { unreachable!() };
        fold.apply(Event::Refused(refused));
        assert_eq!((fold.counts().allocated, fold.by_call.len()), (2, 0));
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

    const SITE: u64 = 77;

    fn belongs(tgid: u32, since: u64) -> Event {
        Event::Fact(Box::new(Fact::Belongs { image: ImageKey { tgid, since }, call: CALL, site: SITE }))
    }

    #[test]
    fn a_site_keeps_the_sums_of_processes_that_are_gone() {
        let exit = Event::Exit { time: 9, tgid: 5, how: Leaving::default() };
        let early = folded([alloc(8, 1, 5), belongs(5, 0), exit.clone(), release(8, 1)]);
        let late = folded([alloc(8, 1, 5), exit, release(8, 1), belongs(5, 0)]);
        for fold in [early, late] {
            let closed = fold.sites().get(SITE).expect("a site").closed;
            assert_eq!((closed.allocated, closed.released()), (1, 1));
            assert_eq!(fold.counts().allocated, 1);
        }
    }

    #[test]
    fn what_is_older_than_the_trace_is_counted_apart() {
        let existing =
            |handle| Event::Fact(Box::new(Fact::Existing(Existing { handle, tgid: 5, fd: Some(3) })));
        let fold = folded([existing(8), existing(16), existing(8), alloc(24, 2, 5), release(8, 1)]);
        assert_eq!((fold.existing().allocated, fold.existing().live()), (2, 1));
        assert_eq!((fold.counts().allocated, fold.counts().live()), (1, 1));
        assert_eq!(fold.live_groups().count(), 1);
    }

    #[test]
    fn a_mapping_is_remembered_as_long_as_its_handle() {
        let mapped = |handle, generation, tgid| {
            let call = Call { user_stack: 21, ..CALL };
            Event::Mapped(Mapped {
                handle,
                generation,
                time: 5,
                tgid,
                tid: tgid,
                address: 0x1000,
                length: 4096,
                inode: 0,
                call,
            })
        };
        let mut fold = folded([alloc(8, 1, 5), mapped(8, 1, 6), mapped(8, 1, 7), mapped(16, 1, 7)]);
        let mapping = *fold.details().get(8).and_then(|detail| detail.mapping.as_ref()).expect("a mapping");
        assert_eq!((mapping.tgid, mapping.times), (6, 2));
        assert_eq!(fold.loss().unmatched, 1, "a mapping of a handle that nobody knows");
        fold.apply(Event::Exit { time: 9, tgid: 6, how: Leaving::default() });
        assert_eq!(fold.image(fold.group_at(mapping.group).image).key.tgid, 6, "pinned by the mapping");
        fold.apply(release(8, 1));
        assert!(fold.details().get(8).is_none());
        assert_eq!(fold.free_groups.len(), 1, "the image of process 6 is forgotten");
    }

    #[test]
    fn a_forked_process_has_the_memory_of_its_parent() {
        let fork = |parent, child, time| Event::Fork {
            time,
            parent,
            child,
            shares: false,
            comm: *b"x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let mut fold = Fold::watched();
        [alloc(8, 1, 5), fork(5, 6, 2), alloc(16, 3, 6), fork(6, 7, 4), alloc(24, 5, 7)]
            .into_iter()
            .for_each(|event| fold.apply(event));
        fold.apply(Event::Stack(crate::stream::Stack {
            hash: 11,
            side: crate::stream::Side::User,
            tgid: 5,
            frames: [1, 2].into(),
            complete: false,
            submitter: 0,
        }));
        fold.apply(Event::Stack(crate::stream::Stack {
            hash: 12,
            side: crate::stream::Side::Kernel,
            tgid: 5,
            frames: [3].into(),
            complete: false,
            submitter: 0,
        }));
        let fresh = fold.take_fresh();
        let spaces: Vec<_> = fresh.iter().map(|group| (group.image.tgid, group.space.tgid)).collect();
        assert_eq!(spaces, [(5, 5), (6, 5), (7, 5)]);
        assert_eq!(fresh[0].user.as_ref().map(|stack| &stack.frames[..]), Some(&[1, 2][..]));
        assert!(fold.take_fresh().is_empty(), "once");
    }

    #[test]
    fn a_group_waits_for_its_stacks_but_not_for_ever() {
        let mut fold = Fold::watched();
        fold.apply(alloc(8, 1, 5));
        let most = 50 * crate::process::speed::slowness();
        let tries = (0..2 * most).take_while(|_| fold.take_fresh().is_empty()).count();
        assert!((2..most as usize).contains(&tries), "{tries}");
        assert_eq!(fold.unknown_stacks(), 2);
    }
}
