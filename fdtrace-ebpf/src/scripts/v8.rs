//! Frames of V8, which lie on the stack of the machine and have frame pointers, always (`src/execution/frame-constants.h`).
//!
//! An isolate has the frame from which its thread left JavaScript last, and each frame by which a thread came in has the one
//! before. Nothing moves while it is read: the thread whose heap it is waits in a system call.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::{
    hash,
    scripts::{
        ABSENT, Text,
        v8::{HEAD_WORDS, PART_BYTES, PARTS, SCOPE_WORDS},
    },
    v8::V8,
    wire::MAX_FRAMES,
};

use super::{
    FRAME_WORDS, Frame, Scripts, WINDOW_WORDS, Walk, end_run,
    memory::{copy_text, fill, number, part, read, word},
    take, thread,
};
use crate::task::Task;

/// What is read of a frame, and where its frame pointer points to in that: to the caller's frame pointer, and the return address.
const FRAME_BYTES: u32 = 80;
const POINTER: u64 = 64;
const CALLER: usize = 8;
/// A context, or what kind of frame it is of those that have none.
const RETURN: usize = 9;
const MARKER: usize = 7;
const FUNCTION: usize = 6;
/// In an entry frame: the exit frame before (the first that `JSEntry` pushes behind the registers of its caller).
const EXIT_BEFORE: usize = 0;
/// Markers of entry frames: `ENTRY` and `CONSTRUCT_ENTRY`, as small integers.
const ENTRY: u64 = 1 << 1;
const CONSTRUCT_ENTRY: u64 = 2 << 1;

/// What is read of a `SharedFunctionInfo`, and of a `Script`, which has its number last in that.
const SHARED_BYTES: u32 = 64;
const SCRIPT_BYTES: u32 = 72;
const SCRIPT_SOURCE: usize = 1;
const SCRIPT_NAME: usize = 2;
const SCRIPT_NUMBER: usize = 8;
/// What is read of a `BytecodeArray`, and its length in that.
const BYTECODES_BYTES: u32 = 64;
const LENGTH: usize = 1;

/// Half a word in all that begins with a map: what kind of object that is of.
const KIND: u32 = 12;
/// No object is of it.
const NO_KIND: u64 = u64::MAX;
/// Kinds of strings: how they are made, and whether a character has one byte.
const MADE: u64 = 7;
const SEQUENTIAL: u64 = 0;
const JOINED: u64 = 1;
const EXTERNAL: u64 = 2;
const THIN: u64 = 5;
const ONE_BYTE: u64 = 8;
/// A string may be joined of so many; a power of two.
pub(super) const MAX_STRINGS: usize = 8;
const CHARACTERS: u64 = 16;

/// In a `ScopeInfo`: how many variables lie in the context; from so many on their names are in a table.
const VARIABLES: u32 = 16;
const MAX_NAMES: u64 = 75;

/// Whether a value is a pointer to an object that is not weak.
#[inline(always)]
const fn is_object(value: u64) -> bool {
    value & 3 == 1
}

#[inline(always)]
const fn is_small_integer(value: u64) -> bool {
    value & 0xffff_ffff == 0
}

#[inline(always)]
const fn has(scripts: &Scripts) -> &V8 {
    V8::of(&scripts.interpreter)
}

/// The innermost frame of the current thread's scripts, and where that goes on; 0 for none.
#[inline(always)]
pub(super) fn begin(scripts: &mut Scripts, bias: u64, task: Task) -> (u64, u64) {
    let isolate = thread::local(&scripts.interpreter, &mut scripts.table, bias, task.plain().fsbase());
    if isolate == 0 {
        return (0, 0);
    }
    let exit = word(isolate, has(scripts).exit_frame);
    if came_from(scripts, exit) { (scripts.walk.frame, scripts.walk.border) } else { (0, 0) }
}

/// Goes to the frame that left JavaScript by an exit frame.
#[inline(always)]
fn came_from(scripts: &mut Scripts, exit: u64) -> bool {
    if exit <= scripts.walk.at || !read(&mut scripts.table, 16, exit) {
        return false;
    }
    let [caller, address, ..] = scripts.table;
    scripts.walk.frame = caller;
    scripts.walk.border = address;
    caller > exit
}

/// Reads the next frame, and what its function is.
#[inline(always)]
pub(super) fn read_frame(scripts: &mut Scripts) -> Frame {
    let at = scripts.walk.frame;
    if scripts.walk.calls >= MAX_FRAMES as u32 {
        return Frame::End;
    }
    // The one that was read last has more calls.
    if scripts.walk.depth != 0 {
        return Frame::Call;
    }
    if at <= scripts.walk.at
        || at & 7 != 0
        || !read(&mut scripts.frame, FRAME_BYTES, at.wrapping_sub(POINTER))
    {
        return Frame::End;
    }
    scripts.walk.at = at;
    scripts.walk.frame = scripts.frame[CALLER];
    // Where this one goes on, and where its caller will.
    scripts.walk.outermost = scripts.walk.border;
    scripts.walk.border = scripts.frame[RETURN];
    let marker = scripts.frame[MARKER];
    if marker == ENTRY || marker == CONSTRUCT_ENTRY {
        let exit = scripts.frame[EXIT_BEFORE];
        return if came_from(scripts, exit) { Frame::Between } else { Frame::End };
    }
    if is_object(marker) && read_function(scripts) { Frame::Call } else { Frame::Between }
}

/// Functions of V8 itself have no script.
#[inline(always)]
fn read_function(scripts: &mut Scripts) -> bool {
    let function = scripts.frame[FUNCTION];
    if !is_object(function) {
        return false;
    }
    let shared = word(function - 1, has(scripts).shared);
    read_shared(scripts, shared)
}

/// Reads what is known of a function, and its script.
#[inline(always)]
pub(super) fn read_shared(scripts: &mut Scripts, shared: u64) -> bool {
    if !is_object(shared) || !read(&mut scripts.code, SHARED_BYTES, shared - 1) {
        return false;
    }
    scripts.walk.code = shared;
    let script = part(&scripts.code, has(scripts).script);
    is_object(script) && read(&mut scripts.part, SCRIPT_BYTES, script - 1)
}

/// What is looked at each time: a script has a number of its own in its isolate, and a function one in its script. `with` is what
/// the frame runs.
#[inline(always)]
pub(super) fn check(scripts: &Scripts, with: u64) -> u64 {
    let walk = &scripts.walk;
    let function = number(&scripts.code, has(scripts).number) & 0xffff_ffff;
    let hash = hash::mix(hash::mix(walk.space, walk.code), scripts.part[0]);
    hash::mix(hash::mix(hash, scripts.part[SCRIPT_NUMBER] | function), with)
}

/// A power of two.
const SLOTS: u32 = 4096;

/// Calls of frames that run bytecodes, or what the baseline compiler has made of some, by all that is read of a frame anew each time:
/// what is there is found by many more reads.
#[map]
static V8_FRAMES: Array<FrameSlot> = Array::with_max_entries(SLOTS, 0);

/// Two CPUs may write at once: then `key` fits neither.
#[repr(C)]
#[derive(Clone, Copy)]
struct FrameSlot {
    key: u64,
    /// The name of the function, and the instruction.
    code: u64,
    line: u64,
}

impl FrameSlot {
    #[inline(always)]
    const fn mixed(&self) -> u64 {
        self.key ^ self.code ^ self.line.rotate_left(14)
    }
}

/// The name of the function of a frame that was met before, whose instruction is then known; 0 for any other.
///
/// A function is known by its script's number and its own, where it is in its bytecodes by the frame's two words, or by where its code
/// goes on, which is that of the same `Code`: what has taken the place of one of them differs in another.
#[inline(always)]
pub(super) fn met(scripts: &mut Scripts) -> u64 {
    if scripts.walk.depth != 0 {
        return 0;
    }
    let function = number(&scripts.code, has(scripts).number) & 0xffff_ffff;
    let hash = hash::mix(hash::mix(scripts.walk.space, scripts.walk.code), scripts.part[0]);
    let hash = hash::mix(hash, scripts.part[SCRIPT_NUMBER] | function);
    let hash = hash::mix(hash::mix(hash, below(scripts, 0)), below(scripts, 8));
    let hash =
        hash::mix(hash::mix(hash, scripts.walk.outermost), part(&scripts.code, has(scripts).function_data));
    scripts.walk.met = hash;
    let Some(slot) = V8_FRAMES.get_ptr(index(hash)) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let slot = unsafe { *slot };
    if slot.mixed() != hash {
        return 0;
    }
    scripts.walk.line = slot.line as u32 as i32;
    scripts.walk.goes_on = 0;
    slot.code
}

/// Remembers the frame that was read last, if it runs bytecodes.
#[inline(always)]
pub(super) fn keep(scripts: &Scripts, code: u64) {
    let Walk { met, line, file, .. } = scripts.walk;
    if code == 0 || file == 0 {
        return;
    }
    let Some(slot) = V8_FRAMES.get_ptr_mut(index(met)) else { return };
    let kept = FrameSlot { key: 0, code, line: u64::from(line as u32) };
    // SAFETY: the pointer is to a value of the map, not null; whoever reads it meanwhile sees by the key that it is not whole.
    unsafe { *slot = FrameSlot { key: kept.mixed() ^ met, ..kept } };
}

#[inline(always)]
const fn index(hash: u64) -> u32 {
    (hash >> 52) as u32 & (SLOTS - 1)
}

/// The bytecodes that the frame runs, by themselves or by what the baseline compiler made of them, if it looks as if it did;
/// else 0.
#[inline(always)]
pub(super) fn bytecodes(scripts: &Scripts) -> u64 {
    let bytecodes = below(scripts, 0);
    if is_object(bytecodes) { bytecodes } else { 0 }
}

/// Whether they are interpreted: compiled code has something else in the place of the offset.
#[inline(always)]
pub(super) fn interprets(scripts: &Scripts) -> bool {
    let offset = below(scripts, 8);
    is_small_integer(offset) && offset != 0
}

/// A word of the frame, so far below the bytecodes.
#[inline(always)]
fn below(scripts: &Scripts, more: u64) -> u64 {
    let at = POINTER.wrapping_sub(u64::from(has(scripts).frame_bytecodes)).wrapping_sub(more);
    scripts.frame[(at >> 3) as usize & (FRAME_WORDS - 1)]
}

/// Whether they are that.
#[inline(always)]
pub(super) fn are_bytecodes(has: &V8, object: u64) -> bool {
    kind_of(object) == u64::from(has.bytecodes_kind)
}

/// The offset of the instruction that is being interpreted.
#[inline(always)]
pub(super) fn offset(scripts: &Scripts) -> i32 {
    // Counted from the pointer to the object, which has a tag.
    let offset = (below(scripts, 8) >> 32) as i32;
    offset.wrapping_sub(has(scripts).bytecodes as i32).wrapping_add(1)
}

/// Takes the call that was read last, whose function has this name.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, key: u64) {
    let Walk { line, at, goes_on, .. } = scripts.walk;
    take(scripts, key, line);
    if goes_on == 0 {
        scripts.walk.depth = 0;
        end_run(scripts, at);
    } else {
        scripts.walk.depth += 1;
    }
}

#[inline(always)]
pub(super) fn kind_of(object: u64) -> u64 {
    if is_object(object) { map_kind(word(object - 1, 0)) } else { NO_KIND }
}

#[inline(always)]
pub(super) fn map_kind(map: u64) -> u64 {
    if is_object(map) { word(map - 1, KIND) & 0xffff } else { NO_KIND }
}

/// Whether what was read as a script is one.
#[inline(always)]
pub(super) fn is_script(scripts: &Scripts) -> bool {
    map_kind(scripts.part[0]) == u64::from(has(scripts).script_kind)
}

/// The name of the script's file.
#[inline(always)]
pub(super) const fn file(scripts: &Scripts) -> u64 {
    scripts.part[SCRIPT_NAME]
}

/// A string that is read: of one that is joined of others, what comes behind the first of them waits.
#[repr(C)]
pub(super) struct Strings {
    next: u64,
    waiting: u32,
    reserved: u32,
    rest: [u64; MAX_STRINGS],
}

/// What has become of a string, or of a part of it.
#[derive(PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Part {
    /// It is none.
    None = -1,
    /// It is read, as far as it can be.
    Last = 0,
    /// There are more.
    More = 1,
}

/// Begins with a string.
#[inline(always)]
pub(super) fn begin_text<const WORDS: usize>(into: &mut Text<WORDS>, strings: &mut Strings, from: u64) {
    into.width = 1;
    into.bytes = 0;
    into.cut = 0;
    into.words[0] = 0;
    strings.next = from;
    strings.waiting = 0;
}

/// Reads the next part of it.
#[inline(always)]
pub(super) fn text<const WORDS: usize>(
    has: &V8,
    into: &mut Text<WORDS>,
    head: &mut [u64; 5],
    strings: &mut Strings,
) -> Part {
    let string = strings.next;
    if !is_object(string) || !read(head, 32, string - 1) {
        return cut(into);
    }
    let kind = map_kind(head[0]);
    if kind >= u64::from(has.first_other) {
        return cut(into);
    }
    let made = kind & MADE;
    let waits = made == JOINED && strings.waiting < MAX_STRINGS as u32;
    if waits {
        strings.rest[strings.waiting as usize & (MAX_STRINGS - 1)] = head[3];
        strings.waiting += 1;
    }
    if waits || made == THIN {
        strings.next = head[2];
        return Part::More;
    }
    if made != SEQUENTIAL && made != EXTERNAL {
        return cut(into);
    }
    let characters = if made == EXTERNAL { head[3] } else { string - 1 + CHARACTERS };
    let width = if kind & ONE_BYTE == 0 { 2 } else { 1 };
    let bytes = (head[1] >> 32) * width;
    if into.bytes == 0 {
        into.width = width as u16;
        if !copy_text(into, characters, bytes) {
            return cut(into);
        }
    } else if width != u64::from(into.width) || !append(into, characters, bytes) {
        return cut(into);
    }
    if strings.waiting == 0 {
        return Part::Last;
    }
    strings.waiting -= 1;
    strings.next = strings.rest[strings.waiting as usize & (MAX_STRINGS - 1)];
    Part::More
}

/// What was read so far is all.
#[inline(always)]
fn cut<const WORDS: usize>(into: &mut Text<WORDS>) -> Part {
    into.cut = u16::from(into.bytes != 0);
    if into.bytes == 0 { Part::None } else { Part::Last }
}

/// Puts characters behind those that are there, where both fill no more than half of the room.
#[inline(always)]
fn append<const WORDS: usize>(into: &mut Text<WORDS>, from: u64, bytes: u64) -> bool {
    let half = (WORDS * 4) as u32;
    // SAFETY: of the text.
    let at = unsafe { volatile(&raw const into.bytes) };
    if at >= half || bytes >= u64::from(half) {
        return false;
    }
    let (at, bytes) = ((at & (half - 1)) as usize, bytes as u32 & (half - 1));
    let place = into.words.as_mut_ptr().cast::<u8>().wrapping_add(at);
    if !fill(place.cast(), bytes, half - 1, from) {
        return false;
    }
    let end = at as u32 + bytes;
    into.bytes = end;
    // Behind the end are zeros up to the next word.
    into.words[(end >> 3) as usize & (WORDS - 1)] &= (1 << ((end & 7) * 8)) - 1;
    true
}

/// Reads what a `ScopeInfo` has behind its variables: names of the function, and where it begins and ends in its script. 0 where
/// the name is elsewhere.
#[inline(always)]
pub(super) fn scope(scripts: &mut Scripts) -> u64 {
    let has = V8::of(&scripts.interpreter);
    let scope = part(&scripts.code, has.name);
    if kind_of(scope) != u64::from(has.scope_kind) {
        return 0;
    }
    let first = (scope - 1).wrapping_add(u64::from(has.scope));
    let variables = word(first, VARIABLES) >> 32;
    // Names and what they are, or a table and what they are.
    let passed = if variables < MAX_NAMES { 2 * variables } else { 1 + variables };
    let behind = first.wrapping_add((u64::from(has.variables) + passed) * 8);
    let positions =
        if has.scope_positions == 0 { 0 } else { first.wrapping_add(u64::from(has.scope_positions)) };
    if !read(&mut scripts.window, (SCOPE_WORDS * 8) as u32, behind) {
        return 0;
    }
    if positions != 0 {
        scripts.window[SCOPE_WORDS] = word(positions, 0);
        scripts.window[SCOPE_WORDS + 1] = word(positions, 8);
    }
    scope
}

/// Whether a function gets its name as the script runs, which is not in its code: there are two numbers where a name and a number
/// would be. What V8 would call it otherwise is another thing's name.
#[inline(always)]
pub(super) const fn is_nameless(scope: &[u64; WINDOW_WORDS]) -> bool {
    scope[0] == 0 && is_small_integer(scope[1])
}

/// Fills in what lines are found by: where the function is in its script, how long that is, and what runs.
#[inline(always)]
pub(super) fn head<const WORDS: usize>(scripts: &Scripts, scope: u64, lines: &mut Text<WORDS>) {
    let source = scripts.part[SCRIPT_SOURCE];
    lines.words[0] = if is_object(source) { word(source - 1, KIND) & 0xffff_ffff } else { 0 };
    let mut index = 0;
    while index < SCOPE_WORDS + 2 {
        let value = scripts.window[index];
        let is_there = scope != 0 && (index < SCOPE_WORDS || has(scripts).scope_positions != 0);
        // Where objects are says nothing to others.
        lines.words[1 + index] = if !is_there || value & 1 != 0 { 1 } else { value };
        index += 1;
    }
}

/// Fills in what runs: the bytecodes, and what tells their offsets and positions.
#[inline(always)]
pub(super) fn parts<const WORDS: usize>(scripts: &mut Scripts, lines: &mut Text<WORDS>) {
    lines.width = 1;
    lines.cut = 0;
    lines.bytes = (HEAD_WORDS * 8) as u32;
    let (bytecodes, table) = (scripts.walk.file, scripts.walk.class);
    if bytecodes == 0 || !read(&mut scripts.window, BYTECODES_BYTES, bytecodes - 1) {
        scripts.window[LENGTH] = 0;
    }
    let has = V8::of(&scripts.interpreter);
    let positions = scripts.window[(has.positions >> 3) as usize & 7];
    let (code, length) = (bytecodes.wrapping_add(u64::from(has.bytecodes)), scripts.window[LENGTH] >> 32);
    let positions =
        if length == 0 || kind_of(positions) != u64::from(has.positions_kind) { 0 } else { positions };
    part_of(lines, 0, table.wrapping_add(CHARACTERS), array_length(table));
    part_of(lines, 1, code, length);
    part_of(lines, 2, positions.wrapping_add(CHARACTERS), array_length(positions));
}

/// # Safety
/// As [`core::ptr::read_volatile`].
#[inline(always)]
unsafe fn volatile<T>(from: *const T) -> T {
    // SAFETY: as the caller says.
    unsafe { core::ptr::read_volatile(from) }
}

#[inline(always)]
fn array_length(array: u64) -> u64 {
    if array == 0 { 0 } else { word(array - 1, 8) >> 32 }
}

/// Copies one of the parts, as much as there is room for, behind what is there; `from` has a tag.
#[inline(always)]
fn part_of<const WORDS: usize>(lines: &mut Text<WORDS>, number: usize, from: u64, wanted: u64) {
    let room = u64::from(PART_BYTES[number]);
    lines.cut |= u16::from(wanted > room);
    let said = HEAD_WORDS - PARTS + number;
    lines.words[said] = if wanted > room { room } else { wanted };
    // The compiler knows that these are small, and old verifiers do not: the bounds have to be in the code.
    // SAFETY: both are of the text.
    let (bytes, before) =
        unsafe { (volatile(&raw const lines.words[said]), volatile(&raw const lines.bytes)) };
    let bytes = bytes & (u64::from(PART_BYTES[number]).next_power_of_two() - 1);
    let first = (before >> 3) as usize & (WORDS / 2 - 1);
    // Behind the end are zeros up to the next word.
    let last = first.wrapping_add((bytes >> 3) as usize);
    lines.words[last & (WORDS - 1)] = 0;
    let at = lines.words.as_mut_ptr().wrapping_add(first);
    if fill(at, bytes as u32, PART_BYTES[number], from.wrapping_sub(1)) {
        lines.bytes += (bytes as u32).wrapping_add(7) & !7;
    } else {
        lines.words[said] = 0;
    }
}

/// The bytecodes of the function that was read last, by themselves or behind what else runs; 0 where there are none.
#[inline(always)]
pub(super) fn bytecodes_of(scripts: &Scripts) -> u64 {
    let has = V8::of(&scripts.interpreter);
    let mut object = part(&scripts.code, has.function_data);
    let mut steps = 0;
    while steps < 2 {
        let kind = kind_of(object);
        if kind == u64::from(has.bytecodes_kind) {
            return object;
        }
        if kind == NO_KIND {
            return 0;
        }
        // Code of the baseline compiler; or what has the bytecodes and code first or last.
        let first = word(object - 1, 8);
        object = if kind == u64::from(has.code_kind) {
            word(object - 1, has.deoptimization)
        } else if are_bytecodes(has, first) {
            first
        } else {
            word(object - 1, 16)
        };
        steps += 1;
    }
    if are_bytecodes(has, object) { object } else { 0 }
}

/// Where in code of the baseline compiler the frame is, and that code's table; -1 where it is in none.
#[inline(always)]
pub(super) fn find_baseline(scripts: &mut Scripts, pc: u64) -> i32 {
    let has = V8::of(&scripts.interpreter);
    let data = part(&scripts.code, has.function_data);
    let is_code = kind_of(data) == u64::from(has.code_kind);
    // To 9.x what has both the code and the bytecodes comes between.
    let code = if is_code || !is_object(data) { data } else { word(data - 1, 8) };
    if kind_of(code) != u64::from(has.code_kind) {
        return -1;
    }
    let inside = code - 1 + u64::from(has.code_header);
    let first = if has.instructions == ABSENT { inside } else { word(code - 1, has.instructions) };
    let offset = pc.wrapping_sub(first);
    if offset >= word(code - 1, has.instructions_size) & 0xffff_ffff {
        return -1;
    }
    scripts.walk.class = word(code - 1, has.offsets);
    offset as i32
}
