//! Processes with their files, those that are alike together.

use std::{cmp::Reverse, collections::HashMap};

use super::{
    Group, Limit, PerHolder,
    focus::Focus,
    groups::Example,
    holders::Attribution,
    keys::{Key, Keys},
    paths::Namer,
    processes::Processes,
    references::{Held, Ways},
};
use crate::holders::{Handle, HolderSnapshot};

/// The most descriptors that a group names.
const FDS: usize = 8;

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
    /// How many threads it has.
    pub threads: u64,
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

impl Processes {
    /// The processes inside the focus, with their files.
    pub(super) fn assemble<'a>(
        &'a self,
        snapshot: &'a HolderSnapshot,
        attribution: &'a Attribution,
        inside: &dyn Fn(u32) -> bool,
        focus: &Focus,
        keys: &'a Keys,
        namer: &'a mut Namer<'_>,
    ) -> Vec<Process> {
        let mut builder = Builder {
            processes: self,
            snapshot,
            attribution,
            keys,
            namer,
            most: focus.groups,
            remember: focus.places || focus.peers,
            current: None,
            done: Vec::new(),
            ways: Ways::new(snapshot),
        };
        self.each_held(snapshot, |index, held| {
            if inside(held.handle) && focus.admits_process(self.pid(index)) {
                builder.take(index, held, focus.is_inherited_only());
            }
        });
        builder.finish();
        let mut done = builder.done;
        done.sort_by_key(|process| (Reverse(process.handles), process.pid));
        done
    }
}

/// A process whose references are being read.
struct Open {
    index: usize,
    process: Process,
    groups: HashMap<Key, OpenGroup>,
    /// Handles that found no group any more.
    ungrouped: u64,
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
            peers: Vec::new(),
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
            self.group.bytes = self.group.bytes.saturating_add(handle.allocated);
        }
        if let Some((receive, send)) = &mut self.group.queue {
            *receive += u64::from(handle.receive);
            *send += u64::from(handle.send);
        }
    }
}

struct Builder<'a, 'p> {
    processes: &'a Processes,
    snapshot: &'a HolderSnapshot,
    attribution: &'a Attribution,
    keys: &'a Keys,
    namer: &'a mut Namer<'p>,
    most: usize,
    remember: bool,
    current: Option<Open>,
    done: Vec<Process>,
    /// How the current process holds each handle.
    ways: Ways,
}

impl Builder<'_, '_> {
    fn take(&mut self, index: usize, held: &Held, inherited_only: bool) {
        let is_inherited = self.processes.is_inherited(self.snapshot, index, held);
        if inherited_only && !is_inherited {
            return;
        }
        if self.current.as_ref().is_none_or(|open| open.index != index) {
            self.finish();
            self.current = Some(self.begin(index));
        }
        let Some(open) = &mut self.current else { return };
        let is_new = self.ways.take(held);
        let hidden = u64::from(is_new && self.attribution.is_hidden(held.handle));
        open.process.handles += u64::from(is_new);
        open.process.hidden += hidden;
        let handle = &self.snapshot.handles[held.handle as usize];
        let key = self.keys.of(self.snapshot, handle);
        if !self.keys.has_room(open.groups.len(), &key) && !open.groups.contains_key(&key) {
            open.ungrouped += u64::from(is_new);
            return;
        }
        let group = open.groups.entry(key).or_insert_with(|| OpenGroup::new(held.handle, handle));
        group.add(held, is_inherited);
        if is_new {
            group.count(handle, hidden);
            group.group.places.extend(self.remember.then_some(held.handle));
        }
    }

    fn begin(&self, index: usize) -> Open {
        let member = &self.processes.members[index];
        let entries: Vec<u64> =
            member.tables.iter().map(|table| self.processes.length(self.snapshot, *table)).collect();
        let process = Process {
            pid: member.pid,
            comm: member.comm.clone(),
            parent: member.parent,
            started: member.started,
            threads: member.threads,
            descriptors: entries.iter().sum(),
            used: entries.iter().copied().max().unwrap_or(0),
            limit: member.limit,
            main_thread_is_gone: member.main_table == Some(0) && !member.tables.is_empty(),
            mount_namespace: member.mount_namespace,
            ..Process::default()
        };
        Open { index, process, groups: HashMap::new(), ungrouped: 0 }
    }

    fn finish(&mut self) {
        let Some(mut open) = self.current.take() else { return };
        self.ways.finish(|_, holder| open.process.by_holder.add(holder, 1));
        for group in open.groups.values_mut() {
            group.group.opened_by = self.processes.opener(self.snapshot, open.index, group.place);
        }
        let process = open.close(self.snapshot, self.most, self.namer);
        self.done.push(process);
    }
}

/// A library has a handful of parts, each of which is a handle; every program has some, and they come last.
const PARTS: u64 = 8;

fn is_library(key: &Key, count: u64) -> bool {
    key.code && count <= PARTS
}

impl Open {
    fn close(self, snapshot: &HolderSnapshot, most: usize, namer: &mut Namer<'_>) -> Process {
        let mut groups: Vec<(Key, OpenGroup)> = self.groups.into_iter().collect();
        groups.sort_by_key(|(key, open)| {
            let Group { count, hidden, .. } = open.group;
            (is_library(key, count), Reverse(key.deleted), Reverse(count), Reverse(hidden), open.place)
        });
        let left_out = self.ungrouped + groups.len().saturating_sub(most) as u64;
        groups.truncate(most);
        let files = groups.into_iter().map(|(_, open)| {
            let name = namer.name(snapshot, open.place, open.example);
            Group { name, ..open.group }
        });
        Process { files: files.collect(), files_left_out: left_out, ..self.process }
    }
}
