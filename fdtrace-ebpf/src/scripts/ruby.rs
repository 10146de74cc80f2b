//! Frames of Ruby: calls of methods and blocks of scripts, of which each has its line, and of functions of C, which have none.

use fdtrace_common::{
    hash,
    scripts::{ABSENT, Interpreter, Text},
    wire::MAX_FRAMES,
};

use super::{
    CODE_WORDS, Frame, Scripts, WINDOW_BYTES, WINDOW_WORDS, Walk, end_run,
    memory::{copy_text, number, part, read, word},
    take,
    thread::STATE_WORDS,
};
use crate::task::Task;

/// In an execution context: the stack of the machine that Ruby is, its length in words, the innermost frame. No version has them
/// elsewhere.
const CONTEXT_BYTES: u32 = 24;
/// The vector of thread-local memory that a thread has in the GNU C library, and what an entry of it has.
const VECTOR: u32 = 8;
const ENTRY_BYTES: u32 = 16;
const MAX_ENTRIES: u64 = 1024;
/// Threads that are looked through where no thread-local variable leads to the context.
const MAX_THREADS: u32 = 64;

/// In a frame: the next instruction, the instruction sequence, the environment.
const NEXT: u32 = 0;
const SEQUENCE: u32 = 16;
const ENVIRONMENT: u32 = 32;
/// What an environment says of its frame: `VM_FRAME_FLAG_FINISH`.
const FINISH: u64 = 0x20;

/// What an object begins with: its type, and which kind of `T_IMEMO`: `imemo_iseq`.
const TYPE: u64 = 0x1f;
const IMEMO: u64 = 0x1f | 0xf << 12;
const IS_SEQUENCE: u64 = 0x1a | 7 << 12;
const STRING: u64 = 5;
const ARRAY: u64 = 7;
/// `FL_USER1`: a string that is elsewhere, an array that is not.
const FLAG: u64 = 1 << 13;
/// The length of a string to 3.1 that is not elsewhere.
const SHORT: u64 = 14;
const SHORT_BITS: u64 = 0x1f;
/// What is read of one, and where it says that it is elsewhere.
const HEAD_BYTES: u32 = 40;
const PLACE: usize = 3;
const LENGTH: usize = 2;

/// In an instruction sequence: what is in it. Of that so many bytes are read, more than any version has before the line table.
const BODY: usize = 2;
const BODY_BYTES: u32 = 160;
/// In that: how many instructions, and where.
const SIZE: u32 = 4;
const INSTRUCTIONS: u32 = 8;

/// The index of a line table: first so many positions, nine in a word, then blocks of 512 bits.
const AT_ONCE: u64 = 54;
const BLOCKS: u64 = 48;
const BLOCK_BYTES: u64 = 80;
const BITS: u64 = 16;

const NONE: i32 = i32::MIN;

/// The current thread's innermost frame, and the end of the stack that it is on; 0 for none.
#[inline(always)]
pub(super) fn begin(scripts: &mut Scripts, bias: u64, task: Task) -> (u64, u64) {
    let context = context(scripts, bias, task.plain().fsbase());
    if context == 0 || !read(&mut scripts.table, CONTEXT_BYTES, context) {
        return (0, 0);
    }
    let [stack, words, frame, ..] = scripts.table;
    // The outermost frame is there so that there is one.
    let end =
        stack.wrapping_add(words.wrapping_mul(8)).wrapping_sub(u64::from(scripts.interpreter.frame_bytes));
    if frame & 7 != 0 || frame < stack || frame >= end { (0, 0) } else { (frame, end) }
}

/// The current thread's execution context. Those of other threads do not count: one that waits for its file to be opened has
/// let another go on.
#[inline(always)]
fn context(scripts: &mut Scripts, bias: u64, own: u64) -> u64 {
    let has = &scripts.interpreter;
    if has.thread_key == ABSENT {
        return listed(has, bias, own);
    }
    if has.runtime == 0 {
        return word(own.wrapping_add(has.code_type), 0);
    }
    if !read(&mut scripts.table, 16, bias.wrapping_add(has.runtime)) {
        return 0;
    }
    let [module, offset, ..] = scripts.table;
    if module == 0 || module >= MAX_ENTRIES {
        return 0;
    }
    let own = word(word(own, VECTOR), module as u32 * ENTRY_BYTES);
    if own == 0 { 0 } else { word(own.wrapping_add(offset), 0) }
}

/// To 2.7 there is a variable for the thread that runs, and a list of all.
#[inline(always)]
fn listed(has: &Interpreter, bias: u64, own: u64) -> u64 {
    let running = word(bias.wrapping_add(has.runtime), 0);
    if running != 0 && word(word(running, has.frame), has.pthread) == own {
        return running;
    }
    let mut thread = word(word(bias.wrapping_add(has.code_type), 0), has.threads);
    let mut looked = 0;
    while looked < MAX_THREADS {
        if thread == 0 {
            break;
        }
        if word(thread, has.pthread) == own {
            return word(thread, has.behind);
        }
        thread = word(thread, 0);
        looked += 1;
    }
    0
}

/// Reads the next frame, and its instruction sequence.
#[inline(always)]
pub(super) fn read_frame(scripts: &mut Scripts) -> Frame {
    let walk = &mut scripts.walk;
    walk.at = walk.frame;
    if walk.calls >= MAX_FRAMES as u32 || !load(scripts) {
        return Frame::End;
    }
    let (next, sequence) = (framed(scripts, NEXT), framed(scripts, SEQUENCE));
    scripts.walk.frame = scripts.walk.at.wrapping_add(u64::from(scripts.interpreter.frame_bytes));
    if next == 0 || sequence == 0 {
        return Frame::Between;
    }
    scripts.walk.flags = word(framed(scripts, ENVIRONMENT), 0);
    if !read(&mut scripts.table, 24, sequence) || scripts.table[0] & IMEMO != IS_SEQUENCE {
        return Frame::End;
    }
    scripts.walk.code = scripts.table[BODY];
    if !read(&mut scripts.code, BODY_BYTES, scripts.walk.code) {
        return Frame::End;
    }
    let line = line(scripts, next);
    scripts.walk.line = line;
    if line == NONE { Frame::End } else { Frame::Call }
}

/// Makes the frame one of those that are in memory. Callers lie behind those that they call, up to the stack's end.
#[inline(always)]
fn load(scripts: &mut Scripts) -> bool {
    let (at, bytes) = (scripts.walk.at, u64::from(scripts.interpreter.frame_bytes));
    if at.wrapping_sub(scripts.walk.window) < scripts.walk.window_frames {
        return true;
    }
    let left = scripts.walk.border.wrapping_sub(at);
    if at >= scripts.walk.border || left < bytes {
        return false;
    }
    let read_bytes = if left < WINDOW_BYTES { left } else { WINDOW_BYTES };
    scripts.walk.window = at;
    scripts.walk.window_frames = read_bytes.wrapping_sub(bytes).wrapping_add(1);
    read(&mut scripts.window, read_bytes as u32, at)
}

#[inline(always)]
fn framed(scripts: &Scripts, offset: u32) -> u64 {
    let at = scripts.walk.at.wrapping_sub(scripts.walk.window).wrapping_add(u64::from(offset));
    scripts.window[(at >> 3) as usize & (WINDOW_WORDS - 1)]
}

/// The line of the instruction before the next one; [`NONE`] where that is none of the sequence's.
#[inline(always)]
fn line(scripts: &mut Scripts, next: u64) -> i32 {
    let has = &scripts.interpreter;
    let code = &scripts.code;
    let behind = next.wrapping_sub(part(code, INSTRUCTIONS));
    let instruction = behind >> 3;
    if behind & 7 != 0 || instruction > number(code, SIZE) & 0xffff_ffff {
        return NONE;
    }
    let position = if instruction == 0 { 0 } else { instruction - 1 };
    let count = number(code, has.count) & 0xffff_ffff;
    let entry = if count < 2 { 0 } else { index(part(code, has.positions), position).wrapping_sub(1) };
    if entry >= count {
        return NONE;
    }
    let at = part(code, has.lines).wrapping_add(entry.wrapping_mul(u64::from(has.entry_bytes)));
    word(at, 0) as i32
}

/// How many entries of a line table begin up to a position.
#[inline(always)]
fn index(table: u64, position: u64) -> u64 {
    if position < AT_ONCE {
        return word(table, (position / 9 * 8) as u32) >> (position % 9 * 7) & 0x7f;
    }
    let behind = position - AT_ONCE;
    let block = table.wrapping_add(BLOCKS).wrapping_add(behind / 512 * BLOCK_BYTES);
    let (small, bit) = (behind % 512 / 64, behind % 64);
    let before = if small == 0 { 0 } else { word(block, 8) >> ((small - 1) * 9) & 0x1ff };
    let bits = word(block, (BITS + small * 8) as u32) << (63 - bit);
    (word(block, 0) & 0xffff_ffff) + before + u64::from(bits.count_ones())
}

/// Takes the call that was read last, whose instruction sequence has this name.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, key: u64) {
    let (line, ends_run) = (scripts.walk.line, scripts.walk.flags & FINISH != 0);
    take(scripts, key, line);
    if ends_run {
        end_run(scripts, 0);
    }
}

/// Finds out what an instruction sequence is known by, but for its strings: where its parts are.
#[inline(always)]
pub(super) fn check(has: &Interpreter, object: &[u64; CODE_WORDS], walk: &Walk) -> u64 {
    let hash = hash::mix(hash::mix(walk.space, walk.code), part(object, INSTRUCTIONS));
    let hash = hash::mix(hash::mix(hash, object[0]), part(object, has.lines));
    let hash = hash::mix(hash::mix(hash, part(object, has.first_line)), part(object, has.function));
    hash::mix(hash, part(object, has.file))
}

/// The string that is a path: of a file that was read it is the first of two, the other being the real one.
#[inline(always)]
pub(super) fn path(head: &mut [u64; 5], object: u64) -> u64 {
    if !read(head, HEAD_BYTES, object) {
        return 0;
    }
    if head[0] & (TYPE | FLAG) == ARRAY | FLAG { head[2] } else { object }
}

/// Where a string has its characters, and how many; no place where it is no string.
#[inline(always)]
fn place(has: &Interpreter, head: &mut [u64; 5], object: u64) -> (u64, u64) {
    if !read(head, HEAD_BYTES, object) || head[0] & TYPE != STRING {
        return (0, 0);
    }
    let here = object.wrapping_add(u64::from(has.ascii));
    match head[0] & FLAG {
        0 if has.ascii == 16 => (here, head[0] >> SHORT & SHORT_BITS),
        0 => (here, head[LENGTH]),
        _ => (head[PLACE], head[LENGTH]),
    }
}

/// Folds a string into the hash: strings are freed too, and others may come to their places. Of a long one the end.
#[inline(always)]
pub(super) fn mix_text(scripts: &mut Scripts, object: u64) -> bool {
    let (from, length) = place(&scripts.interpreter, &mut scripts.table, object);
    if from == 0 {
        return false;
    }
    let room = (STATE_WORDS * 8) as u64;
    let bytes = if length > room { room } else { length };
    let words = bytes.div_ceil(8) as usize;
    scripts.state[(bytes >> 3) as usize & (STATE_WORDS - 1)] = 0;
    if bytes != 0 && !read(&mut scripts.state, bytes as u32, from.wrapping_add(length).wrapping_sub(bytes)) {
        return false;
    }
    let mut hash = hash::mix(scripts.walk.check, length);
    let mut index = 0;
    while index < STATE_WORDS {
        if index >= words {
            break;
        }
        hash = hash::mix(hash, scripts.state[index]);
        index += 1;
    }
    scripts.walk.check = hash;
    true
}

/// Reads a string.
#[inline(always)]
pub(super) fn text<const WORDS: usize>(
    has: &Interpreter,
    into: &mut Text<WORDS>,
    head: &mut [u64; 5],
    object: u64,
) -> bool {
    into.width = 1;
    let (from, length) = place(has, head, object);
    from != 0 && copy_text(into, from, length)
}
