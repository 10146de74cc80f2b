//! The addresses that were met last, in front of PC_CACHE: a look-up in a hash table costs several times as much as one here,
//! which the kernel makes a few instructions, and a stack has a look-up for each frame.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::unwind::{Code, Rule};

/// A power of two.
const SLOTS: u32 = 4096;

/// By the upper bits of the key. All CPUs share it.
#[map]
static PC_CACHE_L1: Array<Slot> = Array::with_max_entries(SLOTS, 0);

/// An address, or what two CPUs that wrote at once have left of two: then `check` fits neither.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    module: u64,
    offset: u64,
    rule: u64,
    /// The key, mixed with the other words.
    check: u64,
}

impl Slot {
    #[inline(always)]
    const fn mixed(&self) -> u64 {
        self.check ^ self.module ^ self.offset ^ self.rule
    }
}

#[inline(always)]
pub(crate) fn find(key: u64) -> Option<Code> {
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let slot = unsafe { *PC_CACHE_L1.get_ptr(index(key))? };
    // An empty slot is nobody's: a key is 0 by the same accident that makes two keys meet.
    if slot.mixed() != key {
        return None;
    }
    // SAFETY: as many bytes, of which any are a rule.
    let rule = unsafe { core::mem::transmute::<u64, Rule>(slot.rule) };
    Some(Code { module: slot.module, offset: slot.offset, rule })
}

#[inline(always)]
pub(crate) fn keep(key: u64, code: Code) {
    let Some(place) = PC_CACHE_L1.get_ptr_mut(index(key)) else { return };
    let Code { module, offset, rule } = code;
    // SAFETY: as many bytes, all of them initialized: a rule has no padding.
    let rule = unsafe { core::mem::transmute::<Rule, u64>(rule) };
    let slot = Slot { module, offset, rule, check: key };
    // SAFETY: the pointer is to a value of the map, not null; readers check what they find.
    unsafe { *place = Slot { check: slot.mixed(), ..slot } };
}

/// What an address is known by here: cheaper than [`fdtrace_common::unwind::place_key`], and as good as that, since the
/// name of an address space is a hash itself.
#[inline(always)]
pub(crate) const fn key(space: u64, address: u64) -> u64 {
    (space ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The upper bits of a product depend on all bits of its factors.
#[inline(always)]
const fn index(key: u64) -> u32 {
    (key >> 52) as u32 & (SLOTS - 1)
}
