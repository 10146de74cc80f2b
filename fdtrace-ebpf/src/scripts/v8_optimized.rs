//! Calls in code of V8's optimising compilers (Maglev, TurboFan), with those that are inlined in it.
//!
//! Each call there that may end in other code has a translation, by which V8 makes interpreted frames of an optimised one: it says of
//! each of them, the outermost first, which function that is, and where in its bytecodes it is. So a call is the same here as where
//! it is interpreted. What was found is remembered by the code that it was found in, which other code may take the place of.

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    hash,
    scripts::ABSENT,
    v8::{V8, deoptimization, operation, safepoints},
};

use super::{
    SCRIPTS, Scripts,
    memory::{read, word},
    v8,
};
use crate::takers::TAKERS;

/// Instructions begin at a multiple of it.
const ALIGNMENT: u64 = 32;
/// Code is looked for so far before the address: 64 KiB.
const MAX_STEPS: u32 = 2048;
/// The most calls of a piece of code that are looked through.
const MAX_SAFEPOINTS: u32 = 1024;
/// The most operations and operands of a translation.
const MAX_PARTS: u32 = 2048;
/// All of these are gone through in stretches of so many: the verifier checks a stretch once, and each round of its loop.
const STRETCH: u32 = 32;
/// The most calls that one frame has; a power of two.
const MAX_INLINED: usize = 32;

/// Bytes before the elements of an array, after its tag.
const ARRAY: u64 = 15;
const ARRAY_LENGTH: u32 = 8;
/// A pointer to an object that does not keep it has one more bit.
const WEAK: u64 = 2;

/// So many steps of any kind are made for one stack.
const MAX_SEARCHED: u32 = 32_768;

/// Calls by the address space, the address in the frame, and how many calls are inlined in the one. It costs much to find one again.
#[map]
static V8_CALLS: LruHashMap<u64, Slot> = LruHashMap::with_max_entries(16384, 0);

/// What is found out of a frame, by who takes the stack.
#[map]
static V8_CODE: PerCpuArray<Optimized> = PerCpuArray::with_max_entries(TAKERS, 0);

/// Another may come to its place while it is read: then `key` does not fit.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    stream: u64,
    check: u64,
    /// The name of the function.
    code: u64,
    /// The instruction, and above it whether the call is inlined in another.
    place: u64,
}

impl Slot {
    #[inline(always)]
    const fn mixed(&self) -> u64 {
        let code = self.code.rotate_left(7) ^ self.place.rotate_left(14);
        self.key ^ self.stream ^ self.check.rotate_left(21) ^ code
    }
}

/// A function that is called, and where in its bytecodes it is.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    shared: u64,
    offset: i64,
}

#[repr(C)]
struct Optimized {
    /// Where the frame goes on.
    pc: u64,
    /// What its instructions lie in, and where they begin there; their `Code`, and what that was made of.
    stream: u64,
    start: u64,
    code: u64,
    made_of: u64,
    /// What tells the code from other code that was at its place.
    check: u64,
    /// What the next call is remembered by.
    key: u64,
    /// Safepoints: where they are, how many, how long each is, and how long its numbers are.
    table: u64,
    safepoints: u32,
    entry_bytes: u32,
    pc_bytes: u32,
    index_bytes: u32,
    /// Where translations are, and how long all of them.
    translations: u64,
    end: u32,
    /// The next part of this translation, and of the one before that it has operations of.
    current: u32,
    previous: u32,
    /// How many operations of the one before are passed over, how many are then taken, and how many were not taken from there since.
    skipped: u32,
    matched: u32,
    since: u32,
    /// The operation that is read, how many operands it lacks, how many it has, and the first two.
    operation: u32,
    lacks: u32,
    operands: u32,
    first: u32,
    second: u32,
    constant_count: u32,
    constants: u64,
    words: [u64; 2],
    /// The outermost first.
    calls: [Call; MAX_INLINED],
    count: u32,
    /// 1 where calls were looked for.
    is_found: u32,
}

#[inline(always)]
fn state(taker: u32) -> Option<(&'static mut Scripts, &'static mut Optimized)> {
    let (scripts, optimized) = (SCRIPTS.get_ptr_mut(taker)?, V8_CODE.get_ptr_mut(taker)?);
    // SAFETY: the maps' values are used by this program only on this CPU, and nobody has another reference while these are used.
    Some(unsafe { (&mut *scripts, &mut *optimized) })
}

/// No name of a function: those are even. What the frame runs is not optimised.
pub(super) const NOT_OPTIMIZED: u64 = 1;

/// The name of the next call's function, or [`NOT_OPTIMIZED`]; 0 for what was not met.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn v8_call_known(taker: u32) -> u64 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let depth = scripts.walk.depth;
    if depth == 0 {
        optimized.pc = scripts.walk.outermost;
        optimized.is_found = 0;
        optimized.count = 0;
        optimized.key = hash::mix(scripts.walk.space, optimized.pc);
    } else {
        let of_frame = hash::mix(hash::mix(scripts.walk.space, optimized.pc), optimized.check);
        optimized.key = hash::mix(of_frame, depth.into());
    }
    let Some(slot) = V8_CALLS.get_ptr(optimized.key) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let slot = unsafe { *slot };
    if slot.mixed() != optimized.key || slot.code == 0 {
        return 0;
    }
    if depth == 0 {
        optimized.stream = slot.stream;
        optimized.check = check(V8::of(&scripts.interpreter), optimized);
    }
    if optimized.check != slot.check {
        return 0;
    }
    scripts.walk.line = slot.place as u32 as i32;
    scripts.walk.goes_on = (slot.place >> 32) as u32;
    slot.code
}

/// Remembers the name of the call's function.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn v8_call_keep(taker: u32, code: u64) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    // What was given up may be found the next time.
    if scripts.walk.searched >= MAX_SEARCHED {
        return 0;
    }
    let at = u64::from(scripts.walk.goes_on) << 32 | u64::from(scripts.walk.line as u32);
    let slot = Slot { key: 0, stream: optimized.stream, check: optimized.check, code, place: at };
    let slot = Slot { key: slot.mixed() ^ optimized.key, ..slot };
    i32::from(V8_CALLS.insert(optimized.key, slot, 0).is_ok())
}

/// What tells the code from other code at its place: compilations of an isolate are numbered. What lies in no object is a part of
/// V8's own program, and known by its bytes.
#[inline(always)]
fn check(has: &V8, optimized: &mut Optimized) -> u64 {
    let stream = optimized.stream;
    if stream == 0 {
        let read = read(&mut optimized.words, 16, optimized.pc.wrapping_sub(8));
        let [before, behind] = optimized.words;
        return if read { hash::mix(hash::mix(1, before), behind) } else { 0 };
    }
    if !read(&mut optimized.words, 16, stream) {
        return 0;
    }
    let [map, second] = optimized.words;
    optimized.code = if has.instructions == ABSENT { stream + 1 } else { second };
    optimized.made_of = word(optimized.code - 1, has.deoptimization);
    let compilation = element(optimized.made_of, has.literals + deoptimization::COMPILATION);
    let hash = hash::mix(hash::mix(stream, map), optimized.code);
    hash::mix(hash::mix(hash, optimized.made_of), compilation)
}

/// An element of an array.
#[inline(always)]
fn element(array: u64, index: u32) -> u64 {
    word(array.wrapping_add(ARRAY).wrapping_add(u64::from(index) * 8), 0)
}

#[inline(always)]
fn length(array: u64) -> u32 {
    (word(array.wrapping_sub(1), ARRAY_LENGTH) >> 32) as u32
}

/// Finds the calls of the frame, unless that was done; 0 where it runs no optimised code. Each that is called here is global, so that
/// the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn v8_find(taker: u32) -> i32 {
    if v8_begins(taker) == 0 {
        return 1;
    }
    // The function may have other code by now.
    let mut steps = 0;
    while steps < MAX_STEPS {
        if v8_streams(taker, steps) != 0 {
            break;
        }
        steps += STRETCH;
    }
    v8_searched(taker, steps);
    if v8_is_optimized(taker) == 0 {
        return 0;
    }
    if v8_table(taker) == 0 {
        return 1;
    }
    let (mut index, mut number) = (GOES_ON, 0);
    while number < MAX_SAFEPOINTS {
        index = v8_safepoints(taker, number);
        if index != GOES_ON {
            break;
        }
        number += STRETCH;
    }
    v8_searched(taker, number);
    if index < 0 || v8_translation(taker, index as u32) == 0 {
        return 1;
    }
    let mut parts = 0;
    while parts < MAX_PARTS {
        if v8_parts(taker) == 0 {
            break;
        }
        parts += STRETCH;
    }
    v8_searched(taker, parts);
    v8_found(taker, parts)
}

/// Looks for the code that the frame runs, from so many steps before the address on; 0 where it was not found.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_streams(taker: u32, from: u32) -> i32 {
    let mut steps = 0;
    while steps < STRETCH {
        if v8_is_stream(taker, from.wrapping_add(steps)) != 0 {
            return 1;
        }
        steps += 1;
    }
    0
}

/// Looks through calls of a table, from this number on: as [`v8_safepoint`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_safepoints(taker: u32, from: u32) -> i32 {
    let mut number = 0;
    while number < STRETCH {
        let index = v8_safepoint(taker, from.wrapping_add(number));
        if index != GOES_ON {
            return index;
        }
        number += 1;
    }
    GOES_ON
}

/// Reads parts of a translation; 0 at its end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_parts(taker: u32) -> i32 {
    let mut parts = 0;
    while parts < STRETCH {
        if v8_part(taker) == 0 {
            return 0;
        }
        parts += 1;
    }
    1
}

/// Counts steps.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_searched(taker: u32, steps: u32) -> i32 {
    let Some((scripts, _)) = state(taker) else { return 0 };
    scripts.walk.searched = scripts.walk.searched.wrapping_add(steps);
    0
}

/// Whether calls have to be looked for.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_begins(taker: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    if optimized.is_found != 0 || scripts.walk.searched >= MAX_SEARCHED {
        return 0;
    }
    optimized.is_found = 1;
    optimized.count = 0;
    optimized.stream = 0;
    1
}

/// Whether the code that was found is of a compiler that optimises; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_is_optimized(taker: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let has = V8::of(&scripts.interpreter);
    optimized.check = check(has, optimized);
    // What another compiler has made is made of bytecodes, or of nothing.
    let made_of = optimized.made_of;
    if optimized.stream == 0
        || v8::are_bytecodes(has, made_of)
        || length(made_of) < deoptimization::FIRST_ENTRY
    {
        return 0;
    }
    let kind = v8::kind_of(element(made_of, deoptimization::TRANSLATIONS));
    i32::from(kind == u64::from(has.positions_kind) || kind == u64::from(has.bytes_kind))
}

/// Whether code begins so many steps before the address that it has that in it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_is_stream(taker: u32, steps: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let has = V8::of(&scripts.interpreter);
    let last = (optimized.pc.wrapping_sub(1)) & !(ALIGNMENT - 1);
    let start = last.wrapping_sub(u64::from(steps) * ALIGNMENT);
    let stream = start.wrapping_sub(has.code_header.into());
    if v8::map_kind(word(stream, 0)) != u64::from(has.stream_kind) {
        return 0;
    }
    let code = if has.instructions == ABSENT { stream + 1 } else { word(stream, 8) };
    if v8::kind_of(code) != u64::from(has.code_kind)
        || (has.instructions != ABSENT && word(code - 1, has.instructions) != start)
        || optimized.pc.wrapping_sub(start) > word(code - 1, has.instructions_size) & 0xffff_ffff
    {
        return 0;
    }
    optimized.stream = stream;
    optimized.start = start;
    1
}

/// Finds the table of safepoints, which is behind the instructions; 0 where nothing is known of calls.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_table(taker: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let has = V8::of(&scripts.interpreter);
    let code = optimized.code - 1;
    let is_apart = has.safepoints == safepoints::APART;
    let at = has.instructions_size + if is_apart { 8 } else { 0 };
    let table = optimized.start.wrapping_add(word(code, at) & 0xffff_ffff);
    if has.operations == 0 || !read(&mut optimized.words, 16, table) {
        return 0;
    }
    let [first, second] = optimized.words;
    if is_apart || has.safepoints == safepoints::FIXED {
        optimized.safepoints = first as u32;
        optimized.table = table.wrapping_add(8);
        optimized.entry_bytes = 12;
        return 1;
    }
    let is_maglev = word(code, has.flags) as u32 & 15 == has.maglev;
    let is_framed = has.safepoints == safepoints::FRAMED;
    let (count, sizes) = if is_framed { (first >> 32, second as u32) } else { (first, (first >> 32) as u32) };
    let (registers, pc, index) = (sizes >> 1 & 7, sizes >> 4 & 7, sizes >> 7 & 7);
    // Without the first bit no call can be translated; and a number of all three that are wanted fits in a word.
    if sizes & 1 == 0 || pc == 0 || 2 * pc + index > 8 {
        return 0;
    }
    let head = if is_maglev { 16 } else { 8 + u64::from(is_framed) * 4 };
    optimized.safepoints = count as u32;
    optimized.table = table.wrapping_add(head);
    optimized.entry_bytes = 2 * pc + index + registers + u32::from(is_maglev);
    optimized.pc_bytes = pc;
    optimized.index_bytes = index;
    1
}

/// What [`v8_safepoint`] gives where this call is not the frame's, and where none of the table is.
const GOES_ON: i32 = -1;
const NONE: i32 = -2;

/// The number of what is known of a call, if the frame is at it or where it goes on when the code is no longer valid.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_safepoint(taker: u32, number: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return NONE };
    let has = V8::of(&scripts.interpreter);
    let at = optimized.table.wrapping_add(u64::from(number) * u64::from(optimized.entry_bytes));
    if number >= optimized.safepoints || !read(&mut optimized.words, 16, at) {
        return NONE;
    }
    let [first, second] = optimized.words;
    let (pc, index, instead) = if has.safepoints == safepoints::FIXED || has.safepoints == safepoints::APART {
        (first as u32, (first >> 32) as u32, second as u32)
    } else {
        let (pc, index) = (optimized.pc_bytes & 7, optimized.index_bytes & 7);
        let part = |before: u32, bytes: u32| (first >> ((before * 8) & 63)) as u32 & mask(bytes);
        // One more is stored.
        (part(0, pc), part(pc, index).wrapping_sub(1), part(pc + index, pc).wrapping_sub(1))
    };
    let wanted = optimized.pc.wrapping_sub(optimized.start) as u32;
    if pc != wanted && instead != wanted {
        return GOES_ON;
    }
    if (index as i32) < 0 { NONE } else { index as i32 }
}

/// As many bytes, at most four.
#[inline(always)]
const fn mask(bytes: u32) -> u32 {
    ((1_u64 << ((bytes * 8) & 63)) - 1) as u32
}

/// Goes to the translation of a call; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_translation(taker: u32, index: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let has = V8::of(&scripts.interpreter);
    let made_of = optimized.made_of;
    let first = deoptimization::FIRST_ENTRY - u32::from(has.safepoints == safepoints::APART);
    let entry = (index & 0xff_ffff) * deoptimization::ENTRY_WORDS + has.literals + first;
    if entry + deoptimization::ENTRY_WORDS > length(made_of) {
        return 0;
    }
    let begin = (element(made_of, entry + 1) >> 32) as u32;
    let translations = element(made_of, deoptimization::TRANSLATIONS);
    optimized.translations = translations.wrapping_add(ARRAY);
    optimized.end = length(translations);
    optimized.constants = element(made_of, has.literals);
    optimized.constant_count = length(optimized.constants);
    let bytes = word(optimized.translations.wrapping_add(begin.into()), 0);
    if operation_of(has, bytes as u32 & 0xff) != operation::BEGIN {
        return 0;
    }
    // How far the one before is before this one, and how many frames there are.
    let (distance, width) = operand(has, bytes >> 8);
    let (_, more) = operand(has, word(optimized.translations.wrapping_add((begin + 1 + width).into()), 0));
    let (_, most) =
        operand(has, word(optimized.translations.wrapping_add((begin + 1 + width + more).into()), 0));
    optimized.current = begin + 1 + width + more + most;
    optimized.previous = begin.wrapping_sub(distance);
    (optimized.skipped, optimized.matched, optimized.lacks) = (0, 0, 0);
    optimized.since = 1;
    1
}

/// What an operation is by the byte that it begins with, [`operation::MATCH`] with its operand in it where it is none.
#[inline(always)]
fn operation_of(has: &V8, byte: u32) -> u32 {
    let number = byte >> (has.operation_shift & 7);
    if number >= has.operations {
        return operation::MATCH;
    }
    // Another one than the array has is none.
    has.operands.get((number >> 3) as usize).map_or(0, |eight| eight >> ((number & 7) * 4) & 15)
}

/// A number that begins with the lowest byte, seven bits in each, and how many bytes it has.
#[inline(always)]
const fn operand(has: &V8, bytes: u64) -> (u32, u32) {
    let (bits, ends) = if has.operation_shift < 2 {
        (bytes, !bytes & 0x80_8080_8080)
    } else {
        (bytes >> 1, (!bytes & 0x01_0101_0101) << 7)
    };
    // The lowest bit of them.
    let end = ends & ends.wrapping_neg();
    let own = bits & end.wrapping_sub(1) & 0x7f_7f7f_7f7f;
    let low = own & 0x7f | own >> 1 & 0x3f80 | own >> 2 & 0x1f_c000;
    let value = low | own >> 3 & 0xfe0_0000 | own >> 4 & 0x7_f000_0000;
    let width = match end {
        0x80 => 1,
        0x8000 => 2,
        0x80_0000 => 3,
        0x8000_0000 => 4,
        _ => 5,
    };
    (value as u32, width)
}

/// The value of one that may be negative: its sign is the lowest bit.
#[inline(always)]
const fn signed(value: u32) -> i32 {
    let number = (value >> 1) as i32;
    if value & 1 == 0 { number } else { -number }
}

/// Reads an operation, or an operand of it; 0 at the end of the translation.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_part(taker: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let has = V8::of(&scripts.interpreter);
    let is_before = optimized.skipped != 0 || optimized.matched != 0;
    let at = if is_before { optimized.previous } else { optimized.current };
    if at >= optimized.end {
        return 0;
    }
    let bytes = word(optimized.translations.wrapping_add(at.into()), 0);
    let width = if optimized.lacks == 0 {
        let byte = bytes as u32 & 0xff;
        optimized.operation = operation_of(has, byte);
        optimized.operands = 0;
        optimized.lacks = match optimized.operation {
            operation::BEGIN if !is_before => return 0,
            operation::BEGIN => 3,
            operation::MATCH => 1,
            other => other & (operation::FUNCTION - 1),
        };
        let least = has.operations << (has.operation_shift & 7);
        if byte >= least {
            optimized.first = byte - least;
            optimized.lacks = 0;
        }
        1
    } else {
        let (value, width) = operand(has, bytes);
        match optimized.operands {
            0 => optimized.first = value,
            1 => optimized.second = value,
            _ => {}
        }
        optimized.operands += 1;
        optimized.lacks -= 1;
        width
    };
    if is_before {
        optimized.previous = at + width;
    } else {
        optimized.current = at + width;
    }
    if optimized.lacks != 0 { 1 } else { i32::from(apply(has, optimized)) }
}

/// Does what an operation says; false where that makes no sense.
#[inline(always)]
fn apply(has: &V8, optimized: &mut Optimized) -> bool {
    if optimized.skipped != 0 {
        optimized.skipped -= 1;
        return true;
    }
    if optimized.matched != 0 {
        optimized.matched -= 1;
    } else if optimized.operation == operation::MATCH {
        optimized.skipped = optimized.since;
        optimized.matched = optimized.first;
        optimized.since = 0;
        return true;
    } else {
        optimized.since += 1;
    }
    if optimized.operation & operation::FUNCTION == 0 {
        return true;
    }
    let constant = signed(optimized.second) as u32;
    let shared = element(optimized.constants, constant) & !WEAK;
    let is_one = constant < optimized.constant_count && v8::kind_of(shared) == u64::from(has.shared_kind);
    if !is_one || optimized.count >= MAX_INLINED as u32 {
        optimized.count = MAX_INLINED as u32 + 1;
        return false;
    }
    // The compiler leaves out a bound that it knows of, and old verifiers do not.
    // SAFETY: a field of the state.
    let slot = unsafe { (&raw const optimized.count).read_volatile() } as usize & (MAX_INLINED - 1);
    optimized.calls[slot] = Call { shared, offset: signed(optimized.first).into() };
    optimized.count += 1;
    true
}

/// Believes the calls if all were read, the outermost one is of the frame's own function, and each is of one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn v8_found(taker: u32, parts: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let is_whole = parts < MAX_PARTS && optimized.count <= MAX_INLINED as u32;
    if !is_whole || optimized.calls[0].shared != scripts.walk.code {
        optimized.count = 0;
    }
    1
}

/// Goes to the next call of the frame: what it is known by. Where nobody knows, that is one of the frame's function, at no line.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn v8_call(taker: u32) -> i32 {
    let Some((scripts, optimized)) = state(taker) else { return 0 };
    let (count, depth) = (optimized.count, scripts.walk.depth);
    scripts.walk.class = 0;
    scripts.walk.file = 0;
    scripts.walk.line = -1;
    scripts.walk.goes_on = 0;
    if depth < count {
        let call = optimized.calls[(count - depth - 1) as usize & (MAX_INLINED - 1)];
        if !v8::read_shared(scripts, call.shared) {
            return 0;
        }
        scripts.walk.file = v8::bytecodes_of(scripts);
        scripts.walk.line = call.offset as i32;
        scripts.walk.goes_on = u32::from(depth + 1 < count);
    }
    scripts.walk.check = v8::check(scripts, scripts.walk.file);
    1
}
