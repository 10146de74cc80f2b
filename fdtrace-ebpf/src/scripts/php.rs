//! Frames of PHP: calls of functions of C and of scripts, of which the latter are taken. Each instruction has its line.

use fdtrace_common::{
    hash,
    scripts::{ABSENT, Interpreter, Text},
    wire::MAX_FRAMES,
};

use super::{
    CODE_WORDS, FRAME_WORDS, Frame, Scripts, Walk, end_run,
    memory::{block, copy_text, number, part, read, word},
    take,
};
use crate::task;

/// What is read of a function: more than any version has before the first line.
const CODE_BYTES: u32 = 192;
/// What a function begins with: `ZEND_INTERNAL_FUNCTION`, `ZEND_USER_FUNCTION`, `ZEND_EVAL_CODE`.
const OF_C: u64 = 1;
const OF_SCRIPT: u64 = 2;
const OF_EVAL: u64 = 4;
/// What a frame says that was entered from C: `ZEND_CALL_TOP`.
const TOP: u64 = 1 << 17;
/// In which word of a frame that is: behind `This`, whose type comes first.
const FLAGS: usize = 5;
const THIS: usize = 4;
const TYPES: u64 = 0xff;
const OBJECT: u64 = 8;
/// Where an object has its class.
const CLASS: u32 = 16;
/// So many generators that yield in each other's place are gone through.
const MAX_DELEGATES: u32 = 16;

/// An instruction: its size, its line, and behind that what it does.
const INSTRUCTION_BYTES: u64 = 32;
const LINE: u32 = 24;
/// `ZEND_HANDLE_EXCEPTION` without a line stands where an exception is on its way.
const THROWN: u64 = 149 << 32;
const LINE_AND_KIND: u64 = 0xff_ffff_ffff;
/// No line, and no instruction of the function.
const NO_LINE: i32 = -1;
const NONE: i32 = i32::MIN;

/// A string: reference count, type, hash, length, then its bytes. A class has its name there.
const TYPE: u64 = 32;
const TYPE_BITS: u64 = 15;
const STRING: u64 = 6;
const HASH: u32 = 8;
const LENGTH: usize = 2;
const BYTES: u64 = 24;
const CLASS_NAME: u32 = 8;

/// The innermost frame, which only the first thread has: it runs the scripts.
#[inline(always)]
pub(super) fn begin(has: &Interpreter, bias: u64) -> (u64, u64) {
    let globals = bias.wrapping_add(has.runtime);
    (if task::is_first_thread() { word(globals, has.frame) } else { 0 }, 0)
}

/// Reads the next frame, and its function.
#[inline(always)]
pub(super) fn read_frame(scripts: &mut Scripts) -> Frame {
    let has = &scripts.interpreter;
    let walk = &mut scripts.walk;
    let delegates = walk.outermost != 0;
    if delegates {
        next_delegating(has, walk);
    }
    walk.at = walk.frame;
    if walk.calls >= MAX_FRAMES as u32 || !read(&mut scripts.frame, has.frame_bytes, walk.at) {
        return Frame::End;
    }
    let previous = if delegates { walk.caller } else { block(&scripts.frame, has.previous) };
    walk.frame = if previous == walk.at { 0 } else { previous };
    walk.code = block(&scripts.frame, has.code);
    if walk.code == 0 {
        delegate(has, walk, &scripts.frame);
        return Frame::Between;
    }
    if !read(&mut scripts.code, CODE_BYTES, walk.code) {
        return Frame::End;
    }
    let kind = scripts.code[0] & 0xff;
    if kind == OF_C {
        return Frame::Between;
    }
    let globals = walk.bias.wrapping_add(has.runtime);
    let line = line(has, &scripts.code, block(&scripts.frame, has.instruction), globals);
    if (kind != OF_SCRIPT && kind != OF_EVAL) || line == NONE {
        return Frame::End;
    }
    walk.line = line;
    // None of its own run is on the C stack.
    scripts.frame[FLAGS] &= if delegates { !TOP } else { !0 };
    let class = part(&scripts.code, has.class);
    walk.class = if class == 0 { 0 } else { word(class, CLASS_NAME) };
    Frame::Call
}

/// Where generators yield in each other's place, only the last of them has been called by what has called the first: its
/// caller is a frame of no function that has the first, and those in between are found from there.
#[inline(always)]
fn delegate(has: &Interpreter, walk: &mut Walk, frame: &[u64; FRAME_WORDS]) {
    let generator = frame[THIS];
    if has.code_type == 0
        || frame[FLAGS] & TYPES != OBJECT
        || word(generator, CLASS) != word(walk.bias.wrapping_add(has.code_type), 0)
    {
        return;
    }
    let last = climb(has, generator, 0);
    if last != generator {
        walk.outermost = generator;
        walk.caller = walk.frame;
        walk.delegate = last;
    }
}

/// Goes to the frame of the next of them.
#[inline(always)]
fn next_delegating(has: &Interpreter, walk: &mut Walk) {
    let generator = climb(has, walk.outermost, walk.delegate);
    walk.frame = word(generator, has.generated);
    walk.delegate = generator;
    if generator == walk.outermost {
        walk.outermost = 0;
    }
}

/// The generator in whose place `until` yields, from the first one on; 0 is none, so that it is the last one.
#[inline(always)]
fn climb(has: &Interpreter, first: u64, until: u64) -> u64 {
    let mut generator = first;
    let mut climbed = 0;
    while climbed < MAX_DELEGATES {
        let delegate = word(generator, has.delegate);
        if delegate == until || delegate == 0 {
            break;
        }
        generator = delegate;
        climbed += 1;
    }
    generator
}

/// Takes the call that was read last, whose function has this name.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, key: u64) {
    let ends_run = scripts.frame[FLAGS] & TOP != 0;
    let line = scripts.walk.line;
    take(scripts, key, line);
    if ends_run {
        end_run(scripts, 0);
    }
}

/// The line of an instruction; [`NONE`] where it is none of the function's.
#[inline(always)]
fn line(has: &Interpreter, object: &[u64; CODE_WORDS], instruction: u64, globals: u64) -> i32 {
    // A function that is being called has none yet.
    let instruction = if instruction == 0 { part(object, has.instructions) } else { instruction };
    let found = word(instruction, LINE);
    if is_of(has, object, instruction) {
        return found as i32;
    }
    if found & LINE_AND_KIND != THROWN {
        return NONE;
    }
    let threw = if has.thrown == ABSENT { 0 } else { word(globals, has.thrown) };
    if is_of(has, object, threw) { word(threw, LINE) as i32 } else { NO_LINE }
}

#[inline(always)]
fn is_of(has: &Interpreter, object: &[u64; CODE_WORDS], instruction: u64) -> bool {
    let behind = instruction.wrapping_sub(part(object, has.instructions));
    let count = number(object, has.count) & 0xffff_ffff;
    behind.is_multiple_of(INSTRUCTION_BYTES) && behind / INSTRUCTION_BYTES < count
}

/// What is looked at each time. The next request may have another script at the same places, so what its strings are is
/// looked at too, by the hashes that PHP has of them; 0 when it has none.
#[inline(always)]
pub(super) fn check(has: &Interpreter, object: &[u64; CODE_WORDS], walk: &Walk) -> u64 {
    let hash = hash::mix(hash::mix(walk.space, walk.code), part(object, has.first_line));
    let hash = hash::mix(hash::mix(hash, part(object, has.instructions)), number(object, has.count));
    let hash = mix_text(mix_text(hash | 1, part(object, has.function)), part(object, has.file));
    mix_text(hash, walk.class)
}

/// Folds a string into a hash that is not 0.
#[inline(always)]
fn mix_text(hash: u64, text: u64) -> u64 {
    if text == 0 || hash == 0 {
        return hash;
    }
    let known = word(text, HASH);
    if known == 0 {
        0
    } else {
        hash::mix(hash::mix(hash::mix(hash, text), known), word(text, LENGTH as u32 * 8)) | 1
    }
}

/// Reads a string; no bytes where there is none.
#[inline(always)]
pub(super) fn text<const WORDS: usize>(into: &mut Text<WORDS>, head: &mut [u64; 5], from: u64) -> bool {
    into.width = 1;
    if from == 0 {
        return copy_text(into, 0, 0);
    }
    if !read(head, 24, from) || (head[0] >> TYPE) & TYPE_BITS != STRING {
        return false;
    }
    copy_text(into, from.wrapping_add(BYTES), head[LENGTH])
}
