//! Who holds what: every reference of every process.

use std::collections::HashMap;

use super::{
    groups::Example,
    holders::mapping_holder,
    processes::{Member, Processes},
};
use crate::{
    holders::{HolderSnapshot, Link},
    model::Holder,
};

/// A reference by which a process holds a handle.
pub(super) struct Held {
    pub(super) handle: u32,
    pub(super) holder: Holder,
    pub(super) example: Option<Example>,
    /// Of a descriptor: its number, and whether exec closes it.
    pub(super) descriptor: Option<(u32, Option<bool>)>,
    /// The first reference of this process to the handle.
    pub(super) first: bool,
}

/// What each process holds through something that it holds.
pub(super) type Carried = HashMap<usize, Vec<(u32, Holder)>>;

impl Processes {
    /// Calls `each` for every reference of every process: those of one process together.
    pub(super) fn each_held(&self, snapshot: &HolderSnapshot, each: impl FnMut(usize, &Held)) {
        let carried = self.carried(snapshot);
        let mut seen = vec![u32::MAX; snapshot.handles.len()];
        self.each_held_by(snapshot, &carried, &mut seen, 0..self.members.len(), each);
    }

    /// The same of some processes. Who asks more than once keeps what is carried, and what was seen: with other processes
    /// each time.
    pub(super) fn each_held_by(
        &self,
        snapshot: &HolderSnapshot,
        carried: &Carried,
        seen: &mut [u32],
        members: impl Iterator<Item = usize>,
        mut each: impl FnMut(usize, &Held),
    ) {
        for index in members {
            let member = &self.members[index];
            let stamp = u32::try_from(index).unwrap_or(u32::MAX);
            let mut tell = |handle: u32, holder, example, descriptor| {
                let first = seen[handle as usize] != stamp;
                seen[handle as usize] = stamp;
                each(index, &Held { handle, holder, example, descriptor, first });
            };
            self.own(snapshot, member, &mut tell);
            for (handle, holder) in carried.get(&index).into_iter().flatten() {
                tell(*handle, *holder, None, None);
            }
        }
    }

    /// References by tables, memory and program.
    fn own(
        &self,
        snapshot: &HolderSnapshot,
        member: &Member,
        tell: &mut impl FnMut(u32, Holder, Option<Example>, Option<(u32, Option<bool>)>),
    ) {
        for table in member.tables.iter().filter_map(|table| self.tables.get(table)) {
            let owner = &snapshot.tables[*table];
            for entry in owner.of(&snapshot.descriptors) {
                let example = Example::Descriptor { thread: owner.thread, fd: entry.fd };
                tell(entry.handle, Holder::Descriptor, Some(example), Some((entry.fd, entry.close_on_exec)));
            }
        }
        for space in member.spaces.iter().filter_map(|space| self.spaces.get(space)) {
            let owner = &snapshot.spaces[*space];
            for mapping in owner.of(&snapshot.mappings) {
                let example =
                    Example::Mapping { thread: owner.thread, start: mapping.start, end: mapping.end };
                tell(mapping.handle, mapping_holder(snapshot, mapping.handle), Some(example), None);
            }
        }
        for executable in member.executables.iter().filter_map(|address| snapshot.place(*address)) {
            tell(executable, Holder::Executable, None, None);
        }
    }

    /// What each process holds through a socket's queue or a ring.
    pub(super) fn carried(&self, snapshot: &HolderSnapshot) -> Carried {
        let mut carried = Carried::new();
        let in_flight =
            snapshot.in_flight.iter().map(|found| (found.handle, found.receiver, Holder::ScmRights));
        let registered = snapshot.registered.iter().map(|found| (found.handle, found.ring, Holder::IoUring));
        let linked =
            snapshot.linked.iter().map(|linked| (linked.handle, linked.through, by_link(linked.link)));
        for (handle, carrier, holder) in in_flight.chain(registered).chain(linked) {
            for index in self.carriers.get(&carrier).into_iter().flatten() {
                carried.entry(*index).or_default().push((handle, holder));
            }
        }
        for (task, ring) in &snapshot.ring_descriptors {
            let owner = snapshot.tasks.get(*task as usize).and_then(|task| self.index.get(&task.tgid));
            if let Some(index) = owner {
                carried.entry(*index).or_default().push((*ring, Holder::IoUring));
            }
        }
        carried
    }

    /// Who holds each socket with something in flight, and each ring: directly, or through another that is in flight or
    /// registered itself.
    pub(super) fn find_carriers(&self, snapshot: &HolderSnapshot) -> HashMap<u32, Vec<usize>> {
        let within: Vec<(u32, u32)> = snapshot
            .in_flight
            .iter()
            .map(|found| (found.handle, found.receiver))
            .chain(snapshot.registered.iter().map(|found| (found.handle, found.ring)))
            .chain(snapshot.linked.iter().map(|linked| (linked.handle, linked.through)))
            .collect();
        let mut carriers: HashMap<u32, Vec<usize>> =
            within.iter().map(|(_, carrier)| (*carrier, Vec::new())).collect();
        if carriers.is_empty() {
            return carriers;
        }
        for (index, member) in self.members.iter().enumerate() {
            let mut note = |handle: u32, _, _, _| {
                if let Some(holders) = carriers.get_mut(&handle)
                    && holders.last() != Some(&index)
                {
                    holders.push(index);
                }
            };
            self.own(snapshot, member, &mut note);
        }
        for (task, ring) in &snapshot.ring_descriptors {
            let owner = snapshot.tasks.get(*task as usize).and_then(|task| self.index.get(&task.tgid));
            if let (Some(index), Some(holders)) = (owner, carriers.get_mut(ring))
                && !holders.contains(index)
            {
                holders.push(*index);
            }
        }
        spread(&mut carriers, &within);
        carriers
    }
}

/// How a process that holds the other handle holds one that it leads to.
const fn by_link(link: Link) -> Holder {
    match link {
        Link::Bpf => Holder::Bpf,
        Link::Namespace => Holder::ShmSegment,
        Link::Peer => Holder::Unknown,
    }
}

/// What is inside another is held by whoever holds that. Sockets may be queued in each other, all round.
fn spread(carriers: &mut HashMap<u32, Vec<usize>>, within: &[(u32, u32)]) {
    let mut inside: HashMap<u32, Vec<u32>> = HashMap::new();
    for (inner, outer) in
        within.iter().filter(|(inner, outer)| inner != outer && carriers.contains_key(inner))
    {
        inside.entry(*outer).or_default().push(*inner);
    }
    let mut changed: Vec<u32> = inside.keys().copied().collect();
    while let Some(outer) = changed.pop() {
        let holders = carriers.get(&outer).cloned().unwrap_or_default();
        for inner in inside.get(&outer).into_iter().flatten() {
            let Some(others) = carriers.get_mut(inner) else { continue };
            let before = others.len();
            others.extend(&holders);
            others.sort_unstable();
            others.dedup();
            if others.len() > before {
                changed.push(*inner);
            }
        }
    }
}

/// The first way in which somebody holds each handle.
pub(super) struct Ways {
    /// By place; `u8::MAX` for one that was not met.
    best: Vec<u8>,
    met: Vec<u32>,
}

impl Ways {
    pub(super) fn new(snapshot: &HolderSnapshot) -> Self {
        Self { best: vec![u8::MAX; snapshot.handles.len()], met: Vec::new() }
    }

    /// Takes in a reference; says whether it is the first to its handle.
    pub(super) fn take(&mut self, held: &Held) -> bool {
        let best = &mut self.best[held.handle as usize];
        let is_new = *best == u8::MAX;
        if is_new {
            self.met.push(held.handle);
        }
        *best = (*best).min(held.holder as u8);
        is_new
    }

    /// Calls `each` for every handle, and forgets them.
    pub(super) fn finish(&mut self, mut each: impl FnMut(u32, Holder)) {
        for handle in self.met.drain(..) {
            let best = std::mem::replace(&mut self.best[handle as usize], u8::MAX);
            each(handle, Holder::ALL[usize::from(best)]);
        }
    }
}
