//! Stack memory for user space, where a walk stopped for want of a rule.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use fdtrace_common::wire::{self, CodeMapping, Tag, WINDOW_BYTES, WINDOW_MAPPINGS};

use super::{
    mappings,
    tables::{self, Workspace},
};
use crate::{config, events};

/// Read at once; a power of two that divides a page, so that a block lies in one mapping or in none.
const BLOCK: usize = 1024;

/// Words of the stack that are looked at for return addresses: all, for a function may have a buffer of many kilobytes.
const WORDS: usize = WINDOW_BYTES / 8;
/// Words that are looked at in one go.
const STRETCH: usize = 64;
/// From a hash of a word's page to the candidate that the word is.
const CANDIDATES_SHIFT: u32 = 64 - WINDOW_MAPPINGS.trailing_zeros();
/// Odd, with well-mixed bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// No code of a process lies above.
const ADDRESS_BITS: u32 = 47;
const PAGE_SHIFT: u64 = 12;
const VM_EXEC: u64 = 4;

/// A record as it goes through the ring, and what it is made with.
#[repr(C)]
pub(crate) struct Window {
    header: wire::Window,
    words: [u64; WINDOW_BYTES / 8],
    /// Words that are looked up.
    candidates: [u64; WINDOW_MAPPINGS],
}

/// Sends the stack from where the walk stopped, as far as it can be read; false when the ring is full. `stretch` is
/// [`choose_some`] and `locate` is [`locate`] with this window.
#[inline(always)]
pub(crate) fn send(
    window: &mut Window,
    work: &mut Workspace,
    tgid: u32,
    name: u64,
    stretch: impl Fn(u32),
    locate: impl Fn(u32),
) -> bool {
    let stopped = work.stopped;
    let stack = stopped.registers.stack;
    let filled = fill(window, stack);
    let above = stopped.top.wrapping_sub(stack) as usize;
    let bytes = if above < filled { above } else { filled };
    window.header = wire::Window {
        tag: Tag::Window as u8,
        exact: stopped.exact as u8,
        reserved: 0,
        tgid,
        hash: name,
        space: stopped.space,
        module: stopped.module,
        offset: stopped.offset,
        registers: stopped.registers,
        bytes: bytes as u32,
        reserved2: 0,
        code: [CodeMapping::default(); WINDOW_MAPPINGS],
    };
    if config::get!(window_code) != 0 {
        find_code(window, work, stretch, locate);
    }
    // The compiler knows that there are few, and old verifiers do not: the bounds have to be in the code.
    // SAFETY: a field of the window.
    let bytes = unsafe { core::ptr::read_volatile(&raw const window.header.bytes) } as usize;
    let length = size_of::<wire::Window>() + (bytes & (2 * WINDOW_BYTES - 1));
    if length > size_of::<wire::Window>() + WINDOW_BYTES {
        return false;
    }
    // SAFETY: not longer than the window.
    let record = unsafe { core::slice::from_raw_parts((&raw const *window).cast::<u8>(), length) };
    events::send_urgently(record)
}

/// Reads stack memory in blocks that end where pages do, until one cannot be read; says how many bytes there are.
#[inline(always)]
fn fill(window: &mut Window, from: u64) -> usize {
    let first = BLOCK - (from as usize & (BLOCK - 1));
    if !copy(window, 0, first, from) {
        return 0;
    }
    let mut filled = first;
    let mut block = 1;
    while block < WINDOW_BYTES / BLOCK {
        if filled > WINDOW_BYTES - BLOCK || !copy(window, filled, BLOCK, from.wrapping_add(filled as u64)) {
            break;
        }
        filled += BLOCK;
        block += 1;
    }
    filled
}

#[inline(always)]
fn copy(window: &mut Window, at: usize, bytes: usize, from: u64) -> bool {
    // SAFETY: the callers' lengths end within the window; any address may be given, the helper checks it.
    unsafe {
        bpf_probe_read_user(
            window.words.as_mut_ptr().cast::<u8>().add(at).cast(),
            bytes as u32,
            from as *const _,
        ) == 0
    }
}

/// Finds code of the process that the stack points into.
#[inline(always)]
fn find_code(window: &mut Window, work: &Workspace, stretch: impl Fn(u32), locate: impl Fn(u32)) {
    window.candidates = [0; WINDOW_MAPPINGS];
    // The innermost frames come last, so that they are not forgotten for others.
    let mut left = WORDS / STRETCH;
    while left > 0 {
        left -= 1;
        stretch(left as u32);
    }
    window.candidates[0] = work.stopped.registers.instruction;
    let mut slot = 0;
    while slot < WINDOW_MAPPINGS {
        locate(slot as u32);
        slot += 1;
    }
}

/// Looks at some words, the last first.
#[inline(always)]
pub(crate) fn choose_some(window: &mut Window, stretch: usize) {
    let begin = stretch & (WORDS / STRETCH - 1);
    let mut left = STRETCH;
    while left > 0 {
        left -= 1;
        choose(window, begin * STRETCH + left);
    }
}

/// Remembers a word that may be an address of code; others of the same page, and some of other pages, are forgotten for it.
/// Without branches, for the verifier follows each of them. Behind the stack's end are words of an earlier stack, which do
/// no harm.
#[inline(always)]
fn choose(window: &mut Window, index: usize) {
    let word = window.words[index];
    let page = word >> PAGE_SHIFT;
    let slot = (page.wrapping_mul(MULTIPLIER) >> CANDIDATES_SHIFT) as usize & (WINDOW_MAPPINGS - 1);
    // All ones for a word that has a page, and none of the bits that addresses have not.
    let is_small = (page >> (ADDRESS_BITS - PAGE_SHIFT as u32)).wrapping_sub(1) >> 63;
    let is_mapped = page.wrapping_neg() >> 63;
    let mask = (is_small & is_mapped).wrapping_neg();
    window.candidates[slot] = (window.candidates[slot] & !mask) | (word & mask);
}

/// Notes the mapping that a remembered word points into, if it is code of a file.
#[inline(always)]
pub(crate) fn locate(window: &mut Window, work: &mut Workspace, slot: usize) {
    let address = window.candidates[slot & (WINDOW_MAPPINGS - 1)];
    if address == 0 {
        return;
    }
    let Some(found) = mappings::find(work.stopped.mm, address, &mut work.node) else { return };
    if found.file == 0 || found.flags & VM_EXEC == 0 {
        return;
    }
    window.header.code[slot & (WINDOW_MAPPINGS - 1)] = CodeMapping {
        start: found.start,
        end: found.end,
        offset: found.page << PAGE_SHIFT,
        module: tables::module(found.file),
    };
}
