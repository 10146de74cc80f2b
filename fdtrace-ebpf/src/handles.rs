//! The kernel's truth: every live traced handle, by address. No other room touches the map.
//!
//! A handle gets in where it is made, and only where it was not known ([`add`]); one that is known there was missed when it
//! was released, and its entry is [`replace`]d. It gets out before anybody hears of its release ([`remove`]): a reader that finds
//! it in the table may not have seen its release yet, but one that has seen its release never finds it there. User space reads
//! all entries by batches under the same rule, with the ring drained once more behind them.

use aya_ebpf::{macros::map, maps::HashMap};
use fdtrace_common::wire::{Alloc, Entry, Tag, state};

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = -17;

/// Live handles by the address of their `struct file`. Sized by the loader; preallocated, since an element that is
/// allocated on demand can fail in bursts.
#[map]
static HANDLES: HashMap<u64, Entry> = HashMap::with_max_entries(262_144, 0);

/// What came of a handle that was to get in.
pub(crate) enum Added {
    New,
    Known,
    NoRoom,
}

#[inline(always)]
pub(crate) fn add(handle: u64, entry: &Entry) -> Added {
    match HANDLES.insert(handle, entry, BPF_NOEXIST) {
        Ok(()) => Added::New,
        Err(EEXIST) => Added::Known,
        Err(_) => Added::NoRoom,
    }
}

/// False where there is no room.
#[inline(always)]
pub(crate) fn replace(handle: u64, entry: &Entry) -> bool {
    HANDLES.insert(handle, entry, BPF_ANY).is_ok()
}

/// Gone already is gone.
#[inline(always)]
pub(crate) fn remove(handle: u64) {
    let _ = HANDLES.remove(handle);
}

#[inline(always)]
pub(crate) fn get(handle: u64) -> Option<&'static Entry> {
    // SAFETY: not null, and a value of the map, whose memory stays; only `state` changes while the handle lives.
    HANDLES.get_ptr(handle).map(|entry| unsafe { &*entry })
}

/// Remembers that a handle was mapped; its generation, or `None` for one that is not in the table.
#[inline(always)]
pub(crate) fn note_mapped(handle: u64) -> Option<u64> {
    let entry = HANDLES.get_ptr_mut(handle)?;
    // SAFETY: the pointer is to a value of the map, not null; the state's other writer may take the bit back.
    unsafe {
        (*entry).state |= state::MAPPED;
        Some((*entry).generation)
    }
}

/// Remembers that a handle was described.
#[inline(always)]
pub(crate) fn note_described(handle: u64) {
    if let Some(entry) = HANDLES.get_ptr_mut(handle) {
        // SAFETY: as above.
        unsafe { (*entry).state |= state::DESCRIBED };
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
