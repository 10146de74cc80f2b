//! Stacks that were walked before: a program opens from the same place again and again.
//!
//! What a walk has found is remembered with all that it depended on ([`super::trace`]). If the registers, the address space and
//! those words of the stack are as they were, it would find the same, so that it need not be done. Each CPU has what it has
//! walked itself: nobody waits for another one's memory, and no two write at once.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, macros::map, maps::PerCpuArray};
use fdtrace_common::unwind::Registers;

use super::{
    tables::{Met, Walked, Workspace},
    trace::{Trace, WORDS},
};
use crate::task::Space;

/// Powers of two: stacks are remembered in sets, by where they begin, and each set has room for some that begin alike.
const SETS: u32 = 32;
const WAYS: usize = 4;

/// Memory is read in so many pieces at most, of so many words at most. Powers of two.
const PIECES: usize = 8;
const PIECE_WORDS: usize = 128;
const PIECE_BYTES: u64 = PIECE_WORDS as u64 * 8;
/// So many bytes below the word that a piece is made for, others may be wanted: registers are saved below return addresses.
const BELOW: u64 = 64;

/// A set that found nothing so many times in a row is asked, and written, only once in so many times. A power of two.
const PATIENCE: u32 = 8;
/// The same of one that did not find anything after that. A power of two.
const RARELY: u32 = 128;

/// By the upper bits of [`key`].
#[map]
static STACK_CACHE: PerCpuArray<Set> = PerCpuArray::with_max_entries(SETS, 0);

type Memory = [u64; PIECES * PIECE_WORDS];

/// Stack memory as it is now.
#[map]
static STACK_PIECES: PerCpuArray<Memory> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
struct Set {
    /// How often in a row nothing was found.
    misses: u32,
    /// Which entry is the next one to make room.
    next: u32,
    entries: [Entry; WAYS],
}

/// A walk.
#[repr(C)]
struct Entry {
    /// Where it began; no instruction for none.
    instruction: u64,
    stack: u64,
    /// The name of the address space.
    space: u64,
    /// The frame pointer that it began with, and which bits of it count: all or none.
    frame: u64,
    frame_mask: u64,
    /// What it has found.
    walked: Walked,
    met: Met,
    /// How many pieces and words there are.
    pieces: u32,
    words: u32,
    /// Where the pieces begin, and how long they are.
    starts: [u64; PIECES],
    bytes: [u32; PIECES],
    /// Where in the pieces the words are, and what they were.
    places: [u16; WORDS],
    values: [u64; WORDS],
}

/// What is known of a stack. No enum, for any bytes are a value of a map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known(pub(crate) u64);

impl Known {
    /// Nothing, as so often: a walk is all that is to be done.
    pub(crate) const CHANGING: Self = Self(0);
    /// Nothing: what a walk finds is to be remembered.
    pub(crate) const NEW: Self = Self(1);
    /// What a walk has found.
    pub(crate) const FOUND: Self = Self(2);
}

/// What is known of the stack that the walk is about to begin with: what one has `found`, and which interpreter it has `met`.
#[inline(always)]
pub(crate) fn find(work: &Workspace, found: &mut Walked, met: &mut Met) -> Known {
    let (start, space) = (work.start, work.address_space());
    let (Some(set), Some(memory)) =
        (STACK_CACHE.get_ptr_mut(index(start, space)), STACK_PIECES.get_ptr_mut(0))
    else {
        return Known::CHANGING;
    };
    // SAFETY: the pointers are to values of the maps, not null, which only this program uses on this CPU.
    let (set, memory) = unsafe { (&mut *set, &mut *memory) };
    if is_changing(set.misses) {
        set.misses = set.misses.wrapping_add(1);
        return Known::CHANGING;
    }
    let mut way = 0;
    while way < WAYS {
        let entry = &set.entries[way];
        if entry.begins(start, space) && entry.is_same(memory) {
            (*found, *met) = (entry.walked, entry.met);
            set.misses = 0;
            return Known::FOUND;
        }
        way += 1;
    }
    set.misses = set.misses.wrapping_add(1);
    Known::NEW
}

/// Whether nothing was found so often that it is not worth while to look.
#[inline(always)]
const fn is_changing(misses: u32) -> bool {
    let interval = if misses < RARELY { PATIENCE } else { RARELY };
    misses >= PATIENCE && !misses.is_multiple_of(interval)
}

impl Entry {
    /// Whether the walk began there.
    #[inline(always)]
    fn begins(&self, start: Registers, space: Space) -> bool {
        self.instruction == start.instruction
            && self.stack == start.stack
            && self.space == space.name
            && (self.frame ^ start.frame) & self.frame_mask == 0
    }

    /// Whether the words that it depended on are what they were.
    #[inline(always)]
    fn is_same(&self, memory: &mut Memory) -> bool {
        let mut difference = 0;
        let mut piece = 0;
        while piece < PIECES {
            if piece as u32 >= self.pieces {
                break;
            }
            // From one word to all of a piece: the bounds are for the verifier.
            let bytes = (self.bytes[piece].wrapping_sub(8) & (PIECE_BYTES as u32 - 8)) + 8;
            // SAFETY: the piece is not longer than that; any address may be given, the helper checks it.
            let failed = unsafe {
                let into = memory.as_mut_ptr().add(piece * PIECE_WORDS);
                bpf_probe_read_user(into.cast(), bytes, self.starts[piece] as *const _)
            };
            difference |= failed as u64;
            piece += 1;
        }
        let mut word = 0;
        while word < WORDS {
            if word as u32 >= self.words {
                break;
            }
            let place = self.places[word] as usize & (PIECES * PIECE_WORDS - 1);
            difference |= memory[place] ^ self.values[word];
            word += 1;
        }
        difference == 0
    }
}

/// Remembers what a walk has found, if it can be found again. `place` is [`place`] with its trace, and false where there is no
/// room.
#[inline(always)]
pub(crate) fn keep(work: &Workspace, walked: Walked, place: impl Fn(u32, u32) -> bool) {
    let (start, space) = (work.start, work.address_space());
    let index = index(start, space);
    let Some(set) = STACK_CACHE.get_ptr_mut(index) else { return };
    // SAFETY: as above.
    let set = unsafe { &mut *set };
    let Some(words) = work.trace.words() else { return };
    set.next = set.next.wrapping_add(1);
    let entry = &mut set.entries[set.next as usize & (WAYS - 1)];
    entry.instruction = 0;
    entry.pieces = 0;
    entry.stack = start.stack;
    let mut word = 0;
    while word < WORDS as u32 {
        if word >= words {
            break;
        }
        if !place(index, word) {
            return;
        }
        word += 1;
    }
    let entry = &mut set.entries[set.next as usize & (WAYS - 1)];
    entry.space = space.name;
    entry.frame = start.frame;
    entry.frame_mask = u64::from(work.trace.uses_frame).wrapping_neg();
    entry.walked = walked;
    entry.met = work.met;
    entry.words = words;
    entry.instruction = start.instruction;
}

/// Makes a word one of those that the entry in progress depends on; false where there is no room for the memory that it is in.
#[inline(always)]
pub(crate) fn place(trace: &Trace, index: u32, word: u32) -> bool {
    let Some(set) = STACK_CACHE.get_ptr_mut(index) else { return false };
    // SAFETY: as above.
    let set = unsafe { &mut *set };
    let entry = &mut set.entries[set.next as usize & (WAYS - 1)];
    let needed = trace.word(word);
    let mut piece = 0;
    while piece < PIECES {
        if piece as u32 >= entry.pieces {
            break;
        }
        if needed.address.wrapping_sub(entry.starts[piece]) < PIECE_BYTES {
            break;
        }
        piece += 1;
    }
    if piece >= PIECES {
        return false;
    }
    let piece = piece & (PIECES - 1);
    if piece as u32 >= entry.pieces {
        let start = needed.address.wrapping_sub(BELOW);
        entry.starts[piece] = if start < entry.stack { needed.address } else { start };
        entry.bytes[piece] = 0;
        entry.pieces = piece as u32 + 1;
    }
    let offset = needed.address.wrapping_sub(entry.starts[piece]) as u32;
    if entry.bytes[piece] < offset + 8 {
        entry.bytes[piece] = offset + 8;
    }
    let word = word as usize & (WORDS - 1);
    entry.places[word] = (piece * PIECE_WORDS) as u16 + (offset / 8) as u16;
    entry.values[word] = needed.value;
    true
}

/// The upper bits of a product depend on all bits of its factors.
#[inline(always)]
fn index(start: Registers, space: Space) -> u32 {
    let key = (start.instruction ^ start.stack.rotate_left(20) ^ space.mm.address())
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (key >> 59) as u32 & (SETS - 1)
}

const _: () = assert!(SETS == 32 && PIECES * PIECE_WORDS <= u16::MAX as usize);
