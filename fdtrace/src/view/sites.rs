//! From groups of handles to call sites.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fdtrace_common::hash;

use crate::{
    handles::{Counts, GroupSnapshot, MappedBy, OldHandle, Repeated, SiteSums, Snapshot},
    model::{Holder, Identity, Kind, Origin},
    stacks,
    stream::{Call, ImageKey, Site, UserStack},
};

/// Which sites are shown.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only sites with live handles of these kinds; empty for all.
    pub kinds: Vec<Kind>,
    /// Only sites of these origins; empty for all.
    pub origins: Vec<Origin>,
    /// Only sites with a live handle at least as old, in ns; and only such handles count.
    pub min_age_ns: u64,
    /// Also sites of which nothing lives.
    pub closed_too: bool,
    /// Only handles that these processes allocated; empty for all.
    pub pids: Vec<u32>,
    /// Only handles of processes of this name.
    pub comm: Option<String>,
    /// Only handles of processes in this cgroup or below it.
    pub cgroup: Option<String>,
}

impl Selection {
    /// Whether handles of this process are wanted.
    fn admits(&self, pid: u32, identity: &Identity) -> bool {
        let below = |wanted: &String| {
            identity
                .cgroup
                .strip_prefix(wanted.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        (self.pids.is_empty() || self.pids.contains(&pid))
            && self.comm.as_ref().is_none_or(|comm| *comm == identity.comm)
            && self.cgroup.as_ref().is_none_or(below)
    }

    fn is_by_process(&self) -> bool {
        !self.pids.is_empty() || self.comm.is_some() || self.cgroup.is_some()
    }
}

/// Handles of one site.
pub(super) struct SiteGroups {
    pub(super) site: Arc<Site>,
    pub(super) counts: Counts,
    pub(super) live: u64,
    pub(super) aged: u64,
    pub(super) kinds: BTreeMap<Kind, u64>,
    pub(super) holders: BTreeMap<Holder, u64>,
    pub(super) mapped_by: Vec<MappedBy>,
    pub(super) repeats: Vec<Repeated>,
    pub(super) oldest: Vec<(u32, OldHandle)>,
    pub(super) processes: HashMap<ImageKey, SiteProcess>,
}

/// A process with handles of a site.
#[derive(Clone)]
pub(super) struct SiteProcess {
    pub(super) pid: u32,
    pub(super) identity: Arc<Identity>,
    pub(super) live: u64,
    /// Handles that it made in groups with live ones.
    pub(super) allocated: u64,
}

/// The sites of a snapshot: those with live handles, and those that ever had any.
pub(super) fn sites(snapshot: &Snapshot, selection: &Selection) -> HashMap<u64, SiteGroups> {
    // What is gone is known by site, not by process.
    let all = !selection.is_by_process();
    let closed = |sums: &SiteSums| if all { sums.closed } else { Counts::default() };
    let mut sites: HashMap<u64, SiteGroups> = snapshot
        .sites
        .iter()
        .filter_map(|(id, sums)| Some((*id, SiteGroups::new(Arc::clone(sums.site.as_ref()?), closed(sums)))))
        .collect();
    let admitted = |group: &&GroupSnapshot| all || selection.admits(group.image.tgid, &group.identity);
    for group in snapshot.groups.iter().filter(admitted) {
        let id = site_id(group);
        let site =
            sites.entry(id).or_insert_with(|| SiteGroups::new(unplaced(id, &group.call), Counts::default()));
        site.add(group, all);
    }
    sites
}

/// The site of a group, or one that stands for all of its origin of which nothing was found out.
pub(super) fn site_id(group: &GroupSnapshot) -> u64 {
    id_of(group.site, &group.call)
}

/// The id under which a document has the handles that a call made, whose site was found out or not.
#[must_use]
pub fn id_of(site: Option<u64>, call: &Call) -> u64 {
    site.unwrap_or_else(|| unplaced_id(call))
}

/// Who mapped handles, when their site is not known: by the call alone.
pub(super) fn site_of(snapshot: &Snapshot, site: Option<u64>, call: &Call) -> Arc<Site> {
    site.and_then(|id| snapshot.sites.get(&id)?.site.clone())
        .unwrap_or_else(|| unplaced(unplaced_id(call), call))
}

/// The site of groups of which nothing was found out: the trace ended too early, or the stack was lost.
fn unplaced(id: u64, call: &Call) -> Arc<Site> {
    Arc::new(Site { id, origin: stacks::origin(&[], call), kernel: Vec::new(), user: UserStack::default() })
}

fn unplaced_id(call: &Call) -> u64 {
    let text = stacks::origin(&[], call).name().bytes();
    hash::finish(text.fold(hash::mix(hash::SEED, 2), |hash, byte| hash::mix(hash, byte.into())))
}

impl SiteGroups {
    fn new(site: Arc<Site>, counts: Counts) -> Self {
        Self {
            site,
            counts,
            live: 0,
            aged: 0,
            kinds: BTreeMap::new(),
            holders: BTreeMap::new(),
            mapped_by: Vec::new(),
            repeats: Vec::new(),
            oldest: Vec::new(),
            processes: HashMap::new(),
        }
    }

    fn add(&mut self, group: &GroupSnapshot, counted: bool) {
        if !counted || group.site.is_none_or(|id| id != self.site.id) {
            self.counts.add(&group.counts);
        }
        self.live += group.counts.live();
        self.aged += group.aged;
        for (number, count) in (0..).zip(group.kinds).filter(|(_, count)| *count > 0) {
            *self.kinds.entry(Kind::from_number(number)).or_default() += count;
        }
        self.add_holders(group);
        self.add_mappings(&group.mapped_by);
        self.add_repeats(&group.repeats);
        self.oldest.extend(group.oldest.iter().map(|old| (group.image.tgid, old.clone())));
        self.oldest.sort_by_key(|(_, old)| (old.generation, old.handle));
        self.oldest.truncate(3);
        let identity = Arc::clone(&group.identity);
        let process = self.processes.entry(group.image).or_insert(SiteProcess {
            pid: group.image.tgid,
            identity,
            live: 0,
            allocated: 0,
        });
        process.live += group.counts.live();
        process.allocated += group.counts.allocated;
    }

    /// An attach of a segment lives as long as it is attached, and nobody can have a descriptor for it.
    fn add_holders(&mut self, group: &GroupSnapshot) {
        let live = group.counts.live();
        if self.site.origin == Origin::ShmAttach {
            *self.holders.entry(Holder::ShmAttach).or_default() += live;
            return;
        }
        let known = group.described_by_descriptor + group.only_mapped;
        let counts = [
            (Holder::Descriptor, group.described_by_descriptor),
            (Holder::Mapping, group.only_mapped),
            (Holder::Unknown, live.saturating_sub(known)),
        ];
        for (holder, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            *self.holders.entry(holder).or_default() += count;
        }
    }

    fn add_mappings(&mut self, mappings: &[MappedBy]) {
        for mapping in mappings {
            match self.mapped_by.iter_mut().find(|known| known.is_at(mapping.site, &mapping.call)) {
                Some(known) => known.handles += mapping.handles,
                None => self.mapped_by.push(*mapping),
            }
        }
        self.mapped_by.sort_by_key(|mapping| std::cmp::Reverse(mapping.handles));
    }

    fn add_repeats(&mut self, repeats: &[Repeated]) {
        for repeat in repeats {
            match self.repeats.iter_mut().find(|known| known.handle == repeat.handle) {
                Some(known) => known.descriptors += repeat.descriptors,
                None => self.repeats.push(repeat.clone()),
            }
        }
    }

    /// Descriptors that live handles take, or of which there are so many.
    pub(super) fn descriptors(&self, live: u64) -> u64 {
        let takes =
            !matches!(self.site.origin, Origin::ShmAttach | Origin::Kernel | Origin::Overlay | Origin::Exec);
        let hidden = self.holders.get(&Holder::Mapping).copied().unwrap_or(0);
        if takes { live.saturating_sub(hidden) } else { 0 }
    }

    /// Descriptors that it could not have, as far as it was reported.
    pub(super) fn refused(&self) -> u64 {
        if self.site.origin.is_acquisition() { self.counts.never_opened } else { 0 }
    }

    /// Whether the site is to be shown.
    pub(super) fn is_selected(&self, selection: &Selection) -> bool {
        (selection.origins.is_empty() || selection.origins.contains(&self.site.origin))
            && (selection.kinds.is_empty()
                || selection.kinds.iter().any(|kind| self.kinds.contains_key(kind)))
            && (self.aged > 0 || self.refused() > 0 || selection.closed_too)
    }
}
