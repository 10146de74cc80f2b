//! Who holds what.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use fdtrace_common::census::Task;

use super::{
    Group, Holder, Paths, PerHolder, Sharer,
    focus::Focus,
    groups::{Example, Keys},
    holders::{Attribution, mapping_holder},
    paths::Namer,
};
use crate::census::{Census, Handle, PF_KTHREAD};

/// The most descriptors that a group names.
const FDS: usize = 8;
/// The most groups that are kept of one process while it is read: a process may have a million different files.
pub(super) const MOST_GROUPS: usize = 20_000;

/// A limit of descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The next one fails with EMFILE.
    pub soft: u64,
    /// So far the process may raise it.
    pub hard: u64,
}

/// A process and what it holds.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its parent.
    pub parent: u32,
    /// When it was started, in ns since the machine was; 0 where that is not known.
    pub started: u64,
    /// Different handles that it holds in any way.
    pub handles: u64,
    /// Entries of its tables.
    pub descriptors: u64,
    /// Of its handles, those to which no descriptor of any process points.
    pub hidden: u64,
    /// Its limit, and how much of it is used up: entries of its fullest table.
    pub limit: Limit,
    /// See there.
    pub used: u64,
    /// Its handles, each under the first way in which this process holds it.
    pub by_holder: PerHolder,
    /// What they are; at most [`Focus::groups`].
    pub files: Vec<Group>,
    /// What is in no group that is shown: groups, and handles that found none.
    pub files_left_out: u64,
    /// Its main thread has ended and others go on: `/proc/PID/fd` is empty.
    pub main_thread_is_gone: bool,
    /// It lives in a PID namespace of its own, or a mount namespace: the number of the latter.
    pub mount_namespace: u32,
}

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

#[derive(Default)]
struct Member {
    pid: u32,
    comm: String,
    parent: u32,
    tables: BTreeSet<u64>,
    spaces: BTreeSet<u64>,
    credentials: BTreeSet<u64>,
    executables: BTreeSet<u64>,
    limit: Limit,
    started: u64,
    mount_namespace: u32,
    /// The table of the main thread, 0 when that has ended.
    main_table: Option<u64>,
}

/// All processes, without their files.
pub(super) struct Processes {
    members: Vec<Member>,
    index: HashMap<u32, usize>,
    tables: HashMap<u64, usize>,
    spaces: HashMap<u64, usize>,
    /// Whose credentials are whose.
    credentials: HashMap<u64, usize>,
    /// Which processes hold each handle that holds others: sockets with something in flight, rings.
    carriers: HashMap<u32, Vec<usize>>,
}

impl Processes {
    pub(super) fn of(census: &Census) -> Self {
        let mut members: BTreeMap<u32, Member> = BTreeMap::new();
        for task in census.tasks.iter().filter(|task| task.flags & PF_KTHREAD == 0) {
            join(members.entry(task.tgid).or_default(), task);
        }
        let members: Vec<Member> = members.into_values().collect();
        let index = members.iter().enumerate().map(|(index, member)| (member.pid, index)).collect();
        let by_address = |owners: &[crate::census::Owner]| {
            owners.iter().enumerate().map(|(index, owner)| (owner.address, index)).collect()
        };
        let (tables, spaces) = (by_address(&census.tables), by_address(&census.spaces));
        let credentials = members
            .iter()
            .enumerate()
            .flat_map(|(index, member): (usize, &Member)| {
                member.credentials.iter().map(move |cred| (*cred, index))
            })
            .collect();
        let mut processes = Self { members, index, tables, spaces, credentials, carriers: HashMap::new() };
        processes.carriers = processes.find_carriers(census);
        processes
    }

    /// What lsof would list: the entries that `/proc/PID/fd` shows of each process.
    pub(super) fn lsof_descriptors(&self, census: &Census) -> u64 {
        let entries = |member: &Member| {
            let table = self.tables.get(&member.main_table?)?;
            Some(census.tables[*table].part.len() as u64)
        };
        self.members.iter().filter_map(entries).sum()
    }

    /// Handles whose descriptors are in tables that `/proc/PID/fd` shows of nobody: the main threads have ended.
    pub(super) fn behind_dead_threads(&self, census: &Census) -> u64 {
        let visible: BTreeSet<u64> = self.members.iter().filter_map(|member| member.main_table).collect();
        let mut seen = vec![false; census.handles.len()];
        let (shown, unseen): (Vec<_>, Vec<_>) =
            census.tables.iter().partition(|table| visible.contains(&table.address));
        let places = |table: &crate::census::Owner| {
            table.of(&census.descriptors).iter().map(|entry| entry.handle as usize).collect::<Vec<_>>()
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
    pub(super) fn length(&self, census: &Census, table: u64) -> u64 {
        self.tables.get(&table).map_or(0, |table| census.tables[*table].part.len() as u64)
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

    /// Calls `each` for every reference of every process: those of one process together.
    pub(super) fn each_held(&self, census: &Census, each: impl FnMut(usize, &Held)) {
        let carried = self.carried(census);
        let mut seen = vec![u32::MAX; census.handles.len()];
        self.each_held_by(census, &carried, &mut seen, 0..self.members.len(), each);
    }

    /// The same of some processes. Who asks more than once keeps what is carried, and what was seen: with other processes
    /// each time.
    pub(super) fn each_held_by(
        &self,
        census: &Census,
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
            self.own(census, member, &mut tell);
            for (handle, holder) in carried.get(&index).into_iter().flatten() {
                tell(*handle, *holder, None, None);
            }
        }
    }

    /// References by tables, memory and program.
    fn own(
        &self,
        census: &Census,
        member: &Member,
        tell: &mut impl FnMut(u32, Holder, Option<Example>, Option<(u32, Option<bool>)>),
    ) {
        let pid = member.pid;
        for table in member.tables.iter().filter_map(|table| self.tables.get(table)) {
            for entry in census.tables[*table].of(&census.descriptors) {
                let example = Example::Descriptor { pid, fd: entry.fd };
                tell(entry.handle, Holder::Descriptor, Some(example), Some((entry.fd, entry.close_on_exec)));
            }
        }
        for space in member.spaces.iter().filter_map(|space| self.spaces.get(space)) {
            for mapping in census.spaces[*space].of(&census.mappings) {
                let example = Example::Mapping { pid, start: mapping.start, end: mapping.end };
                tell(mapping.handle, mapping_holder(census, mapping.handle), Some(example), None);
            }
        }
        for executable in member.executables.iter().filter_map(|address| census.place(*address)) {
            tell(executable, Holder::Executable, None, None);
        }
    }

    /// What each process holds through a socket's queue or a ring.
    pub(super) fn carried(&self, census: &Census) -> Carried {
        let mut carried = Carried::new();
        let in_flight =
            census.in_flight.iter().map(|found| (found.handle, found.receiver, Holder::ScmRights));
        let registered = census.registered.iter().map(|found| (found.handle, found.ring, Holder::IoUring));
        for (handle, carrier, holder) in in_flight.chain(registered) {
            for index in self.carriers.get(&carrier).into_iter().flatten() {
                carried.entry(*index).or_default().push((handle, holder));
            }
        }
        for (task, ring) in &census.ring_descriptors {
            let owner = census.tasks.get(*task as usize).and_then(|task| self.index.get(&task.tgid));
            if let Some(index) = owner {
                carried.entry(*index).or_default().push((*ring, Holder::IoUring));
            }
        }
        carried
    }

    /// Who holds each socket with something in flight, and each ring: directly, or through another that is in flight or
    /// registered itself.
    fn find_carriers(&self, census: &Census) -> HashMap<u32, Vec<usize>> {
        let within: Vec<(u32, u32)> = census
            .in_flight
            .iter()
            .map(|found| (found.handle, found.receiver))
            .chain(census.registered.iter().map(|found| (found.handle, found.ring)))
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
            self.own(census, member, &mut note);
        }
        for (task, ring) in &census.ring_descriptors {
            let owner = census.tasks.get(*task as usize).and_then(|task| self.index.get(&task.tgid));
            if let (Some(index), Some(holders)) = (owner, carriers.get_mut(ring))
                && !holders.contains(index)
            {
                holders.push(*index);
            }
        }
        inherit(&mut carriers, &within);
        carriers
    }

    /// The processes inside the focus, with their files.
    pub(super) fn assemble<'a>(
        &'a self,
        census: &'a Census,
        attribution: &'a Attribution,
        inside: &dyn Fn(u32) -> bool,
        focus: &Focus,
        paths: &'a mut dyn Paths,
    ) -> Vec<Process> {
        let mut builder = Builder {
            processes: self,
            census,
            attribution,
            keys: Keys::default(),
            namer: Namer::new(paths),
            most: focus.groups,
            remember: focus.places,
            current: None,
            done: Vec::new(),
            best: vec![u8::MAX; census.handles.len()],
        };
        self.each_held(census, |index, held| {
            if inside(held.handle) && focus.admits_process(self.members[index].pid) {
                builder.take(index, held, focus.is_inherited_only());
            }
        });
        builder.finish();
        let mut done = builder.done;
        done.sort_by_key(|process| (Reverse(process.handles), process.pid));
        done
    }

    /// Whether a descriptor came over exec although the program did not ask for it: it is open beyond the standard
    /// streams, exec does not close it, and another program than this one allocated it.
    pub(super) fn is_inherited(&self, census: &Census, index: usize, held: &Held) -> bool {
        let Some((fd, Some(false))) = held.descriptor else { return false };
        let member = &self.members[index];
        let cred = census.handles[held.handle as usize].cred;
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

    /// Who allocated a handle, if it was another process.
    fn opener(&self, census: &Census, index: usize, place: u32) -> Option<u32> {
        let cred = census.handles[place as usize].cred;
        let is_own = cred == 0 || self.members[index].credentials.contains(&cred);
        if is_own { None } else { self.owner_of(cred).map(|owner| self.members[owner].pid) }
    }
}

fn join(member: &mut Member, task: &Task) {
    let is_main = task.pid == task.tgid;
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
    let end = task.comm.iter().position(|byte| *byte == 0).unwrap_or(task.comm.len());
    String::from_utf8_lossy(&task.comm[..end]).into_owned()
}

/// What is inside another is held by whoever holds that; as often as anything changes.
fn inherit(carriers: &mut HashMap<u32, Vec<usize>>, within: &[(u32, u32)]) {
    loop {
        let mut changed = false;
        for (inner, outer) in within {
            if inner == outer || !carriers.contains_key(inner) {
                continue;
            }
            let outer = carriers.get(outer).cloned().unwrap_or_default();
            let Some(inner) = carriers.get_mut(inner) else { continue };
            for index in outer {
                if !inner.contains(&index) {
                    inner.push(index);
                    changed = true;
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// A process whose references are being read.
struct Open {
    index: usize,
    process: Process,
    groups: HashMap<super::groups::Key, OpenGroup>,
    /// Handles that found no group any more.
    ungrouped: u64,
    touched: Vec<u32>,
}

struct OpenGroup {
    place: u32,
    group: Group,
    example: Option<Example>,
    /// Of the handle that was counted last.
    inode: u64,
}

impl OpenGroup {
    fn new(place: u32, handle: &Handle) -> Self {
        let group = Group {
            kind: handle.kind,
            name: String::new(),
            holders: PerHolder::default(),
            count: 0,
            hidden: 0,
            deleted: handle.is_deleted(),
            bytes: 0,
            state: handle.state_name(),
            queue: (handle.family != 0).then_some((0, 0)),
            fds: Vec::new(),
            inherited: 0,
            opened_by: None,
            places: Vec::new(),
        };
        Self { place, group, example: None, inode: 0 }
    }

    /// Takes in a reference.
    fn add(&mut self, held: &Held, is_inherited: bool) {
        self.example = self.example.or(held.example);
        self.group.holders.add(held.holder, 1);
        self.group.inherited += u64::from(is_inherited);
        if let Some((fd, _)) = held.descriptor
            && self.group.fds.len() < FDS
        {
            self.group.fds.push(fd);
        }
    }

    /// Takes in a handle.
    fn count(&mut self, handle: &Handle, hidden: u64) {
        self.group.count += 1;
        self.group.hidden += hidden;
        // Handles of one file come one after the other more often than not.
        if std::mem::replace(&mut self.inode, handle.inode) != handle.inode || handle.inode == 0 {
            self.group.bytes += handle.allocated;
        }
        if let Some((receive, send)) = &mut self.group.queue {
            *receive += u64::from(handle.receive);
            *send += u64::from(handle.send);
        }
    }
}

struct Builder<'a> {
    processes: &'a Processes,
    census: &'a Census,
    attribution: &'a Attribution,
    keys: Keys,
    namer: Namer<'a>,
    most: usize,
    remember: bool,
    current: Option<Open>,
    done: Vec<Process>,
    /// The first way in which the current process holds each handle.
    best: Vec<u8>,
}

impl Builder<'_> {
    fn take(&mut self, index: usize, held: &Held, inherited_only: bool) {
        if self.current.as_ref().is_none_or(|open| open.index != index) {
            self.finish();
            self.current = Some(self.begin(index));
        }
        let is_inherited = self.processes.is_inherited(self.census, index, held);
        if inherited_only && !is_inherited {
            return;
        }
        let handle = &self.census.handles[held.handle as usize];
        let Some(open) = &mut self.current else { return };
        let best = &mut self.best[held.handle as usize];
        let is_new = *best == u8::MAX;
        if is_new {
            open.touched.push(held.handle);
        }
        *best = (*best).min(held.holder as u8);
        let hidden = u64::from(self.attribution.is_hidden(held.handle));
        if is_new {
            open.process.handles += 1;
            open.process.hidden += hidden;
        }
        let key = self.keys.of(self.census, handle);
        if open.groups.len() >= MOST_GROUPS && !open.groups.contains_key(&key) {
            open.ungrouped += u64::from(is_new);
            return;
        }
        let group = open.groups.entry(key).or_insert_with(|| OpenGroup::new(held.handle, handle));
        group.add(held, is_inherited);
        if is_new {
            group.count(handle, hidden);
            if self.remember {
                group.group.places.push(held.handle);
            }
        }
    }

    fn begin(&self, index: usize) -> Open {
        let member = &self.processes.members[index];
        let entries = |table: &u64| {
            let table = self.processes.tables.get(table)?;
            Some(self.census.tables[*table].part.len() as u64)
        };
        let entries: Vec<u64> = member.tables.iter().filter_map(entries).collect();
        let process = Process {
            pid: member.pid,
            comm: member.comm.clone(),
            parent: member.parent,
            started: member.started,
            descriptors: entries.iter().sum(),
            used: entries.iter().copied().max().unwrap_or(0),
            limit: member.limit,
            main_thread_is_gone: member.main_table == Some(0) && !member.tables.is_empty(),
            mount_namespace: member.mount_namespace,
            ..Process::default()
        };
        Open { index, process, groups: HashMap::new(), ungrouped: 0, touched: Vec::new() }
    }

    fn finish(&mut self) {
        let Some(mut open) = self.current.take() else { return };
        for place in std::mem::take(&mut open.touched) {
            let best = std::mem::replace(&mut self.best[place as usize], u8::MAX);
            open.process.by_holder.add(Holder::ALL[usize::from(best)], 1);
        }
        for group in open.groups.values_mut() {
            group.group.opened_by = self.processes.opener(self.census, open.index, group.place);
        }
        let process = open.close(self.census, self.most, &mut self.namer);
        self.done.push(process);
    }
}

impl Open {
    fn close(self, census: &Census, most: usize, namer: &mut Namer<'_>) -> Process {
        let mut groups: Vec<OpenGroup> = self.groups.into_values().collect();
        groups.sort_by_key(|open| (Reverse(open.group.count), Reverse(open.group.hidden), open.place));
        let left_out = self.ungrouped + groups.len().saturating_sub(most) as u64;
        groups.truncate(most);
        let files = groups.into_iter().map(|open| {
            let name = namer.name(census, open.place, open.example);
            Group { name, ..open.group }
        });
        Process { files: files.collect(), files_left_out: left_out, ..self.process }
    }
}
