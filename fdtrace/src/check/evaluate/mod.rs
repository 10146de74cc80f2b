//! The evaluator: from the event stream to what each program kept.
//!
//! It follows the same stream as the fold, and remembers what the fold forgets: which handle belongs to which call of which
//! program, and which were open when a program ended.

mod ages;
mod calls;
mod closes;
mod groups;
mod images;
mod scoped;
mod series;
mod threads;

use std::{collections::HashMap, sync::Arc};

pub(crate) use ages::{percentile, percentile_of_shares};
use calls::Calls;
use closes::{Closed, RecentCloses};
use groups::End;
use groups::Held;
pub(crate) use groups::{AllocErrors, ClosedCount, Group, LeftOpen, OpenAt};
pub(crate) use images::Image;
use images::Images;
pub(crate) use scoped::Made;
pub(crate) use series::highest;
use threads::Threads;
pub(crate) use threads::was_waiting;

use fdtrace_common::{descriptor, wire::PREEXISTING};

use super::rule::{MAX, MAX_OF_SCRIPT};
use crate::{
    model::{Kind, check::Ended},
    stream::{
        Alloc, AllocError, Call, Cause, ClosedBy, Described, Event, Fact, FdLookup, ImageKey, Leaving,
        Mapped, Moment, Open, Release, Site,
    },
};

/// Groups from which on what was merely mapped when a program ended is not remembered, unless it is much.
const CROWD: usize = 50_000;

/// A live handle.
#[derive(Clone, Debug)]
struct Life {
    generation: u64,
    group: usize,
    call: u64,
    /// Which call of its group it is of.
    number: u64,
    /// The thread that made it, and which of that one's calls it is of.
    of_thread: (u32, u64),
    /// The inode by which it is mapped; 0 when it is not.
    inode: u64,
    /// The handle that it points to, of a descriptor that was acquired; 0 of a handle.
    of: u64,
    held: Option<Box<Held>>,
}

/// Follows a stream, and knows what was kept by whom.
#[derive(Clone, Default)]
pub struct Evaluator {
    images: Images,
    groups: Vec<Group>,
    free: Vec<usize>,
    by_call: HashMap<(ImageKey, Call), usize>,
    handles: HashMap<u64, Life>,
    calls: Calls,
    threads: Threads,
    closes: RecentCloses,
    sites: HashMap<u64, Arc<Site>>,
    alloc_errors: Vec<AllocErrors>,
    /// What handles are that are pre-existing: descriptors that are acquired may point to them.
    existing: HashMap<u64, Box<Held>>,
    /// Descriptors that were open at an end, of handles that nobody has heard of.
    unknown: u64,
    /// The time of the last event.
    now: u64,
}

impl Evaluator {
    /// Takes one event.
    pub fn apply(&mut self, event: &Event) {
        self.now = self.now.max(event.time().unwrap_or(0));
        match event {
            Event::Alloc(alloc) | Event::FoundLive(alloc) => self.allocate(alloc, 0),
            Event::Acquired(acquired) => self.allocate(&acquired.alloc, acquired.of),
            Event::Release(release) => self.release(release),
            Event::ClosedBy(closed_by) => self.part(closed_by),
            Event::FoundGone { time, handle, generation } => {
                self.drop_handle(*handle, *generation, *time, Cause::Unknown);
            }
            Event::Mapped(mapped) => self.map(mapped),
            Event::Open(open) => self.open(open),
            Event::Failure(alloc_error) => self.note_alloc_error(alloc_error),
            Event::Fork { time, parent, child, shares, comm } => {
                self.end_image(*child, *time, Ended::Running);
                self.images.fork(*parent, ImageKey { tgid: *child, since: *time }, *shares, *comm);
            }
            Event::Cut(cut) => self.threads.cut(*cut),
            Event::Exec { time, tgid, comm, path } => {
                self.end_image(*tgid, *time, Ended::Exec);
                self.images.execute(ImageKey { tgid: *tgid, since: *time }, *comm, path.clone());
            }
            Event::Exit { time, tgid, how } => self.exit(*tgid, *time, *how),
            Event::Fact(fact) => self.learn(fact),
            // That there was no descriptor left is reported as a failure.
            Event::Stack(_)
            | Event::Refused(_)
            | Event::Gap { .. }
            | Event::ShortLived(_)
            | Event::Sample(_) => {}
        }
    }

    /// Processes that run.
    pub fn running(&self) -> impl Iterator<Item = u32> {
        self.images.running()
    }

    /// How many programs ran.
    #[must_use]
    pub const fn programs(&self) -> u64 {
        self.images.seen
    }

    /// Descriptors that were open at an end, of handles that nobody has heard of: their allocation was lost.
    #[must_use]
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// When an image ended; for one that runs still, the time of the last event.
    pub(crate) fn end_of(&self, key: ImageKey) -> u64 {
        self.image(key).and_then(|image| image.ended).map_or(self.now, |(time, _)| time)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups.iter().enumerate().filter(|(_, group)| group.allocated > 0)
    }

    pub(crate) fn group_at(&self, index: usize) -> &Group {
        &self.groups[index]
    }

    pub(crate) fn image(&self, key: ImageKey) -> Option<&Image> {
        self.images.get(key)
    }

    pub(crate) fn images(&self) -> impl Iterator<Item = (&ImageKey, &Image)> {
        self.images.iter()
    }

    pub(crate) fn is_forked_from(&self, key: ImageKey, ancestor: ImageKey) -> bool {
        self.images.is_forked_from(key, ancestor)
    }

    pub(crate) fn share_table(&self, one: ImageKey, other: ImageKey) -> bool {
        self.images.share_table(one, other)
    }

    pub(crate) const fn threads(&self) -> &Threads {
        &self.threads
    }

    pub(crate) fn alloc_errors(&self) -> &[AllocErrors] {
        &self.alloc_errors
    }

    /// What is alive: address, generation and group.
    pub(crate) fn lives(&self) -> impl Iterator<Item = (u64, u64, &Group)> {
        self.handles.iter().map(|(handle, life)| (*handle, life.generation, &self.groups[life.group]))
    }

    /// These sockets have a peer that has not hung up, and no others have.
    pub(crate) fn connected(&mut self, sockets: &[(u64, u64)]) {
        self.groups.iter_mut().for_each(|group| group.connected = 0);
        for (handle, generation) in sockets {
            let life = self.handles.get(handle).filter(|life| life.generation == *generation);
            if let Some(life) = life {
                self.groups[life.group].connected += 1;
            }
        }
    }

    pub(crate) fn site(&self, id: u64) -> Option<&Arc<Site>> {
        self.sites.get(&id)
    }

    /// What is open still, with the group that it is of.
    pub(crate) fn still_held(&self) -> impl Iterator<Item = (usize, LeftOpen)> {
        self.handles.iter().filter_map(|(handle, life)| {
            let held = life.held.clone().or_else(|| self.held_by_number(*handle, life))?;
            let Life { call, of_thread, generation, of, .. } = *life;
            Some((life.group, LeftOpen { call, of_thread, generation, alive: true, of, held }))
        })
    }

    /// A descriptor that was acquired and not closed needs nobody to find it.
    fn held_by_number(&self, key: u64, life: &Life) -> Option<Box<Held>> {
        if !descriptor::is_key(key) {
            return None;
        }
        let tgid = self.groups[life.group].image.tgid;
        let (kind, name) = self.what_is(life.of);
        let descriptor = FdLookup::Found(tgid, descriptor::number(key));
        Some(Box::new(Held { at: Vec::new(), kind, name, descriptor }))
    }

    /// What a handle is, as far as that is known.
    pub(crate) fn what_is(&self, handle: u64) -> (Kind, Option<Arc<str>>) {
        let live = self.handles.get(&handle).and_then(|life| life.held.as_ref());
        let held = live.or_else(|| self.existing.get(&handle));
        held.map_or_else(Default::default, |held| (held.kind, held.name.clone()))
    }

    /// A handle was made; or a descriptor was acquired, of a handle that was there before.
    fn allocate(&mut self, alloc: &Alloc, of: u64) {
        if let Some(old) = self.handles.get(&alloc.handle) {
            if old.generation >= alloc.generation {
                return;
            }
            let generation = old.generation;
            self.drop_handle(alloc.handle, generation, alloc.generation, Cause::Unknown);
        }
        let image = self.images.current(alloc.tgid);
        let group = self.group(image, alloc.call);
        let (call, first) = self.calls.number(alloc);
        let number = self.groups[group].allocate(alloc.generation, first);
        let of_thread = (alloc.tid, self.threads.call(alloc.tid, first));
        let generation = alloc.generation;
        let life = Life { generation, group, call, number, of_thread, inode: 0, of, held: None };
        self.handles.insert(alloc.handle, life);
        if let Some(image) = self.images.get_mut(image) {
            image.live += 1;
            if image.live > image.peak.0 {
                image.peak = (image.live, alloc.generation);
            }
        }
    }

    fn group(&mut self, image: ImageKey, call: Call) -> usize {
        if let Some(group) = self.by_call.get(&(image, call)) {
            return *group;
        }
        let group = Group::new(image, call);
        let index = match self.free.pop() {
            Some(index) => {
                self.groups[index] = group;
                index
            }
            None => {
                self.groups.push(group);
                self.groups.len() - 1
            }
        };
        self.by_call.insert((image, call), index);
        if let Some(image) = self.images.get_mut(image) {
            image.groups.push(index);
        }
        index
    }

    fn release(&mut self, release: &Release) {
        if release.generation == PREEXISTING {
            self.existing.remove(&release.handle);
        } else if release.never_opened {
            self.take_back(release);
        } else {
            self.drop_handle(release.handle, release.generation, release.time, release.cause);
        }
    }

    /// Nobody ever had it.
    fn take_back(&mut self, release: &Release) {
        if let Some(life) = self.take(release.handle, release.generation) {
            self.end_life(release.handle, &life, release.time, End::Failed);
        }
    }

    fn drop_handle(&mut self, handle: u64, generation: u64, time: u64, cause: Cause) {
        let Some(mut life) = self.take(handle, generation) else { return };
        let mut held = life.held.take();
        if let Some(held) = &mut held {
            // Where a thread has ended that had a table of its own, its end is that of what it made itself and had alone.
            let is_its_own = |tid| cause == Cause::Exit && tid == life.of_thread.0;
            held.at.retain(|open| open.of_thread.is_none_or(is_its_own));
        }
        let is_left = |held: &Held| held.at.iter().any(|open| open.moment == Moment::Exit);
        let end = if cause == Cause::Exit && held.as_deref().is_some_and(is_left) {
            End::Left
        } else {
            let thread_age = self.threads.age(life.of_thread);
            End::Closed { thread_age, life: time.saturating_sub(generation) }
        };
        let closes = matches!(end, End::Closed { .. }) && cause == Cause::Close;
        if let Some(held) = held.filter(|held| !held.at.is_empty()) {
            let Life { call, of_thread, of, .. } = life;
            let left = LeftOpen { call, of_thread, generation, alive: false, of, held };
            self.groups[life.group].left.push(left);
        }
        let (group, tgid) = (life.group, self.groups[life.group].image.tgid);
        let last = self.end_life(handle, &life, time, end);
        if closes {
            self.closes.note(tgid, Closed { time, group, last });
        }
    }

    /// It is known by which stack a thread has closed what it has closed.
    fn part(&mut self, closed_by: &ClosedBy) {
        let closed = self.closes.take(closed_by);
        let image = self.images.current(closed_by.tgid);
        let by = self.group(image, closed_by.call);
        for Closed { group, last, .. } in closed {
            // A program before this one in the same process may have made it.
            if self.groups[group].image == image {
                self.groups[group].part(by, last);
            }
        }
    }

    fn take(&mut self, handle: u64, generation: u64) -> Option<Life> {
        self.handles.get(&handle).filter(|life| life.generation == generation)?;
        self.handles.remove(&handle)
    }

    /// Says whether it was the last one of its call.
    fn end_life(&mut self, handle: u64, life: &Life, time: u64, end: End) -> bool {
        let last = self.calls.release(handle, life.call);
        let group = &mut self.groups[life.group];
        group.release(time, life.number, last, end);
        if life.inode != 0 && !group.has_ended() {
            group.unmap(life.inode);
        }
        let image = group.image;
        if let Some(image) = self.images.get_mut(image) {
            image.live -= 1;
        }
        self.tidy(image);
        last
    }

    fn map(&mut self, mapped: &Mapped) {
        let Some(life) = self.handles.get_mut(&mapped.handle) else { return };
        if life.generation == mapped.generation && life.inode == 0 && mapped.inode != 0 {
            life.inode = mapped.inode;
            self.groups[life.group].map(mapped.inode);
        }
    }

    fn open(&mut self, open: &Open) {
        if open.generation == PREEXISTING {
            return;
        }
        let image = self.images.current(open.tgid);
        // An exec closes descriptors of a copy, where the table is another process's as well.
        if open.moment == Moment::Exec && self.images.is_shared(image) {
            return;
        }
        let Some(life) = self.handles.get_mut(&open.handle).filter(|life| life.generation == open.generation)
        else {
            self.unknown += 1;
            return;
        };
        if image != self.groups[life.group].image {
            self.images.remember(image);
        }
        let held = life.held.get_or_insert_default();
        // A descriptor has more to say of a handle than a mapping does.
        if held.at.is_empty() && life.inode != 0 {
            self.groups[life.group].unmap(life.inode);
            life.inode = 0;
        }
        held.open(image, open);
    }

    fn note_alloc_error(&mut self, alloc_error: &AllocError) {
        let image = self.images.current(alloc_error.tgid);
        let times = u64::from(alloc_error.times);
        let known = self
            .alloc_errors
            .iter_mut()
            .find(|known| known.image == image && known.errno == alloc_error.errno);
        if let Some(known) = known {
            known.times += times;
            return;
        }
        let groups = self.images.get(image).map_or(&[][..], |image| &image.groups);
        let mut top: Vec<(usize, u64)> =
            groups.iter().map(|index| (*index, self.groups[*index].series.live())).collect();
        top.retain(|(_, live)| *live > 0);
        top.sort_by_key(|(index, live)| (std::cmp::Reverse(*live), *index));
        top.truncate(groups::TOP);
        top.iter().for_each(|(index, _)| self.groups[*index].pinned = true);
        let (errno, time, limit) = (alloc_error.errno, alloc_error.time, alloc_error.limit);
        self.alloc_errors.push(AllocErrors { image, errno, times, time, limit, top });
    }

    fn exit(&mut self, tgid: u32, time: u64, how: Leaving) {
        let ended = match how.signal {
            0 => Ended::Status(how.status.into()),
            signal => Ended::Signal(signal.into()),
        };
        let image = self.images.current(tgid);
        if let Some(image) = self.images.get_mut(image) {
            image.limit = how.limit;
        }
        self.end_image(tgid, time, ended);
    }

    fn end_image(&mut self, tgid: u32, time: u64, ended: Ended) {
        self.closes.end(tgid);
        let Some(key) = self.images.end(tgid, time, ended) else { return };
        for member in self.images.leave_table(key) {
            let groups = self.images.get(member).map(|image| image.groups.clone()).unwrap_or_default();
            groups.into_iter().for_each(|index| self.groups[index].end());
            self.tidy(member);
        }
    }

    /// Programs that have ended and left nothing behind are forgotten: a build runs thousands of them.
    fn tidy(&mut self, key: ImageKey) {
        let Some(image) = self.images.get_mut(key) else { return };
        let crowded = self.groups.len() > CROWD;
        let leaves = |index: &usize| self.groups[*index].leaves_something(crowded);
        if image.live > 0 || image.ended.is_none() || image.groups.iter().any(leaves) {
            return;
        }
        // Whether its end has closed that is found out later.
        let parted: u64 = image.groups.iter().map(|index| self.groups[*index].closed_calls()).sum();
        if parted > if crowded { MAX_OF_SCRIPT } else { MAX } {
            return;
        }
        for index in std::mem::take(&mut image.groups) {
            let group = std::mem::replace(&mut self.groups[index], Group::new(key, Call::default()));
            self.by_call.remove(&(key, group.call));
            self.free.push(index);
        }
        if image.peak.0 * 2 <= image.limit.max(1) {
            self.images.forget(key);
        }
    }

    fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Identity(key, identity) => self.images.identify(*key, Arc::clone(identity)),
            Fact::Site(site) => drop(self.sites.insert(site.id, Arc::clone(site))),
            Fact::Belongs { image, call, site } => {
                if let Some(group) = self.by_call.get(&(*image, *call)) {
                    self.groups[*group].site = Some(*site);
                }
            }
            Fact::Described(described) => self.describe(described),
            Fact::Existing(_) => {}
        }
    }

    fn describe(&mut self, described: &Described) {
        if described.generation == PREEXISTING {
            self.existing.entry(described.handle).or_default().describe(described);
            return;
        }
        let Some(life) = self.handles.get_mut(&described.handle) else { return };
        if life.generation == described.generation {
            life.held.get_or_insert_default().describe(described);
        }
    }
}
