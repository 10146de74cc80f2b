//! From events to the bytes of a block.

use fdtrace_common::descriptor;

use super::{
    bytes::{put, put_bytes, put_from},
    facts::Words,
    format::{
        ALLOC, Bases, COLUMNS, MAX_ENTRIES, MAX_STRINGS, MAX_TEXT, RECENT_CODE, RELEASE, alloc, call, column,
        figures, open, record, release,
    },
    tables::{Groups, Handles, Tell},
};
use crate::stream::{
    Acquired, Alloc, Call, Cut, Event, Mapped, Moment, Name, Open, Release, ShortLived, Stats,
};

/// Makes blocks of events.
#[derive(Default)]
pub(super) struct Encoder {
    out: Out,
    handles: Handles,
    groups: Groups,
    words: Words,
    epoch: u32,
}

impl Encoder {
    /// Begins with empty tables; nothing may be pending.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.out.bases = Bases::default();
        self.words.clear();
        self.groups.begin_epoch(self.epoch, &mut self.handles);
        self.handles.begin_epoch(self.epoch);
    }

    /// Whether the tables are so full that it is time to begin with empty ones.
    pub(super) fn is_full(&self) -> bool {
        let entries = self.groups.reported().max(self.handles.slots()) as usize;
        entries.max(self.words.entries()) >= MAX_ENTRIES / 2 || self.words.text() >= MAX_STRINGS / 4
    }

    /// Bytes of the block so far.
    pub(super) fn pending(&self) -> usize {
        self.out.columns.iter().map(Vec::len).sum()
    }

    /// Moves the block into `raw`, in place of what is there, and says how many events it has.
    pub(super) fn take(&mut self, raw: &mut Vec<u8>) -> u32 {
        raw.clear();
        put(raw, COLUMNS as u64);
        self.out.columns.iter().for_each(|column| put(raw, column.len() as u64));
        for column in &mut self.out.columns {
            raw.extend_from_slice(column);
            column.clear();
        }
        std::mem::take(&mut self.out.events)
    }

    /// Adds an event, if it is one that is kept.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            // Addresses mean nothing once their process is gone; whoever evaluates programs does it while they run.
            Event::Stack(_) | Event::ClosedBy(_) => return,
            // No handle lies there, and no reader takes it.
            Event::Alloc(Alloc { handle: 0, .. }) | Event::FoundLive(Alloc { handle: 0, .. }) => return,
            Event::Acquired(Acquired { alloc, .. }) if !descriptor::is_key(alloc.handle) => return,
            Event::Refused(alloc) if alloc.handle != 0 => return,
            _ => self.out.events += 1,
        }
        match event {
            Event::Stack(_) | Event::ClosedBy(_) => {}
            Event::Alloc(alloc) => self.alloc(alloc, 0),
            Event::FoundLive(alloc) => self.alloc(alloc, alloc::FOUND),
            Event::Acquired(acquired) => self.acquired(acquired),
            Event::Refused(alloc) => self.acquisition(alloc, 0),
            Event::Release(release) => self.release(release),
            Event::Mapped(mapped) => self.mapped(mapped),
            Event::Fork { time, parent, child, shares, comm } => {
                self.groups.end_program(*child, false);
                self.fork(*time, *parent, *child, *shares, comm);
            }
            Event::Exec { time, tgid, comm, path } => {
                self.groups.end_program(*tgid, false);
                self.exec(*time, *tgid, comm, path);
            }
            Event::Exit { time, tgid, how } => {
                self.groups.end_program(*tgid, true);
                self.out.record(record::EXIT, |bytes, bases| {
                    put_moment(bytes, bases, *time, *tgid);
                    bytes.extend([how.signal, how.status]);
                    put(bytes, how.limit);
                });
            }
            Event::Open(open) => self.open(open),
            Event::Cut(cut) => self.cut(cut),
            Event::Failure(failure) => self.out.record(record::FAILURE, |bytes, bases| {
                put_moment(bytes, bases, failure.time, failure.tgid);
                put_from(bytes, 0, i64::from(failure.errno).cast_unsigned());
                put(bytes, failure.times.into());
                put(bytes, failure.limit);
            }),
            Event::Gap { time, events } => self.out.record(record::GAP, |bytes, bases| {
                put_time(bytes, bases, *time);
                put(bytes, *events);
            }),
            Event::FoundGone { time, handle, generation } => self.found_gone(*time, *handle, *generation),
            Event::ShortLived(short_lived) => self.short_lived(short_lived),
            Event::Fact(fact) => self.words.fact(fact, &mut self.out, &mut self.groups, &self.handles),
            Event::Sample(stats) => {
                self.out.record(record::SAMPLE, |bytes, bases| sample(bytes, bases, stats));
            }
        }
    }

    fn alloc(&mut self, event: &Alloc, found: u8) {
        let index = self.groups.index(event.tgid, &event.call, &mut self.out);
        let (group, last_tid) = self.groups.number(index, event.tid);
        let of = (index, event.tgid);
        let (slot, new) = self.handles.allocate(event.handle, event.generation, of, &mut self.groups);
        let Out { columns, bases, .. } = &mut self.out;
        let mut tag = ALLOC | found;
        if event.tid != last_tid {
            tag |= alloc::OTHER_THREAD;
            put_from(&mut columns[column::TASKS], last_tid.into(), event.tid.into());
        }
        if new {
            tag |= alloc::NEW_SLOT;
            put_from(&mut columns[column::ADDRESSES], bases.address, event.handle);
            bases.address = event.handle;
        } else {
            put(&mut columns[column::SLOTS], slot.into());
        }
        columns[column::TAGS].push(tag);
        put(&mut columns[column::GROUPS], group.into());
        put_time(&mut columns[column::ALLOC_TIMES], bases, event.generation);
    }

    fn acquired(&mut self, event: &Acquired) {
        let Acquired { alloc, of } = event;
        let index = self.groups.index(alloc.tgid, &alloc.call, &mut self.out);
        self.handles.acquire(alloc.handle, alloc.generation, index, &mut self.groups);
        self.acquisition(alloc, *of);
    }

    /// Readers that do not know this record skip it, so it moves nothing that others are differences to.
    fn acquisition(&mut self, alloc: &Alloc, of: u64) {
        let index = self.groups.index(alloc.tgid, &alloc.call, &mut self.out);
        let group = self.groups.id(index);
        self.out.record(record::ACQUIRED, |bytes, bases| {
            put_from(bytes, bases.time, alloc.generation);
            put(bytes, group.into());
            put_from(bytes, alloc.tgid.into(), alloc.tid.into());
            bytes.extend(alloc.handle.to_le_bytes());
            bytes.extend(of.to_le_bytes());
        });
    }

    fn release(&mut self, event: &Release) {
        let flags = flags(event);
        let Some((slot, known, age)) = self.handles.find(event.handle, event.generation) else {
            self.release_in_full(event, flags);
            return;
        };
        let Out { columns, bases, .. } = &mut self.out;
        let mut tag = RELEASE | flags;
        if event.tgid != known.tgid {
            tag |= release::OTHER_PROCESS;
            put_from(&mut columns[column::TASKS], known.tgid.into(), event.tgid.into());
        }
        columns[column::TAGS].push(tag);
        put(&mut columns[column::AGES], if age < RECENT_CODE { age } else { RECENT_CODE + u64::from(slot) });
        put_time(&mut columns[column::RELEASE_TIMES], bases, event.time);
        self.handles.release(event.handle, event.generation, &mut self.groups);
    }

    fn release_in_full(&mut self, event: &Release, flags: u8) {
        self.out.record(record::RELEASE, |bytes, bases| {
            bytes.push(flags);
            put_moment(bytes, bases, event.time, event.tgid);
            put_address(bytes, bases, event.handle);
            put_from(bytes, event.time, event.generation);
        });
        self.handles.release(event.handle, event.generation, &mut self.groups);
    }

    fn found_gone(&mut self, time: u64, handle: u64, generation: u64) {
        let handles = &self.handles;
        self.out.record(record::FOUND_GONE, |bytes, bases| {
            put_time(bytes, bases, time);
            put_handle(bytes, bases, handles, handle, generation);
        });
        self.handles.release(handle, generation, &mut self.groups);
    }

    fn mapped(&mut self, event: &Mapped) {
        let index = self.groups.index(event.tgid, &event.call, &mut self.out);
        let group = self.groups.id(index);
        let handles = &self.handles;
        self.out.record(record::MAPPED, |bytes, bases| {
            put_time(bytes, bases, event.time);
            put_handle(bytes, bases, handles, event.handle, event.generation);
            put(bytes, group.into());
            put_from(bytes, event.tgid.into(), event.tid.into());
            put_from(bytes, bases.mapping, event.address);
            bases.mapping = event.address;
            put(bytes, event.length);
            put(bytes, event.inode);
        });
    }

    fn open(&mut self, event: &Open) {
        let handles = &self.handles;
        let bit = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = bit(event.moment == Moment::Exec, open::AT_EXEC)
            | bit(event.close_on_exec, open::CLOSE_ON_EXEC)
            | bit(event.deleted, open::DELETED);
        self.out.record(record::OPEN, |bytes, bases| {
            put_moment(bytes, bases, event.time, event.tgid);
            put_handle(bytes, bases, handles, event.handle, event.generation);
            put(bytes, event.fd.into());
            bytes.extend([flags, event.socket_state]);
            put(bytes, event.waiting.into());
            put(bytes, event.of_thread.map_or(0, |tid| u64::from(tid) + 1));
        });
    }

    fn fork(&mut self, time: u64, parent: u32, child: u32, shares: bool, comm: &Name) {
        self.out.record(record::FORK, |bytes, bases| {
            put_moment(bytes, bases, time, parent);
            put_process(bytes, bases, child);
            put_bytes(bytes, short(comm));
            bytes.push(shares.into());
        });
    }

    fn cut(&mut self, event: &Cut) {
        self.out.record(record::CUT, |bytes, bases| {
            put_time(bytes, bases, event.time);
            put(bytes, event.tid.into());
            put_from(bytes, event.time, event.began);
            put(bytes, event.syscall.map_or(0, |number| u64::from(number) + 1));
        });
    }

    fn exec(&mut self, time: u64, tgid: u32, comm: &Name, path: &[u8]) {
        self.out.record(record::EXEC, |bytes, bases| {
            put_moment(bytes, bases, time, tgid);
            put_bytes(bytes, short(comm));
            put_bytes(bytes, &path[..path.len().min(MAX_TEXT)]);
        });
    }

    fn short_lived(&mut self, event: &ShortLived) {
        let site = event.site.map_or(0, |site| u64::from(self.words.site(site, &mut self.out)) + 1);
        self.out.record(record::SHORT_LIVED, |bytes, _| {
            put(bytes, site);
            put(bytes, event.handles);
            put(bytes, event.never_opened);
        });
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, (usize, usize, usize)) {
        (self.handles.len(), self.groups.len())
    }
}

/// A block in the making.
#[derive(Default)]
pub(super) struct Out {
    columns: [Vec<u8>; COLUMNS],
    bases: Bases,
    payload: Vec<u8>,
    events: u32,
}

impl Out {
    /// Adds a record that has a length.
    pub(super) fn record(&mut self, tag: u8, fill: impl FnOnce(&mut Vec<u8>, &mut Bases)) {
        self.payload.clear();
        fill(&mut self.payload, &mut self.bases);
        self.columns[column::TAGS].push(tag);
        put_bytes(&mut self.columns[column::RECORDS], &self.payload);
    }
}

impl Tell for Out {
    fn call(&mut self, name: u64, reported: &Call) {
        let bit = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = bit(reported.user_stack != 0, call::USER_STACK)
            | bit(reported.kernel_stack != 0, call::KERNEL_STACK)
            | bit(reported.kernel_task, call::KERNEL_TASK)
            | bit(reported.syscall.is_some(), call::SYSCALL)
            | bit(reported.acquired, call::ACQUIRED);
        self.record(record::CALL, |bytes, bases| {
            bytes.push(flags);
            put_from(bytes, bases.name, name);
            bases.name = name.wrapping_add(1);
            put(bytes, reported.detail.into());
            if let Some(syscall) = reported.syscall {
                put(bytes, syscall.into());
            }
        });
    }

    fn group(&mut self, tgid: u32, call: u32) {
        self.record(record::GROUP, |bytes, bases| {
            put_process(bytes, bases, tgid);
            put_from(bytes, bases.call, call.into());
            bases.call = u64::from(call) + 1;
        });
    }
}

pub(super) fn put_time(bytes: &mut Vec<u8>, bases: &mut Bases, time: u64) {
    put_from(bytes, bases.time, time);
    bases.time = time;
}

pub(super) fn put_process(bytes: &mut Vec<u8>, bases: &mut Bases, tgid: u32) {
    put_from(bytes, bases.process.into(), tgid.into());
    bases.process = tgid;
}

pub(super) fn put_address(bytes: &mut Vec<u8>, bases: &mut Bases, address: u64) {
    put_from(bytes, bases.address, address);
    bases.address = address;
}

/// A time and a process.
fn put_moment(bytes: &mut Vec<u8>, bases: &mut Bases, time: u64, tgid: u32) {
    put_time(bytes, bases, time);
    put_process(bytes, bases, tgid);
}

/// A handle by its slot, or in full.
pub(super) fn put_handle(
    bytes: &mut Vec<u8>,
    bases: &mut Bases,
    handles: &Handles,
    address: u64,
    generation: u64,
) {
    if let Some((slot, ..)) = handles.find(address, generation) {
        put(bytes, u64::from(slot) + 1);
    } else {
        put(bytes, 0);
        put_address(bytes, bases, address);
        put_from(bytes, bases.time, generation);
    }
}

/// A name without the zeros at its end.
fn short(name: &Name) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &name[..end]
}

fn flags(event: &Release) -> u8 {
    let never_opened = if event.never_opened { release::NEVER_OPENED } else { 0 };
    let unaccounted = if event.unaccounted { release::UNACCOUNTED } else { 0 };
    event.cause as u8 | never_opened | unaccounted
}

fn sample(bytes: &mut Vec<u8>, bases: &mut Bases, stats: &Stats) {
    put_time(bytes, bases, stats.time);
    let mut now = *stats;
    for (new, old) in figures(&mut now).into_iter().zip(figures(&mut bases.sample)) {
        put_from(bytes, *old, *new);
    }
    bases.sample = now;
}
