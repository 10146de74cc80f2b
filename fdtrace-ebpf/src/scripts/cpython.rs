//! Frames of CPython.
//!
//! What costs time is each read of the process's memory, whatever its size. From 3.11 on frames lie side by side, callers before
//! those that they call, so that one read has several; a code object that is known costs one more, two before 3.12.

use fdtrace_common::{
    hash,
    scripts::{ABSENT, entry, units},
    wire::MAX_FRAMES,
};

use super::{
    Frame, Scripts, WINDOW_BYTES, WINDOW_WORDS, Walk, end_run,
    memory::{read, word},
    take, thread,
};
use crate::task::Task;

const PAGE_BYTES: u64 = 4096;
/// The part of a code object that tells it from others.
pub(super) const PART_WORDS: usize = 16;
/// How the line table of a code object begins: its length, a hash that is made when somebody asks for it, and its first bytes.
pub(super) const TABLE_WORDS: usize = 5;
const TABLE_HEAD: u64 = 16;
/// What marks references of 3.14 in their lowest bits.
const MARKS: u64 = 7;

/// The current thread's innermost frame, and its innermost border; 0 for none.
#[inline(always)]
pub(super) fn begin(scripts: &mut Scripts, bias: u64, task: Task, space: u64) -> (u64, u64) {
    let own = task.plain().fsbase();
    if !thread::find(&scripts.interpreter, &mut scripts.state, bias, own, space) {
        return (0, 0);
    }
    find_generation(scripts);
    let has = &scripts.interpreter;
    let first = thread::part(&scripts.state, has.frame);
    let frame = if has.behind == ABSENT { first } else { word(first, has.behind) };
    (frame, if has.border == ABSENT { 0 } else { thread::part(&scripts.state, has.border) })
}

/// Finds what changes whenever the thread's interpreter makes a code object. One that runs was made before, so that while this
/// stays, no other can be at its place.
#[inline(always)]
fn find_generation(scripts: &mut Scripts) {
    let has = &scripts.interpreter;
    if has.next_version == ABSENT {
        return;
    }
    let interpreter = thread::part(&scripts.state, has.interpreter);
    let next = word(interpreter, has.next_version) & u64::from(u32::MAX);
    scripts.walk.next_version = next;
    scripts.walk.generation = hash::mix(hash::mix(scripts.walk.space, interpreter), next);
}

/// What a code object is known by while no other is made, or 0.
#[inline(always)]
pub(super) fn brief(walk: &Walk) -> u64 {
    // From 0 on, which comes after 2^32 of them, it stays.
    if walk.next_version == 0 { 0 } else { hash::mix(walk.generation, walk.code) }
}

/// Reads the next frame.
#[inline(always)]
pub(super) fn read_frame(scripts: &mut Scripts) -> Frame {
    let walk = &mut scripts.walk;
    walk.at = walk.frame;
    if walk.at == 0 || walk.calls >= MAX_FRAMES as u32 || !load(scripts) {
        return Frame::End;
    }
    let has = &scripts.interpreter;
    let previous = framed(scripts, has.previous);
    let code = framed(scripts, has.code) & !MARKS;
    let is_between = has.entry == entry::BETWEEN && u32::from(byte(scripts, has.entry_at)) >= has.owner;
    let walk = &mut scripts.walk;
    walk.frame = if previous == walk.at { 0 } else { previous };
    walk.code = code;
    if is_between {
        return Frame::Between;
    }
    Frame::Call
}

/// Makes the frame one of those that are in memory.
#[inline(always)]
fn load(scripts: &mut Scripts) -> bool {
    let (at, bytes) = (scripts.walk.at, u64::from(scripts.interpreter.frame_bytes));
    if at.wrapping_sub(scripts.walk.window) < scripts.walk.window_frames {
        return true;
    }
    // What cannot be read costs as much as ten frames, so no other page is touched.
    let room = WINDOW_BYTES.wrapping_sub(bytes);
    let in_page = at & (PAGE_BYTES - 1) & !7;
    let before = if in_page < room { in_page } else { room };
    let before = if scripts.interpreter.entry == entry::EACH { 0 } else { before };
    scripts.walk.window = at.wrapping_sub(before);
    scripts.walk.window_frames = before.wrapping_add(1);
    read(&mut scripts.window, before.wrapping_add(bytes) as u32, at.wrapping_sub(before))
}

/// A word of the frame.
#[inline(always)]
fn framed(scripts: &Scripts, offset: u32) -> u64 {
    let at = scripts.walk.at.wrapping_sub(scripts.walk.window).wrapping_add(u64::from(offset));
    scripts.window[(at >> 3) as usize & (WINDOW_WORDS - 1)]
}

#[inline(always)]
fn byte(scripts: &Scripts, offset: u32) -> u8 {
    (framed(scripts, offset) >> ((offset & 7) * 8)) as u8
}

/// Finds out what a code object is known by: its own number where it has one, else where its parts are and how its line table
/// begins, so that no object is taken for the one that was at its place before.
#[inline(always)]
pub(super) fn check(scripts: &mut Scripts) -> bool {
    let has = &scripts.interpreter;
    let code = scripts.walk.code;
    scripts.part[(has.part_bytes >> 3) as usize & (PART_WORDS - 1)] = 0;
    if !read(&mut scripts.part, has.part_bytes, code.wrapping_add(u64::from(has.part_at))) {
        return false;
    }
    // Two of them, so that one need not wait for the other.
    let (mut hash, mut other) = (hash::mix(scripts.walk.space, code), 0);
    let mut index = 0;
    while index < PART_WORDS {
        if index as u32 * 8 >= has.part_bytes {
            break;
        }
        hash = hash::mix(hash, scripts.part[index]);
        other = hash::mix(other, scripts.part[index + 1]);
        index += 2;
    }
    let version = if has.version == ABSENT { 0 } else { number(scripts, has.version) };
    // One that has no version, or one that nobody gave it, is not counted.
    if version == 0 || u64::from(version) >= scripts.walk.next_version {
        scripts.walk.brief = 0;
    }
    if version == 0 {
        let lines = if has.version == ABSENT { part(scripts, has.lines) } else { word(code, has.lines) };
        if !read(&mut scripts.table, (TABLE_WORDS * 8) as u32, lines.wrapping_add(TABLE_HEAD)) {
            return false;
        }
        let [length, _, first, second, third] = scripts.table;
        hash = hash::mix(hash::mix(hash, length), first);
        other = hash::mix(hash::mix(other, second), third);
    }
    scripts.walk.check = hash::mix(hash, other);
    true
}

#[inline(always)]
fn part(scripts: &Scripts, offset: u32) -> u64 {
    let at = offset.wrapping_sub(scripts.interpreter.part_at);
    scripts.part[(at >> 3) as usize & (PART_WORDS - 1)]
}

#[inline(always)]
fn number(scripts: &Scripts, offset: u32) -> u32 {
    (part(scripts, offset) >> ((offset & 4) * 8)) as u32
}

/// Takes the call that was read last, whose code object has this name.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, key: u64) {
    let instruction = instruction(scripts);
    take(scripts, key, instruction);
    let has = &scripts.interpreter;
    let is_marked = has.entry == entry::MARKED && byte(scripts, has.entry_at) == 1;
    if has.entry == entry::EACH || is_marked {
        let border = scripts.walk.border;
        if border != 0 {
            scripts.walk.border = word(border, has.border_previous);
        }
        end_run(scripts, border);
    }
}

#[inline(always)]
fn instruction(scripts: &Scripts) -> i32 {
    let has = &scripts.interpreter;
    let word = framed(scripts, has.instruction);
    if has.units == units::ADDRESS {
        let first = scripts.walk.code.wrapping_add(u64::from(has.instructions));
        return word.wrapping_sub(first) as i32;
    }
    let number = (word >> ((has.instruction & 4) * 8)) as i32;
    if has.units == units::PAIRS { number.wrapping_mul(2) } else { number }
}
