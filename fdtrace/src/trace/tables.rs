//! What the writer remembers so that it can name things by short numbers.
//!
//! The numbers begin anew with each epoch. Then everything is forgotten that nothing alive can name again, so that the
//! memory of a writer grows with what lives and not with the trace.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use fdtrace_common::hash;

use super::format::MAX_ENTRIES;
use crate::stream::Call;

pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// A group that was forgotten.
const NONE: u32 = u32::MAX;

/// Numbers that are given out in one epoch.
#[derive(Default)]
pub(super) struct Numbers<K> {
    known: Map<K, u32>,
}

impl<K: Eq + Hash> Numbers<K> {
    /// The number of a thing that has one.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.known.get(key).copied()
    }

    /// Gives a thing the next number.
    pub(super) fn add(&mut self, key: K) -> u32 {
        let number = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.insert(key, number);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// A number of one epoch.
#[derive(Clone, Copy, Default)]
struct Number {
    epoch: u32,
    number: u32,
}

/// What is known of a handle.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) generation: u64,
    pub(super) tgid: u32,
    /// How many allocations there were before it in this epoch.
    pub(super) order: u64,
    group: u32,
    slot: Number,
    live: bool,
}

/// Handles by address.
#[derive(Default)]
pub(super) struct Handles {
    known: Map<u64, Known>,
    /// Descriptors that were acquired, which have no slots: generation and group.
    acquired: Map<u64, (u64, u32)>,
    epoch: u32,
    slots: u32,
    allocations: u64,
}

impl Handles {
    pub(super) fn begin_epoch(&mut self, epoch: u32) {
        (self.epoch, self.slots, self.allocations) = (epoch, 0, 0);
        self.known.retain(|_, known| known.live);
        if self.known.capacity() / 8 > self.known.len() {
            self.known.shrink_to_fit();
        }
    }

    /// Slots that were given out in this epoch.
    pub(super) const fn slots(&self) -> u32 {
        self.slots
    }

    /// Notes an allocation. Says which slot the address has, and whether it got it just now.
    pub(super) fn allocate(
        &mut self,
        address: u64,
        generation: u64,
        group: (u32, u32),
        groups: &mut Groups,
    ) -> (u32, bool) {
        let (index, tgid) = group;
        let old = self.known.get(&address).copied();
        if let Some(old) = old.filter(|old| old.live) {
            groups.add_live(old.group, -1);
        }
        groups.add_live(index, 1);
        let (slot, new) = match old.map(|old| old.slot) {
            Some(slot) if slot.epoch == self.epoch => (slot, false),
            _ => (Number { epoch: self.epoch, number: self.slots }, true),
        };
        self.slots += u32::from(new);
        let order = self.allocations;
        self.allocations += 1;
        self.known.insert(address, Known { generation, tgid, order, group: index, slot, live: true });
        (slot.number, new)
    }

    /// Notes that a descriptor was acquired.
    pub(super) fn acquire(&mut self, key: u64, generation: u64, group: u32, groups: &mut Groups) {
        groups.add_live(group, 1);
        if let Some((_, former)) = self.acquired.insert(key, (generation, group)) {
            groups.add_live(former, -1);
        }
    }

    /// The slot of a handle that has one in this epoch, what is known of it, and how many allocations ago that was.
    pub(super) fn find(&self, address: u64, generation: u64) -> Option<(u32, &Known, u64)> {
        let known = self.known.get(&address).filter(|known| known.generation == generation)?;
        let age = self.allocations - known.order.min(self.allocations);
        (known.slot.epoch == self.epoch).then_some((known.slot.number, known, age.saturating_sub(1)))
    }

    /// Notes that a handle is gone.
    pub(super) fn release(&mut self, address: u64, generation: u64, groups: &mut Groups) {
        if let Some((known, group)) = self.acquired.get(&address).copied()
            && known == generation
        {
            self.acquired.remove(&address);
            groups.add_live(group, -1);
            return;
        }
        if let Some(known) = self.known.get_mut(&address)
            && known.live
            && known.generation == generation
        {
            known.live = false;
            groups.add_live(known.group, -1);
        }
    }

    fn forget_groups(&mut self) {
        self.known.values_mut().for_each(|known| known.group = NONE);
        self.acquired.values_mut().for_each(|(_, group)| *group = NONE);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len() + self.acquired.len()
    }
}

/// A process's allocations by one call.
struct Group {
    tgid: u32,
    call: Call,
    id: Number,
    /// When it was last named.
    used: u32,
    /// The process's program then.
    program: u32,
    live: i64,
    last_tid: u32,
}

/// The name of a call: what a reader sees in place of the hashes.
struct Name {
    name: u64,
    id: Number,
    used: u32,
}

/// A process that has groups.
#[derive(Default)]
struct Process {
    /// How many programs it ran before this one.
    program: u32,
    ended: bool,
    groups: u32,
}

/// What has to be told to the reader before a group or a call can be named.
pub(super) trait Tell {
    /// A call and its name.
    fn call(&mut self, name: u64, call: &Call);
    /// A group of a process and a call, by the call's number.
    fn group(&mut self, tgid: u32, call: u32);
}

/// Groups and calls.
#[derive(Default)]
pub(super) struct Groups {
    by_key: Map<(u32, Call), u32>,
    all: Vec<Group>,
    free: Vec<u32>,
    calls: Map<Call, Name>,
    processes: Map<u32, Process>,
    epoch: u32,
    groups: u32,
    call_numbers: u32,
    names: u64,
    /// Most allocations repeat the one before.
    last: Option<((u32, Call), u32)>,
}

impl Groups {
    /// Forgets groups of programs that have ended, once nothing of them lives and an epoch has passed in which something
    /// that is found out late could have named them.
    pub(super) fn begin_epoch(&mut self, epoch: u32, handles: &mut Handles) {
        (self.epoch, self.groups, self.call_numbers, self.last) = (epoch, 0, 0, None);
        let (all, free, processes, calls) =
            (&mut self.all, &mut self.free, &mut self.processes, &mut self.calls);
        self.by_key.retain(|(tgid, call), index| {
            let group = &all[*index as usize];
            let process = processes.get_mut(tgid);
            let ended = process.as_ref().is_none_or(|now| now.ended || now.program != group.program);
            let keep = group.live > 0 || group.used + 1 >= epoch || !ended;
            if keep {
                if let Some(name) = calls.get_mut(call) {
                    name.used = epoch;
                }
            } else {
                free.push(*index);
                if let Some(process) = process {
                    process.groups -= 1;
                }
            }
            keep
        });
        self.calls.retain(|_, name| name.used + 1 >= epoch);
        self.processes.retain(|_, process| process.groups > 0);
        if self.by_key.len().max(self.calls.len()) > MAX_ENTRIES {
            self.forget(handles);
        }
    }

    /// Ends of processes were lost, for very long: what is known is dropped, and calls get new names.
    fn forget(&mut self, handles: &mut Handles) {
        handles.forget_groups();
        self.by_key.clear();
        self.all.clear();
        self.free.clear();
        self.calls.clear();
        self.processes.clear();
    }

    /// How many groups or calls were reported in this epoch, whichever is more.
    pub(super) fn reported(&self) -> u32 {
        self.groups.max(self.call_numbers)
    }

    /// A process ended, or begins to run another program.
    pub(super) fn end_program(&mut self, tgid: u32, ended: bool) {
        self.last = None;
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.program += 1;
            process.ended = ended;
        }
    }

    /// Index of a group.
    pub(super) fn index(&mut self, tgid: u32, call: &Call, tell: &mut impl Tell) -> u32 {
        if let Some((last, index)) = &self.last
            && *last == (tgid, *call)
        {
            return *index;
        }
        let key = (tgid, *call);
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => self.add(key),
        };
        self.tell(index, tell);
        self.last = Some((key, index));
        index
    }

    /// The number of a group in this epoch, and its last thread, which becomes this one.
    pub(super) fn number(&mut self, index: u32, tid: u32) -> (u32, u32) {
        let group = &mut self.all[index as usize];
        (group.id.number, std::mem::replace(&mut group.last_tid, tid))
    }

    /// The number of a group in this epoch.
    pub(super) fn id(&self, index: u32) -> u32 {
        self.all[index as usize].id.number
    }

    fn add(&mut self, key: (u32, Call)) -> u32 {
        let process = self.processes.entry(key.0).or_default();
        process.groups += 1;
        let (tgid, call) = key;
        let (id, program) = (Number::default(), process.program);
        let group = Group { tgid, call, id, used: 0, program, live: 0, last_tid: tgid };
        let index = if let Some(index) = self.free.pop() {
            self.all[index as usize] = group;
            index
        } else {
            self.all.push(group);
            u32::try_from(self.all.len() - 1).unwrap_or(NONE)
        };
        self.by_key.insert(key, index);
        index
    }

    /// Tells a group in each epoch that names it.
    fn tell(&mut self, index: u32, tell: &mut impl Tell) {
        let Self { all, processes, epoch, groups, .. } = self;
        let group = &mut all[index as usize];
        group.used = *epoch;
        if let Some(process) = processes.get(&group.tgid) {
            group.program = process.program;
        }
        if group.id.epoch == *epoch {
            return;
        }
        group.id = Number { epoch: *epoch, number: *groups };
        group.last_tid = group.tgid;
        *groups += 1;
        let (tgid, call) = (group.tgid, group.call);
        let number = self.call(&call, tell);
        tell.group(tgid, number);
    }

    /// The number of a call in this epoch.
    pub(super) fn call(&mut self, call: &Call, tell: &mut impl Tell) -> u32 {
        let Self { calls, epoch, call_numbers, names, .. } = self;
        let name = calls.entry(*call).or_insert_with(|| {
            *names += 1;
            Name { name: *names - 1, id: Number::default(), used: 0 }
        });
        name.used = *epoch;
        if name.id.epoch != *epoch {
            name.id = Number { epoch: *epoch, number: *call_numbers };
            *call_numbers += 1;
            tell.call(name.name, call);
        }
        name.id.number
    }

    fn add_live(&mut self, index: u32, more: i64) {
        if let Some(group) = self.all.get_mut(index as usize) {
            group.live += more;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize, usize) {
        (self.by_key.len(), self.calls.len(), self.processes.len())
    }
}

/// Hashes words with a multiplication each. The keys are addresses, process ids and hashes that the kernel side made.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        hash::finish(self.0).rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = hash::mix(self.0, word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
