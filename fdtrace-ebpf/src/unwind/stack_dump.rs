//! Stack memory for user space, where a walk stopped for want of a rule.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use fdtrace_common::wire::{self, CodeMapping, DUMP_BYTES, DUMP_MAPPINGS, Tag};

use super::{
    mappings,
    tables::{self, Met, Workspace},
};
use crate::{config, events};

/// Read at once; a power of two that divides a page, so that a block lies in one mapping or in none.
const BLOCK: usize = 1024;

/// Words of the stack that are looked at for return addresses: all, for a function may have a buffer of many kilobytes.
const WORDS: usize = DUMP_BYTES / 8;
/// Words that are looked at in one go.
const STRETCH: usize = 64;
/// The first slots are for code that is known before any word is looked at: where the walk has stopped, and the program's own.
const KNOWN: usize = 2;
/// Slots for words, and for one more that needs none.
const CHOSEN: u64 = (DUMP_MAPPINGS - KNOWN) as u64;
/// Odd, with well-mixed bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// No code of a process lies above.
const ADDRESS_BITS: u32 = 47;
const PAGE_SHIFT: u64 = 12;
const VM_EXEC: u64 = 4;

/// A record as it goes through the ring, and what it is made with.
#[repr(C)]
pub(crate) struct StackDump {
    header: wire::StackDump,
    words: [u64; DUMP_BYTES / 8],
    /// Words that are looked up.
    candidates: [u64; DUMP_MAPPINGS],
    /// Words that need not be looked up: those into [`KNOWN`] mappings, and into this stack.
    needless: [Range; KNOWN + 1],
    /// Which words get into each other's way: another number, others do.
    seed: u64,
}

/// The first address and the last one.
#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
}

impl Range {
    /// No address lies in an empty range.
    #[inline(always)]
    const fn of(start: u64, end: u64) -> Self {
        Self { first: start, last: end.wrapping_sub(1) }
    }

    /// 1 for an address outside. Without branches, for addresses below 2^63.
    #[inline(always)]
    const fn excludes(self, address: u64) -> u64 {
        (address.wrapping_sub(self.first) | self.last.wrapping_sub(address)) >> 63
    }
}

/// Sends the stack from where the walk stopped, as far as it can be read; false when the ring is full. `stretch` is
/// [`choose_some`] and `locate` is [`locate`] with this dump; `found` is called when that is done.
#[inline(always)]
pub(crate) fn send(
    dump: &mut StackDump,
    work: &mut Workspace,
    tgid: u32,
    name: u64,
    stretch: impl Fn(u32),
    locate: impl Fn(u32),
    found: impl Fn(),
) -> bool {
    let stopped = work.stopped;
    let stack = stopped.registers.stack;
    let above = stopped.top.wrapping_sub(stack);
    let filled = fill(dump, stack, if above < stopped.room { above } else { stopped.room });
    let bytes = if above < filled as u64 { above as usize } else { filled };
    dump.header = wire::StackDump {
        tag: Tag::StackDump as u8,
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
        code: [CodeMapping::default(); DUMP_MAPPINGS],
    };
    if config::get!(dump_code) != 0 {
        find_code(dump, work, name, bytes, stretch, locate);
    }
    found();
    // The compiler knows that there are few, and old verifiers do not: the bounds have to be in the code.
    // SAFETY: a field of the dump.
    let bytes = unsafe { core::ptr::read_volatile(&raw const dump.header.bytes) } as usize;
    let length = size_of::<wire::StackDump>() + (bytes & (2 * DUMP_BYTES - 1));
    if length > size_of::<wire::StackDump>() + DUMP_BYTES {
        return false;
    }
    // SAFETY: not longer than the dump.
    let record = unsafe { core::slice::from_raw_parts((&raw const *dump).cast::<u8>(), length) };
    events::send_urgently(record)
}

/// Reads stack memory in blocks that end where pages do, until one cannot be read or there are as many bytes as are
/// wanted, and up to two blocks more; says how many there are.
#[inline(always)]
fn fill(dump: &mut StackDump, from: u64, wanted: u64) -> usize {
    let blocks = wanted / BLOCK as u64 + 2;
    let first = BLOCK - (from as usize & (BLOCK - 1));
    if !copy(dump, 0, first, from) {
        return 0;
    }
    // In memory, where the compiler makes nothing of it that the verifier does not understand.
    let filled = &raw mut dump.header.bytes;
    // SAFETY: a field of the dump, here and below.
    unsafe { filled.write_volatile(first as u32) };
    let mut block = 1;
    while block < DUMP_BYTES / BLOCK {
        // SAFETY: as above.
        let at = unsafe { filled.read_volatile() } as usize;
        if block as u64 >= blocks
            || at > DUMP_BYTES - BLOCK
            || !copy(dump, at, BLOCK, from.wrapping_add(at as u64))
        {
            break;
        }
        // SAFETY: as above.
        unsafe { filled.write_volatile((at + BLOCK) as u32) };
        block += 1;
    }
    // SAFETY: as above.
    unsafe { filled.read_volatile() as usize }
}

#[inline(always)]
fn copy(dump: &mut StackDump, at: usize, bytes: usize, from: u64) -> bool {
    // SAFETY: the callers' lengths end within the dump; any address may be given, the helper checks it.
    unsafe {
        bpf_probe_read_user(
            dump.words.as_mut_ptr().cast::<u8>().add(at).cast(),
            bytes as u32,
            from as *const _,
        ) == 0
    }
}

/// Finds code of the process that the stack points into.
#[inline(always)]
fn find_code(
    dump: &mut StackDump,
    work: &Workspace,
    seed: u64,
    bytes: usize,
    stretch: impl Fn(u32),
    locate: impl Fn(u32),
) {
    let stopped = &work.stopped;
    dump.candidates = [0; DUMP_MAPPINGS];
    dump.candidates[0] = stopped.registers.instruction;
    // A small program's only frames may lie above more words than there are slots.
    dump.candidates[1] = stopped.mm.end_code().saturating_sub(1);
    dump.seed = seed;
    let mut slot = 0;
    while slot < KNOWN {
        locate(slot as u32);
        slot += 1;
    }
    let stack = stopped.registers.stack;
    let itself = Range::of(stack, stack.wrapping_add(bytes as u64));
    let [instruction, program, ..] = dump.header.code;
    dump.needless =
        [Range::of(instruction.start, instruction.end), Range::of(program.start, program.end), itself];
    // The innermost frames come last, so that they are not forgotten for others.
    let mut left = WORDS / STRETCH;
    while left > 0 {
        left -= 1;
        if left * STRETCH * 8 < bytes {
            stretch(left as u32);
        }
    }
    while slot < DUMP_MAPPINGS {
        locate(slot as u32);
        slot += 1;
    }
}

/// Looks at some words, the last first.
#[inline(always)]
pub(crate) fn choose_some(dump: &mut StackDump, stretch: usize) {
    let begin = stretch & (WORDS / STRETCH - 1);
    let mut left = STRETCH;
    while left > 0 {
        left -= 1;
        choose(dump, begin * STRETCH + left);
    }
}

/// Remembers a word that may be an address of code; others of the same page, and some of other pages, are forgotten for it.
/// Without branches, for the verifier follows each of them. Behind the stack's end are words of an earlier stack, which do
/// no harm.
#[inline(always)]
fn choose(dump: &mut StackDump, index: usize) {
    let word = dump.words[index];
    let page = word >> PAGE_SHIFT;
    let hash = (page ^ dump.seed).wrapping_mul(MULTIPLIER) >> 32;
    let slot = (KNOWN as u64 + ((hash * CHOSEN) >> 32)) as usize & (DUMP_MAPPINGS - 1);
    // All ones for a word that has a page, and none of the bits that addresses have not.
    let is_small = (page >> (ADDRESS_BITS - PAGE_SHIFT as u32)).wrapping_sub(1) >> 63;
    let is_mapped = page.wrapping_neg() >> 63;
    let [instruction, program, stack] = dump.needless;
    let is_new = instruction.excludes(word) & program.excludes(word) & stack.excludes(word);
    let mask = (is_small & is_mapped & is_new).wrapping_neg();
    dump.candidates[slot] = (dump.candidates[slot] & !mask) | (word & mask);
}

/// Notes the mapping that a remembered word points into, if it is code of a file, which it gives.
#[inline(always)]
pub(crate) fn locate(dump: &mut StackDump, work: &mut Workspace, slot: usize) -> Option<Met> {
    let address = dump.candidates[slot & (DUMP_MAPPINGS - 1)];
    if address == 0 {
        return None;
    }
    let found = mappings::find(work.stopped.mm, address, &mut work.node)?;
    if found.file.is_null() || found.flags & VM_EXEC == 0 {
        return None;
    }
    let (module, offset) = (tables::module(found.file), found.page << PAGE_SHIFT);
    dump.header.code[slot & (DUMP_MAPPINGS - 1)] =
        CodeMapping { start: found.start, end: found.end, offset, module };
    Some(Met { module, start: found.start.wrapping_sub(offset) })
}
