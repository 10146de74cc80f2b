//! Processes by what they belong to. What two of them share counts once.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use super::{
    Focus, PerHolder, Sharer,
    holders::Attribution,
    processes::Processes,
    references::{Held, Ways},
};
use crate::holders::HolderSnapshot;

/// Processes that belong together, and what they hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessGroup {
    /// What they belong to.
    pub name: String,
    /// Different handles that they hold.
    pub handles: u64,
    /// Entries of their tables, each table once.
    pub descriptors: u64,
    /// Of the handles, those to which no descriptor of any process points.
    pub hidden: u64,
    /// The handles, each under the first way in which any of them holds it.
    pub by_holder: PerHolder,
    /// How many processes hold something.
    pub processes: u64,
    /// The process with most handles.
    pub largest: Option<Sharer>,
}

/// Gathers processes by the name of what they belong to, of which `name` says the one of a process, given its mount
/// namespace.
pub fn process_groups(
    snapshot: &HolderSnapshot,
    focus: &Focus,
    name: impl Fn(&Sharer, u32) -> String,
) -> Vec<ProcessGroup> {
    let processes = Processes::of(snapshot);
    let attribution = Attribution::of(snapshot);
    let inside = focus.places(snapshot, &attribution, &processes);
    let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for index in 0..processes.len() {
        let sharer = processes.sharer(index, 0);
        if focus.admits_process(sharer.pid) {
            members.entry(name(&sharer, processes.mount_namespace(index))).or_default().push(index);
        }
    }
    let carried = processes.carried(snapshot);
    let mut seen = vec![u32::MAX; snapshot.handles.len()];
    let mut ways = Ways::new(snapshot);
    let mut process_groups: Vec<ProcessGroup> = members
        .into_iter()
        .map(|(name, members)| {
            let mut counting = Counting { ways: &mut ways, own: BTreeMap::new() };
            processes.each_held_by(snapshot, &carried, &mut seen, members.iter().copied(), |index, held| {
                if inside(held.handle) {
                    counting.take(index, held);
                }
            });
            ProcessGroup {
                name,
                descriptors: processes.entries(snapshot, &members),
                ..counting.finish(&processes, &attribution)
            }
        })
        .filter(|party| party.handles > 0)
        .collect();
    process_groups
        .sort_by(|one, other| (Reverse(one.handles), &one.name).cmp(&(Reverse(other.handles), &other.name)));
    process_groups
}

struct Counting<'a> {
    /// How any of them holds each handle.
    ways: &'a mut Ways,
    /// The handles that each process holds.
    own: BTreeMap<usize, u64>,
}

impl Counting<'_> {
    fn take(&mut self, index: usize, held: &Held) {
        *self.own.entry(index).or_default() += u64::from(held.first);
        self.ways.take(held);
    }

    fn finish(self, processes: &Processes, attribution: &Attribution) -> ProcessGroup {
        let largest = self.own.iter().max_by_key(|(index, own)| (**own, Reverse(**index)));
        let mut party = ProcessGroup {
            processes: self.own.len() as u64,
            largest: largest.map(|(index, own)| processes.sharer(*index, *own)),
            ..ProcessGroup::default()
        };
        self.ways.finish(|handle, holder| {
            party.handles += 1;
            party.by_holder.add(holder, 1);
            party.hidden += u64::from(attribution.is_hidden(handle));
        });
        party
    }
}

impl Processes {
    /// Entries of the tables of some processes, each table once.
    fn entries(&self, snapshot: &HolderSnapshot, members: &[usize]) -> u64 {
        let tables: HashSet<u64> = members.iter().flat_map(|index| self.tables_of(*index)).collect();
        tables.iter().map(|table| self.length(snapshot, *table)).sum()
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::Task;

    use super::*;
    use crate::{
        holders::{Descriptor, Handle, Mapping, Owner},
        model::{Holder, Kind},
    };

    /// Processes 1 and 2 share a table; 3 maps one of its handles, and one of its own.
    fn snapshot() -> HolderSnapshot {
        let mut snapshot = HolderSnapshot::default();
        for name in ["a", "b", "c"] {
            let handle = Handle::by_link(Kind::Regular, 7, 1, name.as_bytes(), &mut snapshot.names);
            snapshot.handles.push(handle);
        }
        let task = |pid, files, mm| Task { pid, tgid: pid, files, mm, mount_namespace: 9, ..Task::default() };
        snapshot.tasks = vec![task(1, 10, 0), task(2, 10, 0), task(3, 0, 30), task(4, 0, 0)];
        let entry = |fd, handle| Descriptor { handle, fd, close_on_exec: None };
        snapshot.descriptors = vec![entry(3, 0), entry(4, 0), entry(5, 1)];
        snapshot.tables = vec![Owner { address: 10, tgid: 1, thread: 1, part: 0..3 }];
        let mapping = |handle| Mapping { handle, start: 4096, end: 8192 };
        snapshot.mappings = vec![mapping(1), mapping(2)];
        snapshot.spaces = vec![Owner { address: 30, tgid: 3, thread: 3, part: 0..2 }];
        snapshot
    }

    #[test]
    fn what_is_shared_counts_once() {
        let all = process_groups(&snapshot(), &Focus::default(), |_, namespace| format!("mnt:[{namespace}]"));
        let [party] = &all[..] else { panic!("{all:?}") };
        assert_eq!((party.name.as_str(), party.handles, party.descriptors), ("mnt:[9]", 3, 3));
        assert_eq!((party.hidden, party.processes), (1, 3), "the fourth process holds nothing");
        assert_eq!((party.by_holder.of(Holder::Descriptor), party.by_holder.of(Holder::Mapping)), (2, 1));
        assert_eq!(party.largest.as_ref().map(|largest| (largest.pid, largest.count)), Some((1, 2)));
    }

    #[test]
    fn groups_do_not_see_each_other() {
        let odd = |sharer: &Sharer| (sharer.pid % 2 == 1).to_string();
        let found = process_groups(&snapshot(), &Focus::default(), |sharer, _| odd(sharer));
        let sums: Vec<_> =
            found.iter().map(|party| (party.name.as_str(), party.handles, party.hidden)).collect();
        assert_eq!(sums, [("true", 3, 1), ("false", 2, 0)]);
        let focus = Focus { pids: vec![3], ..Focus::default() };
        let found = process_groups(&snapshot(), &focus, |sharer, _| odd(sharer));
        assert_eq!((found.len(), found[0].handles, found[0].descriptors), (1, 2, 0));
    }
}
