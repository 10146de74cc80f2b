//! Processes: what belongs to which, and whose it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fdtrace_common::holder_walk::{Task, tag};

use super::{Sharer, references::Held};
use crate::{
    holders::{HolderSnapshot, PF_KTHREAD},
    stream::name_text,
};

/// A limit of descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The next one fails with EMFILE.
    pub soft: u64,
    /// So far the process may raise it.
    pub hard: u64,
}

/// A process.
#[derive(Default)]
pub(super) struct Member {
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) parent: u32,
    pub(super) tables: BTreeSet<u64>,
    pub(super) spaces: BTreeSet<u64>,
    pub(super) credentials: BTreeSet<u64>,
    pub(super) executables: BTreeSet<u64>,
    pub(super) limit: Limit,
    pub(super) started: u64,
    pub(super) threads: u64,
    pub(super) mount_namespace: u32,
    /// The table of the main thread, 0 when that has ended.
    pub(super) main_table: Option<u64>,
}

/// All processes, without their files.
pub(super) struct Processes {
    pub(super) members: Vec<Member>,
    pub(super) index: HashMap<u32, usize>,
    pub(super) tables: HashMap<u64, usize>,
    pub(super) spaces: HashMap<u64, usize>,
    /// Whose credentials are whose.
    credentials: HashMap<u64, usize>,
    /// Which processes hold each handle that holds others: sockets with something in flight, rings.
    pub(super) carriers: HashMap<u32, Vec<usize>>,
}

impl Processes {
    pub(super) fn of(snapshot: &HolderSnapshot) -> Self {
        let mut members: BTreeMap<u32, Member> = BTreeMap::new();
        for task in snapshot.tasks.iter().filter(|task| task.flags & PF_KTHREAD == 0) {
            join(members.entry(task.tgid).or_default(), task);
        }
        let members: Vec<Member> = members.into_values().collect();
        let index = members.iter().enumerate().map(|(index, member)| (member.pid, index)).collect();
        let by_address = |owners: &[crate::holders::Owner]| {
            owners.iter().enumerate().map(|(index, owner)| (owner.address, index)).collect()
        };
        let (tables, spaces) = (by_address(&snapshot.tables), by_address(&snapshot.spaces));
        let credentials = members
            .iter()
            .enumerate()
            .flat_map(|(index, member): (usize, &Member)| {
                member.credentials.iter().map(move |cred| (*cred, index))
            })
            .collect();
        let mut processes = Self { members, index, tables, spaces, credentials, carriers: HashMap::new() };
        processes.carriers = processes.find_carriers(snapshot);
        processes
    }

    /// What lsof would list: the entries that `/proc/PID/fd` shows of each process.
    pub(super) fn lsof_descriptors(&self, snapshot: &HolderSnapshot) -> u64 {
        let tables = self.members.iter().filter_map(|member| member.main_table);
        tables.map(|table| self.length(snapshot, table)).sum()
    }

    /// Handles whose descriptors are in tables that `/proc/PID/fd` shows of nobody: the main threads have ended.
    pub(super) fn behind_dead_threads(&self, snapshot: &HolderSnapshot) -> u64 {
        let visible: BTreeSet<u64> = self.members.iter().filter_map(|member| member.main_table).collect();
        let mut seen = vec![false; snapshot.handles.len()];
        let (shown, unseen): (Vec<_>, Vec<_>) =
            snapshot.tables.iter().partition(|table| visible.contains(&table.address));
        let places = |table: &crate::holders::Owner| {
            table.of(&snapshot.descriptors).iter().map(|entry| entry.handle as usize).collect::<Vec<_>>()
        };
        shown.into_iter().flat_map(places).for_each(|place| seen[place] = true);
        let mut count = 0;
        for place in unseen.into_iter().flat_map(places) {
            count += u64::from(!std::mem::replace(&mut seen[place], true));
        }
        count
    }

    pub(super) const fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn mount_namespace(&self, index: usize) -> u32 {
        self.members[index].mount_namespace
    }

    /// The tables of descriptors of a process.
    pub(super) fn tables_of(&self, index: usize) -> impl Iterator<Item = u64> + '_ {
        self.members[index].tables.iter().copied()
    }

    /// The entries of a table.
    pub(super) fn length(&self, snapshot: &HolderSnapshot, table: u64) -> u64 {
        self.tables.get(&table).map_or(0, |table| snapshot.tables[*table].part.len() as u64)
    }

    pub(super) fn pid(&self, index: usize) -> u32 {
        self.members[index].pid
    }

    pub(super) fn sharer(&self, index: usize, count: u64) -> Sharer {
        let member = &self.members[index];
        Sharer { pid: member.pid, comm: member.comm.clone(), count }
    }

    pub(super) fn by_pid(&self, pid: u32, count: u64) -> Sharer {
        match self.index.get(&pid) {
            Some(index) => self.sharer(*index, count),
            None => Sharer { pid, comm: String::new(), count },
        }
    }

    /// Whether a descriptor came over exec although the program did not ask for it: it is open beyond the standard
    /// streams, exec does not close it, and another program than this one allocated it.
    pub(super) fn is_inherited(&self, snapshot: &HolderSnapshot, index: usize, held: &Held) -> bool {
        let Some((fd, Some(false))) = held.descriptor else { return false };
        let member = &self.members[index];
        let cred = snapshot.handles[held.handle as usize].cred;
        if fd <= 2 || cred == 0 || member.credentials.contains(&cred) {
            return false;
        }
        // What forked without exec shares the program with its parent, and uses what it has.
        match self.owner_of(cred) {
            Some(owner) => self.members[owner].executables.is_disjoint(&member.executables),
            None => false,
        }
    }

    /// The process that has these credentials.
    fn owner_of(&self, cred: u64) -> Option<usize> {
        self.credentials.get(&cred).copied()
    }

    /// Who allocated a handle.
    pub(super) fn allocator(&self, snapshot: &HolderSnapshot, place: u32) -> Option<Sharer> {
        let cred = snapshot.handles[place as usize].cred;
        self.owner_of(cred).filter(|_| cred != 0).map(|owner| self.sharer(owner, 1))
    }

    /// Who allocated a handle, if it was another process.
    pub(super) fn opener(&self, snapshot: &HolderSnapshot, index: usize, place: u32) -> Option<u32> {
        let cred = snapshot.handles[place as usize].cred;
        let is_own = cred == 0 || self.members[index].credentials.contains(&cred);
        if is_own { None } else { self.owner_of(cred).map(|owner| self.members[owner].pid) }
    }
}

fn join(member: &mut Member, task: &Task) {
    let is_main = task.pid == task.tgid;
    // A thread comes again with each walk.
    member.threads += u64::from(task.header.tag == tag::TASK);
    member.pid = task.tgid;
    if task.files != 0 {
        member.tables.insert(task.files);
    }
    if task.mm != 0 {
        member.spaces.insert(task.mm);
    }
    if task.executable != 0 {
        member.executables.insert(task.executable);
    }
    member.credentials.insert(task.cred);
    if is_main || member.comm.is_empty() {
        member.comm = comm(task);
        member.parent = task.parent;
        member.started = task.started;
        member.mount_namespace = task.mount_namespace;
        member.limit = Limit { soft: task.soft_limit, hard: task.hard_limit };
    }
    if is_main {
        member.main_table = Some(task.files);
    }
}

fn comm(task: &Task) -> String {
    name_text(&task.comm)
}
