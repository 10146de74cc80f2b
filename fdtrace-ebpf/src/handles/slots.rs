//! The slots of [`fdtrace_common::handle_slots`], in two arrays that user space maps.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::{
    handle_slots::{self, Keys, SLOTS, Slot, WORDS, bucket},
    wire::Entry,
};

use crate::{atomic, config};

const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The keys of a bucket's slots.
#[map]
static SLOT_KEYS: Array<Keys> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The entry of each slot.
#[map]
static SLOT_ENTRIES: Array<Entry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Whether this kernel has what slots need.
#[inline(always)]
pub(super) fn in_use() -> bool {
    config::get!(handle_buckets) != 0
}

/// The number of a slot, as the functions below speak of it: 0 is none.
type Number = u64;

/// The slot of a handle. A function of its own: a slot's number is one of many, and the verifier would follow each.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn handle_slot(handle: u64) -> Number {
    let bucket = bucket(handle, config::get!(handle_buckets));
    let Some(keys) = SLOT_KEYS.get_ptr(bucket) else { return 0 };
    let mut slot = 0;
    while slot < SLOTS {
        if load(keys, slot) == handle {
            return number(bucket, slot);
        }
        slot += 1;
    }
    0
}

/// Set beside the number of a slot that the handle had before.
const KNOWN: Number = 1 << 63;

/// The slot of a handle, or one that is claimed for it; 0 where the bucket is full.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn handle_claim(handle: u64) -> Number {
    let bucket = bucket(handle, config::get!(handle_buckets));
    let Some(keys) = SLOT_KEYS.get_ptr_mut(bucket) else { return 0 };
    // Nobody else puts the same handle in, so that it cannot come into a slot that was looked at.
    let (mut slot, mut free) = (0, SLOTS);
    while slot < SLOTS {
        match load(keys, slot) {
            known if known == handle => return number(bucket, slot) | KNOWN,
            0 if free == SLOTS => free = slot,
            _ => {}
        }
        slot += 1;
    }
    while free < SLOTS {
        // SAFETY: an element of the array; `free` is one of its words.
        let word = unsafe { keys.cast::<u64>().add(free as usize) };
        // SAFETY: as above.
        if load(keys, free) == 0 && unsafe { atomic::compare_exchange(word, 0, handle) } == 0 {
            return number(bucket, free);
        }
        free += 1;
    }
    0
}

#[inline(always)]
const fn number(bucket: u32, slot: u32) -> Number {
    bucket as u64 * SLOTS as u64 + slot as u64 + 1
}

/// Others write here.
#[inline(always)]
fn load(keys: *const Keys, slot: u32) -> u64 {
    // SAFETY: an element of the array; `slot` is one of its words.
    unsafe { core::ptr::read_volatile(keys.cast::<u64>().add(slot as usize)) }
}

/// What came of a claim.
pub(super) enum Claimed {
    New(Held),
    Known,
    NoSlot,
}

/// A slot that holds a handle.
pub(super) struct Held {
    key: *mut u64,
    entry: *mut Entry,
}

impl Held {
    #[inline(always)]
    pub(super) fn of(handle: u64) -> Option<Self> {
        Self::numbered(handle_slot(handle))
    }

    #[inline(always)]
    pub(super) fn claim(handle: u64) -> Claimed {
        let number = handle_claim(handle);
        match Self::numbered(number & !KNOWN) {
            Some(_) if number & KNOWN != 0 => Claimed::Known,
            Some(held) => Claimed::New(held),
            None => Claimed::NoSlot,
        }
    }

    #[inline(always)]
    fn numbered(number: Number) -> Option<Self> {
        let index = number.checked_sub(1)? as u32;
        let keys = SLOT_KEYS.get_ptr_mut(index / SLOTS)?;
        // SAFETY: an element of the array, and one of its words.
        let key = unsafe { keys.cast::<u64>().add((index % SLOTS) as usize) };
        Some(Self { key, entry: SLOT_ENTRIES.get_ptr_mut(index)? })
    }

    #[inline(always)]
    pub(super) const fn entry(&self) -> *mut Entry {
        self.entry
    }

    #[inline(always)]
    pub(super) fn publish(&self, entry: &Entry) {
        handle_slots::publish(self, words(entry));
    }

    #[inline(always)]
    pub(super) fn replace(&self, entry: &Entry) {
        handle_slots::replace(self, words(entry));
    }

    #[inline(always)]
    pub(super) fn clear(&self) {
        handle_slots::clear(self);
    }
}

#[inline(always)]
fn words(entry: &Entry) -> &[u64; WORDS] {
    // SAFETY: an entry is as long as these words, aligned as they are, and has no padding.
    unsafe { &*(&raw const *entry).cast() }
}

impl Slot for Held {
    #[inline(always)]
    fn claim(&self, handle: u64) -> bool {
        // SAFETY: the key of a slot.
        unsafe { atomic::compare_exchange(self.key, 0, handle) == 0 }
    }

    #[inline(always)]
    fn free(&self) {
        // SAFETY: as above.
        unsafe { atomic::exchange(self.key, 0) };
    }

    #[inline(always)]
    fn exchange_generation(&self, generation: u64) {
        // SAFETY: the first word of a slot's entry.
        unsafe { atomic::exchange(self.entry.cast(), generation) };
    }

    #[inline(always)]
    fn store(&self, word: usize, value: u64) {
        // SAFETY: one of the words of a slot's entry. Volatile: others read it.
        unsafe { core::ptr::write_volatile(self.entry.cast::<u64>().add(word), value) };
    }
}
