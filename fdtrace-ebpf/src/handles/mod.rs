//! The kernel's truth: every live traced handle, by address. No other room touches the maps.
//!
//! A handle gets in where it is made, and only where it was not known ([`add`]); one that is known there was missed when it
//! was released, and its entry is [`replace`]d. It gets out before anybody hears of its release ([`remove`]): a reader that finds
//! it in the table may not have seen its release yet, but one that has seen its release never finds it there. User space reads
//! all entries under the same rule, with the ring drained once more behind them.
//!
//! Where BPF has atomic exchanges the handles are in [`slots`], and in the hash map only those that find no slot: a hash map's
//! locks and its list of free elements are most of what an event costs otherwise.

mod slots;

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};
use fdtrace_common::wire::{Alloc, Entry, Tag, state};

use slots::{Claimed, Held};

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = -17;

/// Live handles by the address of their `struct file`: all of them where this kernel has no atomic exchanges, else those whose
/// bucket is full. Sized by the loader; preallocated, since an element that is allocated on demand can fail in bursts.
#[map]
static HANDLES: HashMap<u64, Entry> = HashMap::with_max_entries(262_144, 0);

/// Not 0 once a handle has found its bucket full.
#[map]
static SPILLED: Array<u64> = Array::with_max_entries(1, 0);

/// What came of a handle that was to get in.
pub(crate) enum Added {
    New,
    Known,
    NoRoom,
}

#[inline(always)]
pub(crate) fn add(handle: u64, entry: &Entry) -> Added {
    if slots::in_use() {
        if has_spilled() && HANDLES.get_ptr(handle).is_some() {
            return Added::Known;
        }
        match Held::claim(handle) {
            Claimed::New(slot) => {
                slot.publish(entry);
                return Added::New;
            }
            Claimed::Known => return Added::Known,
            Claimed::NoSlot => spill(),
        }
    }
    match HANDLES.insert(handle, entry, BPF_NOEXIST) {
        Ok(()) => Added::New,
        Err(EEXIST) => Added::Known,
        Err(_) => Added::NoRoom,
    }
}

/// False where there is no room.
#[inline(always)]
pub(crate) fn replace(handle: u64, entry: &Entry) -> bool {
    if slots::in_use()
        && let Some(slot) = Held::of(handle)
    {
        slot.replace(entry);
        return true;
    }
    HANDLES.insert(handle, entry, BPF_ANY).is_ok()
}

/// A handle that is in the table.
pub(crate) struct Known {
    handle: u64,
    entry: *mut Entry,
    /// `None` in the hash map.
    slot: Option<Held>,
}

impl Known {
    #[inline(always)]
    pub(crate) const fn entry(&self) -> &'static Entry {
        // SAFETY: not null, and a value of a map, whose memory stays; only `state` changes while the handle lives.
        unsafe { &*self.entry }
    }

    /// Takes it out; its entry is anybody's then.
    #[inline(always)]
    pub(crate) fn remove(&self) {
        match &self.slot {
            Some(slot) => slot.clear(),
            None => drop(HANDLES.remove(self.handle)),
        }
    }
}

#[inline(always)]
pub(crate) fn find(handle: u64) -> Option<Known> {
    if slots::in_use() {
        if let Some(slot) = Held::of(handle) {
            return Some(Known { handle, entry: slot.entry(), slot: Some(slot) });
        }
        if !has_spilled() {
            return None;
        }
    }
    Some(Known { handle, entry: HANDLES.get_ptr_mut(handle)?, slot: None })
}

#[inline(always)]
pub(crate) fn get(handle: u64) -> Option<&'static Entry> {
    find(handle).map(|known| known.entry())
}

/// Gone already is gone.
#[inline(always)]
pub(crate) fn remove(handle: u64) {
    if let Some(known) = find(handle) {
        known.remove();
    }
}

/// Most look-ups are of handles that are not traced: no second one follows, unless there is something to be found.
#[inline(always)]
fn has_spilled() -> bool {
    SPILLED.get(0).is_some_and(|spilled| *spilled != 0)
}

#[inline(always)]
fn spill() {
    if let Some(spilled) = SPILLED.get_ptr_mut(0) {
        // SAFETY: an element of the array; whoever writes here writes the same.
        unsafe { *spilled = 1 };
    }
}

/// Remembers that a handle was mapped; its generation, or `None` for one that is not in the table.
#[inline(always)]
pub(crate) fn note_mapped(handle: u64) -> Option<u64> {
    let entry = find(handle)?.entry;
    // SAFETY: the pointer is to a value of a map, not null; the state's other writer may take the bit back.
    unsafe {
        (*entry).state |= state::MAPPED;
        Some((*entry).generation)
    }
}

/// Remembers that a handle was described.
#[inline(always)]
pub(crate) fn note_described(handle: u64) {
    if let Some(known) = find(handle) {
        // SAFETY: as above.
        unsafe { (*known.entry).state |= state::DESCRIBED };
    }
}

/// Whether a handle is still the one of that generation.
#[inline(always)]
pub(crate) fn is_still(handle: u64, generation: u64) -> bool {
    get(handle).is_some_and(|entry| entry.generation == generation)
}

/// The record of a handle that is in the table.
#[inline(always)]
pub(crate) fn birth(handle: u64, entry: &Entry) -> Alloc {
    Alloc {
        tag: Tag::Alloc as u8,
        flags: entry.flags,
        syscall: entry.syscall,
        tid: entry.tid,
        handle,
        generation: entry.generation,
        user_stack: entry.user_stack,
        kernel_stack: entry.kernel_stack,
        tgid: entry.tgid,
        detail: entry.detail,
    }
}
