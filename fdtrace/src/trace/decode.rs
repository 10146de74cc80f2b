//! From the bytes of a block to events.

use fdtrace_common::descriptor;

use super::{
    bytes::{Bytes, Damage},
    facts::{Dictionary, address, existing, process},
    format::{
        ALLOC, Bases, COLUMNS, MAX_ENTRIES, MAX_TEXT, RECENT, RECENT_CODE, RELEASE, alloc, call, column,
        figures, open, record, release,
    },
};
use crate::stream::{
    Acquired, Alloc, AllocError, Call, Cause, Cut, Event, Fact, Leaving, Mapped, Moment, Name, Open, Release,
    ShortLived, Stats,
};

/// Bytes of text after which a batch of events is full.
const HEAVY: usize = 1 << 20;

/// Makes events of blocks.
#[derive(Default)]
pub(super) struct Decoder {
    tables: Tables,
    dictionary: Dictionary,
    bases: Bases,
}

impl Decoder {
    /// Begins with empty tables.
    pub(super) fn begin_epoch(&mut self) {
        self.tables.clear();
        self.dictionary.clear();
        self.bases = Bases::default();
    }

    /// Begins a block.
    pub(super) fn begin_block(&mut self) {
        self.dictionary.spoken = 0;
    }

    /// Bytes of memory that its tables have.
    pub(super) fn weight(&self) -> u64 {
        (self.dictionary.weight() + self.tables.weight()) as u64
    }

    /// The time of the last event that has one.
    pub(super) const fn time(&self) -> u64 {
        self.bases.time
    }

    /// Adds up to `most` events; fewer when the block ends, the events are heavy, or somebody looked.
    pub(super) fn events(
        &mut self,
        columns: &mut Columns<'_>,
        out: &mut Vec<Event>,
        most: usize,
    ) -> Result<(), Damage> {
        let full = out.len() + most;
        let heavy = self.dictionary.spoken + HEAVY;
        out.reserve(most);
        while out.len() < full
            && self.dictionary.spoken < heavy
            && let Ok(tag) = columns.0[column::TAGS].byte()
        {
            if tag >= RELEASE {
                self.tables.release(tag, columns, &mut self.bases, out)?;
            } else if tag >= ALLOC {
                self.tables.alloc(tag, columns, &mut self.bases, out)?;
            } else {
                let bytes = Bytes(columns.0[column::RECORDS].bytes()?);
                out.extend(self.record(tag, bytes)?);
                // Whoever replays looks here, before what follows.
                if tag == record::SAMPLE {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A record that has a length. Bytes behind what this version knows are a later version's.
    fn record(&mut self, tag: u8, mut bytes: Bytes<'_>) -> Result<Option<Event>, Damage> {
        let Self { tables, dictionary, bases } = self;
        let event = match tag {
            record::CALL => return tables.define_call(bytes, bases).map(|()| None),
            record::GROUP => return tables.define_group(bytes, bases).map(|()| None),
            record::STRING => return dictionary.define_string(bytes).map(|()| None),
            record::USER_FRAME => return dictionary.define_user_frame(bytes).map(|()| None),
            record::KERNEL_FRAME => return dictionary.define_kernel_frame(bytes).map(|()| None),
            record::SITE_ID => return dictionary.define_site(bytes).map(|()| None),
            record::RELEASE => release_in_full(bytes, bases)?,
            record::MAPPED => tables.mapped(bytes, bases)?,
            record::ACQUIRED => tables.acquired(bytes, bases)?,
            record::FORK => fork(bytes, bases)?,
            record::EXEC => exec(bytes, bases)?,
            record::EXIT => exit(bytes, bases)?,
            record::OPEN => tables.open(bytes, bases)?,
            record::CUT => cut(bytes, bases)?,
            record::FAILURE => failure(bytes, bases)?,
            record::GAP => Event::Gap { time: time(&mut bytes, bases)?, events: bytes.number()? },
            record::FOUND_GONE => {
                let time = time(&mut bytes, bases)?;
                let (handle, generation) = tables.handle(&mut bytes, bases)?;
                Event::FoundGone { time, handle, generation }
            }
            record::SHORT_LIVED => short_lived(bytes, dictionary)?,
            record::SAMPLE => sample(bytes, bases)?,
            _ => return self.fact(tag, bytes),
        };
        Ok(Some(event))
    }

    fn fact(&mut self, tag: u8, bytes: Bytes<'_>) -> Result<Option<Event>, Damage> {
        let Self { tables, dictionary, bases } = self;
        let fact: Fact = match tag {
            record::IDENTITY => dictionary.identity(bytes, bases)?,
            record::SITE => dictionary.site(bytes)?,
            record::BELONGS => dictionary.belongs(bytes, tables, bases)?,
            record::DESCRIBED => dictionary.described(bytes, tables, bases)?,
            record::EXISTING => existing(bytes, bases)?,
            _ => return Ok(None),
        };
        Ok(Some(Event::Fact(Box::new(fact))))
    }
}

/// The parts of a block, each read from its front.
pub(super) struct Columns<'a>([Bytes<'a>; COLUMNS]);

impl<'a> Columns<'a> {
    /// Takes a block apart. Parts that this version does not know are a later version's.
    pub(super) fn split(raw: &'a [u8]) -> Result<Self, Damage> {
        let mut bytes = Bytes(raw);
        let count = bytes.count()?;
        if !(COLUMNS..=64).contains(&count) {
            return Err(Damage::Range);
        }
        let mut lengths = [0; COLUMNS];
        for index in 0..count {
            let length = bytes.count()?;
            if let Some(place) = lengths.get_mut(index) {
                *place = length;
            }
        }
        let mut columns = [Bytes::default(); COLUMNS];
        for (column, length) in columns.iter_mut().zip(lengths) {
            *column = Bytes(bytes.take(length)?);
        }
        Ok(Self(columns))
    }

    /// How much of each part is left.
    pub(super) fn left(&self) -> [usize; COLUMNS] {
        self.0.map(|column| column.0.len())
    }

    /// Goes on where [`Self::left`] was said.
    pub(super) fn resume(mut self, left: [usize; COLUMNS]) -> Self {
        for (column, left) in self.0.iter_mut().zip(left) {
            let read = column.0.len().saturating_sub(left);
            column.0 = &column.0[read..];
        }
        self
    }
}

#[derive(Clone, Copy)]
struct Slot {
    address: u64,
    generation: u64,
    tgid: u32,
}

struct Group {
    tgid: u32,
    last_tid: u32,
    call: Call,
}

/// The slots of the last allocations.
struct Recent(Box<[u32; RECENT]>);

impl Default for Recent {
    fn default() -> Self {
        Self(Box::new([0; RECENT]))
    }
}

/// What numbers stand for.
#[derive(Default)]
pub(super) struct Tables {
    slots: Vec<Slot>,
    groups: Vec<Group>,
    calls: Vec<Call>,
    recent: Recent,
    allocations: usize,
}

impl Tables {
    fn weight(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
            + self.groups.len() * size_of::<Group>()
            + self.calls.len() * size_of::<Call>()
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.groups.clear();
        self.calls.clear();
        self.allocations = 0;
    }

    fn define_call(&mut self, mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<(), Damage> {
        let flags = bytes.byte()?;
        let name = bytes.number_from(bases.name)?;
        // Two stacks for each name, and 0 for none.
        if name > u64::MAX / 4 {
            return Err(Damage::Range);
        }
        bases.name = name + 1;
        let has = |flag: u8| flags & flag != 0;
        let detail = bytes.short()?;
        let syscall = match has(call::SYSCALL) {
            true => Some(u16::try_from(bytes.number()?).map_err(|_| Damage::Range)?),
            false => None,
        };
        let user_stack = if has(call::USER_STACK) { name * 2 + 1 } else { 0 };
        let kernel_stack = if has(call::KERNEL_STACK) { name * 2 + 2 } else { 0 };
        let kernel_task = has(call::KERNEL_TASK);
        let acquired = has(call::ACQUIRED);
        let call = Call { user_stack, kernel_stack, detail, syscall, kernel_task, acquired };
        add(&mut self.calls, call, "calls")
    }

    fn define_group(&mut self, mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<(), Damage> {
        let tgid = process(&mut bytes, bases)?;
        let number = bytes.number_from(bases.call)?;
        let call = self.call(number)?;
        bases.call = number + 1;
        add(&mut self.groups, Group { tgid, last_tid: tgid, call }, "groups")
    }

    /// The call with this number.
    pub(super) fn call(&self, number: u64) -> Result<Call, Damage> {
        get(&self.calls, number).copied().ok_or(Damage::Undefined("call"))
    }

    /// A handle by its slot, or in full.
    pub(super) fn handle(&self, bytes: &mut Bytes<'_>, bases: &mut Bases) -> Result<(u64, u64), Damage> {
        if let Some(number) = bytes.number()?.checked_sub(1) {
            let slot = get(&self.slots, number).ok_or(Damage::Undefined("handle"))?;
            return Ok((slot.address, slot.generation));
        }
        let handle = address(bytes, bases)?;
        Ok((handle, bytes.number_from(bases.time)?))
    }

    // The event is made where it goes: moving it costs more than all else here.
    #[inline(always)]
    fn alloc(
        &mut self,
        tag: u8,
        columns: &mut Columns<'_>,
        bases: &mut Bases,
        out: &mut Vec<Event>,
    ) -> Result<(), Damage> {
        let Columns(columns) = columns;
        if tag & !ALLOC & !alloc::ALL != 0 {
            return Err(Damage::Range);
        }
        let group = columns[column::GROUPS].number()?;
        bases.time = columns[column::ALLOC_TIMES].number_from(bases.time)?;
        let number = usize::try_from(group).map_err(|_| Damage::Range)?;
        let group = self.groups.get_mut(number).ok_or(Damage::Undefined("group"))?;
        if tag & alloc::OTHER_THREAD != 0 {
            group.last_tid = columns[column::TASKS].short_from(group.last_tid)?;
        }
        let (tgid, tid, call, generation) = (group.tgid, group.last_tid, group.call, bases.time);
        let handle = if tag & alloc::NEW_SLOT != 0 {
            let handle = address(&mut columns[column::ADDRESSES], bases)?;
            // Who keeps handles by address needs one that is nobody's.
            if handle == 0 {
                return Err(Damage::Range);
            }
            self.remember(self.slots.len() as u64);
            add(&mut self.slots, Slot { address: handle, generation, tgid }, "handles")?;
            handle
        } else {
            let number = columns[column::SLOTS].number()?;
            let slot = get_mut(&mut self.slots, number).ok_or(Damage::Undefined("handle"))?;
            (slot.generation, slot.tgid) = (generation, tgid);
            let handle = slot.address;
            self.remember(number);
            handle
        };
        if tag & alloc::FOUND == 0 {
            out.push(Event::Alloc(Alloc { handle, generation, tgid, tid, call }));
        } else {
            out.push(Event::FoundLive(Alloc { handle, generation, tgid, tid, call }));
        }
        Ok(())
    }

    #[inline(always)]
    fn remember(&mut self, slot: u64) {
        self.recent.0[self.allocations % RECENT] = u32::try_from(slot).unwrap_or(u32::MAX);
        self.allocations = self.allocations.wrapping_add(1);
    }

    #[inline(always)]
    fn release(
        &self,
        tag: u8,
        columns: &mut Columns<'_>,
        bases: &mut Bases,
        out: &mut Vec<Event>,
    ) -> Result<(), Damage> {
        let Columns(columns) = columns;
        bases.time = columns[column::RELEASE_TIMES].number_from(bases.time)?;
        let code = columns[column::AGES].number()?;
        let number = match code.checked_sub(RECENT_CODE) {
            Some(slot) => slot,
            None => self.recent(code)?,
        };
        let slot = get(&self.slots, number).ok_or(Damage::Undefined("handle"))?;
        let tgid = match tag & release::OTHER_PROCESS != 0 {
            true => columns[column::TASKS].short_from(slot.tgid)?,
            false => slot.tgid,
        };
        out.push(Event::Release(Release {
            handle: slot.address,
            generation: slot.generation,
            time: bases.time,
            tgid,
            cause: Cause::from_wire(tag & release::CAUSE).unwrap_or_default(),
            never_opened: tag & release::NEVER_OPENED != 0,
            unaccounted: tag & release::UNACCOUNTED != 0,
        }));
        Ok(())
    }

    /// The slot of the allocation that is so many allocations old.
    #[inline(always)]
    fn recent(&self, age: u64) -> Result<u64, Damage> {
        let back = usize::try_from(age).map_err(|_| Damage::Range)? + 1;
        let index = self.allocations.checked_sub(back).ok_or(Damage::Undefined("handle"))?;
        Ok(self.recent.0[index % RECENT].into())
    }

    fn mapped(&self, mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
        let time = time(&mut bytes, bases)?;
        let (handle, generation) = self.handle(&mut bytes, bases)?;
        let group = get(&self.groups, bytes.number()?).ok_or(Damage::Undefined("group"))?;
        let tid = bytes.short_from(group.tgid)?;
        bases.mapping = bytes.number_from(bases.mapping)?;
        let (address, length) = (bases.mapping, bytes.number()?);
        let inode = or_default(&mut bytes, Bytes::number)?;
        let (tgid, call) = (group.tgid, group.call);
        Ok(Event::Mapped(Mapped { handle, generation, time, tgid, tid, address, length, inode, call }))
    }

    fn acquired(&self, mut bytes: Bytes<'_>, bases: &Bases) -> Result<Event, Damage> {
        let generation = bytes.number_from(bases.time)?;
        let group = get(&self.groups, bytes.number()?).ok_or(Damage::Undefined("group"))?;
        let tid = bytes.short_from(group.tgid)?;
        let (handle, of) = (bytes.word()?, bytes.word()?);
        // A group of a damaged file may be one that makes handles.
        let call = Call { acquired: true, ..group.call };
        let alloc = Alloc { handle, generation, tgid: group.tgid, tid, call };
        match handle {
            0 => Ok(Event::Refused(alloc)),
            _ if descriptor::is_key(handle) => Ok(Event::Acquired(Acquired { alloc, of })),
            _ => Err(Damage::Range),
        }
    }

    fn open(&self, mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
        let (time, tgid) = moment(&mut bytes, bases)?;
        let (handle, generation) = self.handle(&mut bytes, bases)?;
        let fd = bytes.short()?;
        let flags = bytes.byte()?;
        let socket_state = bytes.byte()?;
        Ok(Event::Open(Open {
            handle,
            generation,
            time,
            tgid,
            fd,
            moment: if flags & open::AT_EXEC == 0 { Moment::Exit } else { Moment::Exec },
            close_on_exec: flags & open::CLOSE_ON_EXEC != 0,
            socket_state,
            deleted: flags & open::DELETED != 0,
            waiting: or_default(&mut bytes, Bytes::short)?,
            of_thread: match or_default(&mut bytes, Bytes::number)?.checked_sub(1) {
                Some(tid) => Some(u32::try_from(tid).map_err(|_| Damage::Range)?),
                None => None,
            },
        }))
    }
}

fn add<T>(table: &mut Vec<T>, entry: T, what: &'static str) -> Result<(), Damage> {
    if table.len() >= MAX_ENTRIES {
        return Err(Damage::TooMany(what));
    }
    table.push(entry);
    Ok(())
}

#[inline]
fn get<T>(table: &[T], number: u64) -> Option<&T> {
    table.get(usize::try_from(number).ok()?)
}

#[inline]
fn get_mut<T>(table: &mut [T], number: u64) -> Option<&mut T> {
    table.get_mut(usize::try_from(number).ok()?)
}

fn time(bytes: &mut Bytes<'_>, bases: &mut Bases) -> Result<u64, Damage> {
    bases.time = bytes.number_from(bases.time)?;
    Ok(bases.time)
}

/// A time and a process.
fn moment(bytes: &mut Bytes<'_>, bases: &mut Bases) -> Result<(u64, u32), Damage> {
    Ok((time(bytes, bases)?, process(bytes, bases)?))
}

fn name(bytes: &mut Bytes<'_>) -> Result<Name, Damage> {
    let short = bytes.bytes()?;
    let mut name = Name::default();
    name.get_mut(..short.len()).ok_or(Damage::Range)?.copy_from_slice(short);
    Ok(name)
}

fn release_in_full(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let flags = bytes.byte()?;
    let (time, tgid) = moment(&mut bytes, bases)?;
    let handle = address(&mut bytes, bases)?;
    Ok(Event::Release(Release {
        handle,
        generation: bytes.number_from(time)?,
        time,
        tgid,
        cause: Cause::from_wire(flags & release::CAUSE).unwrap_or_default(),
        never_opened: flags & release::NEVER_OPENED != 0,
        unaccounted: flags & release::UNACCOUNTED != 0,
    }))
}

fn fork(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let (time, parent) = moment(&mut bytes, bases)?;
    let child = process(&mut bytes, bases)?;
    let comm = name(&mut bytes)?;
    let shares = or_default(&mut bytes, Bytes::byte)? != 0;
    Ok(Event::Fork { time, parent, child, shares, comm })
}

fn cut(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let time = time(&mut bytes, bases)?;
    let tid = bytes.short()?;
    let began = bytes.number_from(time)?;
    let syscall = match bytes.count()?.checked_sub(1) {
        Some(number) => Some(u16::try_from(number).map_err(|_| Damage::Range)?),
        None => None,
    };
    Ok(Event::Cut(Cut { time, tid, began, syscall }))
}

fn exec(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let (time, tgid) = moment(&mut bytes, bases)?;
    let comm = name(&mut bytes)?;
    let path = bytes.bytes()?;
    if path.len() > MAX_TEXT {
        return Err(Damage::TooLong);
    }
    Ok(Event::Exec { time, tgid, comm, path: path.to_vec() })
}

fn exit(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let (time, tgid) = moment(&mut bytes, bases)?;
    let signal = or_default(&mut bytes, Bytes::byte)?;
    let status = or_default(&mut bytes, Bytes::byte)?;
    let limit = or_default(&mut bytes, Bytes::number)?;
    Ok(Event::Exit { time, tgid, how: Leaving { signal, status, limit } })
}

fn failure(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let (time, tgid) = moment(&mut bytes, bases)?;
    let errno = i32::try_from(bytes.number_from(0)?.cast_signed()).map_err(|_| Damage::Range)?;
    let times = if bytes.0.is_empty() { 1 } else { bytes.short()? };
    let limit = or_default(&mut bytes, Bytes::number)?;
    Ok(Event::Failure(AllocError { time, tgid, errno, times, limit }))
}

/// What a writer of an earlier version did not know to write.
fn or_default<'a, T: Default>(
    bytes: &mut Bytes<'a>,
    read: impl FnOnce(&mut Bytes<'a>) -> Result<T, Damage>,
) -> Result<T, Damage> {
    if bytes.0.is_empty() { Ok(T::default()) } else { read(bytes) }
}

fn short_lived(mut bytes: Bytes<'_>, dictionary: &Dictionary) -> Result<Event, Damage> {
    let site = match bytes.count()?.checked_sub(1) {
        Some(number) => Some(dictionary.site_id(number)?),
        None => None,
    };
    Ok(Event::ShortLived(ShortLived { site, handles: bytes.number()?, never_opened: bytes.number()? }))
}

fn sample(mut bytes: Bytes<'_>, bases: &mut Bases) -> Result<Event, Damage> {
    let mut stats = Stats { time: time(&mut bytes, bases)?, ..bases.sample };
    for figure in figures(&mut stats) {
        if bytes.0.is_empty() {
            break;
        }
        *figure = bytes.number_from(*figure)?;
    }
    bases.sample = stats;
    Ok(Event::Sample(Box::new(stats)))
}
