//! All that is known at one moment, as plain data that can be given away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Births, Counts, Deaths, Fold, Group, GroupId, Handle, Image, Loss, SiteSums};
use crate::{
    model::Identity,
    stream::{self, Call, Cause, Described, Fact, FdLookup, ImageKey, Site, Stats},
};

/// How many kinds of handles can be distinguished.
pub const KIND_SLOTS: usize = 16;

/// The oldest handles of a group that are named.
const OLDEST: usize = 3;

/// The most handles of a group whose descriptors are counted one by one.
const MAX_REPEATED: usize = 1024;

/// All that is known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When, `CLOCK_MONOTONIC` in ns.
    pub now: u64,
    /// What the kernel side had counted by then.
    pub stats: Stats,
    /// What the fold found to be wrong.
    pub loss: Loss,
    /// All that came and went. Lives that were lost in the ring from beginning to end are among them, by the kernel
    /// side's own counters; their cause is unknown.
    pub counts: Counts,
    /// Failed allocations, by error number.
    pub errors: BTreeMap<i32, u64>,
    /// Groups with live handles.
    pub groups: Vec<GroupSnapshot>,
    /// All call sites, with what came and went there; live groups included.
    pub sites: HashMap<u64, SiteSums>,
    /// How old handles became, and how old those are that live; none in brief.
    pub lives: Option<Lives>,
    /// Handles that are pre-existing.
    pub existing: Counts,
    /// Who held those of them that are alive, when tracing began.
    pub existing_by: Vec<(ImageKey, Arc<Identity>, u64)>,
}

/// How old handles became, and how old those are that live; without those that are pre-existing.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    /// Of images that still matter, by group; also of groups of which nothing lives.
    pub groups: Vec<GroupLives>,
    /// Ages at release of groups that are gone, and of lives that were only counted, by site.
    pub closed: Vec<(u64, Deaths)>,
}

/// How old the handles of a group became, and how old those are that live.
#[derive(Clone, Debug)]
pub struct GroupLives {
    /// The image.
    pub image: ImageKey,
    /// The image runs no longer.
    pub ended: bool,
    /// The call site, when it was found out.
    pub site: Option<u64>,
    /// The call that made the handles.
    pub call: Call,
    /// Handles made.
    pub allocated: u64,
    /// Those that were released.
    pub deaths: Deaths,
    /// Those that live.
    pub births: Births,
}

/// Live handles that one image allocated by one stack.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// The image.
    pub image: ImageKey,
    /// What it is.
    pub identity: Arc<Identity>,
    /// The call site, when it was found out.
    pub site: Option<u64>,
    /// The call that made the handles.
    pub call: Call,
    /// What came and went.
    pub counts: Counts,
    /// Live handles of at least the age that was asked for.
    pub aged: u64,
    /// Live handles by kind.
    pub kinds: [u64; KIND_SLOTS],
    /// Live handles to which a descriptor was seen to point.
    pub described_by_descriptor: u64,
    /// Live handles that were seen to be mapped, without those above.
    pub only_mapped: u64,
    /// The call sites that mapped live handles of this group.
    pub mapped_by: Vec<MappedBy>,
    /// The oldest live handles, oldest first.
    pub oldest: Vec<OldHandle>,
    /// The handles that live descriptors of this group repeat, most repeated first; none where it makes handles.
    pub repeats: Vec<Repeated>,
}

/// A call site that mapped handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedBy {
    /// The site, when it was found out.
    pub site: Option<u64>,
    /// The call.
    pub call: Call,
    /// How many live handles.
    pub handles: u64,
    /// One of the processes that mapped one.
    pub tgid: u32,
    /// Where it is in that process's memory; 0 for not known.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
}

impl MappedBy {
    /// Whether it is this call site; without one, this call.
    #[must_use]
    pub fn is_at(&self, site: Option<u64>, call: &Call) -> bool {
        self.site == site && (site.is_some() || self.call == *call)
    }
}

/// A handle to which acquired descriptors point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Its address.
    pub handle: u64,
    /// Its generation; 0 when nobody knows it.
    pub generation: u64,
    /// How many descriptors.
    pub descriptors: u64,
    /// Its kind, 0 for not known.
    pub kind: u8,
    /// Its path, its peer, or what it is.
    pub name: Option<Arc<str>>,
}

/// One of the oldest handles of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldHandle {
    /// Its address.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// The thread that allocated it.
    pub tid: u32,
    /// Its kind, 0 for not known.
    pub kind: u8,
    /// Its path, its peer, or what it is.
    pub name: Option<Arc<str>>,
    /// A process with a descriptor for it, and the descriptor.
    pub descriptor: FdLookup,
    /// It was seen to be mapped.
    pub mapped: bool,
    /// Of a descriptor that was acquired: the handle that it points to.
    pub of: Option<u64>,
}

impl Snapshot {
    /// What a fold knows at a moment; handles of at least `min_age_ns` are counted apart.
    #[must_use]
    pub fn of(fold: &Fold, now: u64, min_age_ns: u64) -> Self {
        Self {
            now,
            stats: *fold.stats(),
            loss: fold.loss(),
            counts: counts(fold),
            errors: fold.errors().clone(),
            groups: groups(fold, now.saturating_sub(min_age_ns)),
            sites: sites(fold),
            lives: Some(lives(fold, now)),
            existing: fold.existing(),
            existing_by: existing_by(fold),
        }
    }
}

impl Snapshot {
    /// The same in brief, for a history: nothing of single handles, nothing of sites.
    #[must_use]
    pub fn brief(fold: &Fold, now: u64) -> Self {
        Self {
            now,
            stats: *fold.stats(),
            loss: fold.loss(),
            counts: counts(fold),
            errors: BTreeMap::new(),
            groups: fold.live_groups().map(|(_, group)| snapshot(fold, group)).collect(),
            sites: HashMap::new(),
            lives: None,
            existing: fold.existing(),
            existing_by: Vec::new(),
        }
    }

    /// Bytes of memory that a document of it takes, which shares no text: neither those of a process that has many groups,
    /// nor the stacks that map what others opened.
    pub(crate) fn weight_of_a_document(&self) -> u64 {
        const ROW: usize = 512;
        let stack =
            |id: u64| self.sites.get(&id).and_then(|sums| sums.site.as_deref()).map_or(0, Site::weight);
        let group = |group: &GroupSnapshot| {
            let names = group.oldest.iter().map(|old| old.name.as_deref().map_or(0, str::len));
            let mapped = group.mapped_by.iter().map(|by| ROW + by.site.map_or(0, stack));
            ROW + group.identity.weight() + names.chain(mapped).sum::<usize>()
        };
        let sites = self.sites.keys().map(|id| ROW + stack(*id));
        let existing = self.existing_by.iter().map(|(_, identity, _)| ROW + identity.comm.len());
        self.groups.iter().map(group).chain(sites).chain(existing).map(|bytes| bytes as u64).sum()
    }

    /// Adds what was found out about single handles since.
    pub fn learn(&mut self, facts: &[Fact]) {
        let described: HashMap<(u64, u64), &Described> = facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Described(found) => Some(((found.handle, found.generation), found)),
                _ => None,
            })
            .collect();
        for group in &mut self.groups {
            group.learn_repeated(&described);
            for old in &mut group.oldest {
                let Some(found) = described.get(&(old.handle, old.generation)) else { continue };
                let first = old.descriptor.found().is_none() && found.descriptor.found().is_some();
                group.described_by_descriptor += u64::from(first);
                group.only_mapped -= u64::from(first && old.mapped);
                (old.name, old.descriptor) = (found.name.clone(), found.descriptor);
            }
        }
    }
}

/// One moment's sums, so that what lives is always what was allocated less what was released: they come from the fold.
/// What the fold cannot know, because both ends of a life were lost, is what the kernel side has counted beyond it.
fn counts(fold: &Fold) -> Counts {
    let (mut counts, stats) = (fold.counts(), fold.stats());
    let mut short_lived = Counts { allocated: stats.short_lived, ..Counts::default() };
    short_lived.released_by[Cause::Close as usize] = stats.short_lived;
    short_lived.never_opened = stats.short_lived_never_opened;
    counts.add(&short_lived);
    if stats.lost_events > 0 {
        let unseen = stats.allocated.saturating_sub(counts.allocated).saturating_sub(stats.young);
        let mut unknown = Counts { allocated: unseen, ..Counts::default() };
        unknown.released_by[Cause::Unknown as usize] = unseen;
        counts.add(&unknown);
        counts.never_opened = counts.never_opened.max(stats.never_opened);
    }
    counts
}

/// Handles allocated at `aged_before` or earlier count as aged.
fn groups(fold: &Fold, aged_before: u64) -> Vec<GroupSnapshot> {
    let mut groups: BTreeMap<GroupId, GroupSnapshot> =
        fold.live_groups().map(|(id, group)| (id, snapshot(fold, group))).collect();
    // One pass over the table: a slot per group is cheaper than a search per handle.
    let mut slots: Vec<Option<&mut GroupSnapshot>> = Vec::new();
    for (id, group) in &mut groups {
        slots.resize_with(*id as usize + 1, || None);
        slots[*id as usize] = Some(group);
    }
    for (address, handle) in fold.table().iter() {
        if let Some(Some(group)) = slots.get_mut(handle.group as usize) {
            group.aged += u64::from(handle.generation <= aged_before);
            group.count(fold, address, handle);
        }
    }
    groups.values_mut().for_each(GroupSnapshot::keep_most_repeated);
    groups.into_values().collect()
}

fn name_of(fold: &Fold, handle: u64) -> Option<Arc<str>> {
    fold.details().get(handle)?.name.clone()
}

fn lives(fold: &Fold, now: u64) -> Lives {
    let mut groups: Vec<GroupLives> = Vec::new();
    let mut slots: Vec<Option<usize>> = Vec::new();
    for (id, group) in fold.groups().filter(|(_, group)| !group.existing) {
        slots.resize(id as usize + 1, None);
        slots[id as usize] = Some(groups.len());
        groups.push(group_lives(fold, group, now));
    }
    for (_, handle) in fold.table().iter() {
        if let Some(Some(index)) = slots.get(handle.group as usize) {
            groups[*index].births.add(handle.generation);
        }
    }
    let closed = fold.sites().iter().map(|(id, sums)| (id, sums.deaths));
    Lives { groups, closed: closed.filter(|(_, deaths)| deaths.total() > 0).collect() }
}

fn group_lives(fold: &Fold, group: &Group, now: u64) -> GroupLives {
    let image = fold.image(group.image);
    GroupLives {
        image: image.key,
        ended: image.ended,
        site: group.site,
        call: group.call,
        allocated: group.counts.allocated,
        deaths: group.deaths,
        births: Births::at(now),
    }
}

fn snapshot(fold: &Fold, group: &Group) -> GroupSnapshot {
    let image = fold.image(group.image);
    GroupSnapshot {
        image: image.key,
        identity: identity(image),
        site: group.site,
        call: group.call,
        counts: group.counts,
        aged: 0,
        kinds: [0; KIND_SLOTS],
        described_by_descriptor: 0,
        only_mapped: 0,
        mapped_by: Vec::new(),
        oldest: Vec::new(),
        repeats: Vec::new(),
    }
}

/// What was found out of an image, or else what its events said.
fn identity(image: &Image) -> Arc<Identity> {
    if let Some(known) = &image.identity {
        return Arc::clone(known);
    }
    Arc::new(Identity {
        comm: stream::name_text(&image.comm.unwrap_or_default()),
        exe: String::from_utf8_lossy(image.path.as_deref().unwrap_or_default()).into_owned(),
        cgroup: String::new(),
    })
}

fn sites(fold: &Fold) -> HashMap<u64, SiteSums> {
    let mut sites: HashMap<u64, SiteSums> =
        fold.sites().iter().map(|(id, sums)| (id, sums.clone())).collect();
    for (_, group) in fold.groups().filter(|(_, group)| !group.existing) {
        if let Some(site) = group.site {
            sites.entry(site).or_default().closed.add(&group.counts);
        }
    }
    sites
}

fn existing_by(fold: &Fold) -> Vec<(ImageKey, Arc<Identity>, u64)> {
    fold.groups()
        .filter(|(_, group)| group.existing && group.counts.live() > 0)
        .map(|(_, group)| {
            let image = fold.image(group.image);
            (image.key, identity(image), group.counts.live())
        })
        .collect()
}

impl GroupSnapshot {
    fn count(&mut self, fold: &Fold, address: u64, handle: Handle) {
        let of = fold.repeated_by(address);
        let kind = match of {
            Some(of) => self.count_repeated(fold, address, handle, of),
            None => handle.kind,
        };
        if let Some(slot) = self.kinds.get_mut(usize::from(kind)) {
            *slot += 1;
        }
        let detail = fold.details().get(address);
        if let Some(detail) = detail {
            let has_descriptor = detail.descriptor.found().is_some();
            self.described_by_descriptor += u64::from(has_descriptor);
            self.only_mapped += u64::from(!has_descriptor && detail.mapping.is_some());
            if let Some(mapping) = &detail.mapping {
                self.count_mapping(fold, mapping);
            }
        }
        let generation = handle.generation;
        if self.oldest.len() == OLDEST && self.oldest[OLDEST - 1].generation <= generation {
            return;
        }
        let place = self.oldest.partition_point(|old| old.generation <= generation);
        let old = OldHandle {
            handle: address,
            generation,
            tid: handle.tid,
            kind,
            name: detail.and_then(|detail| detail.name.clone()).or_else(|| name_of(fold, of?)),
            descriptor: detail.map_or(FdLookup::NotYet, |detail| detail.descriptor),
            mapped: detail.is_some_and(|detail| detail.mapping.is_some()),
            of,
        };
        self.oldest.insert(place, old);
        self.oldest.truncate(OLDEST);
    }

    /// One more descriptor of a handle; says what that is.
    fn count_repeated(&mut self, fold: &Fold, key: u64, descriptor: Handle, of: u64) -> u8 {
        // The handle may be gone, and another at its address, until somebody finds out that the descriptor was closed.
        let known = fold.table().get(of).filter(|known| known.generation < descriptor.generation);
        let kind = known.map(|known| known.kind).filter(|kind| *kind != 0).unwrap_or(descriptor.kind);
        if let Some(repeat) = self.repeats.iter_mut().find(|repeat| repeat.handle == of) {
            repeat.descriptors += 1;
        } else if self.repeats.len() < MAX_REPEATED {
            let own = || fold.details().get(key)?.name.clone();
            let name = known.and_then(|_| name_of(fold, of)).or_else(own);
            let generation = known.map_or(0, |known| known.generation);
            self.repeats.push(Repeated { handle: of, generation, descriptors: 1, kind, name });
        }
        kind
    }

    fn keep_most_repeated(&mut self) {
        self.repeats.sort_by_key(|repeat| (std::cmp::Reverse(repeat.descriptors), repeat.handle));
        self.repeats.truncate(OLDEST);
    }

    fn learn_repeated(&mut self, described: &HashMap<(u64, u64), &Described>) {
        for repeat in &mut self.repeats {
            let Some(found) = described.get(&(repeat.handle, repeat.generation)) else { continue };
            (repeat.kind, repeat.name) = (found.kind as u8, found.name.clone());
            for old in self.oldest.iter_mut().filter(|old| old.of == Some(repeat.handle)) {
                (old.kind, old.name) = (repeat.kind, repeat.name.clone());
            }
        }
    }

    fn count_mapping(&mut self, fold: &Fold, mapping: &super::Mapping) {
        let group = fold.group_at(mapping.group);
        if let Some(known) = self.mapped_by.iter_mut().find(|known| known.is_at(group.site, &group.call)) {
            known.handles += 1;
            return;
        }
        self.mapped_by.push(MappedBy {
            site: group.site,
            call: group.call,
            handles: 1,
            tgid: mapping.tgid,
            address: mapping.address,
            length: mapping.length,
        });
    }
}
