//! Frames of CPython.

use fdtrace_common::{
    scripts::{ABSENT, Interpreter, entry, units},
    wire::MAX_FRAMES,
};

use super::{
    FRAME_WORDS, Frame, Scripts, end_run,
    memory::{block, byte, half, read, word},
    take, thread,
};
use crate::task::Task;

/// What is read of a code object.
const CODE_BYTES: u32 = 144;
/// What marks references of 3.14 in their lowest bits.
const MARKS: u64 = 7;

/// The current thread's innermost frame, and its innermost border; 0 for none.
#[inline(always)]
pub(super) fn begin(has: &Interpreter, bias: u64, task: Task) -> (u64, u64) {
    let state = thread::find(has, bias, task.plain().fsbase());
    if state == 0 {
        return (0, 0);
    }
    let first = word(state, has.frame);
    let frame = if has.behind == ABSENT { first } else { word(first, has.behind) };
    (frame, if has.border == ABSENT { 0 } else { word(state, has.border) })
}

/// Reads the next frame, and its code object.
#[inline(always)]
pub(super) fn read_frame(scripts: &mut Scripts) -> Frame {
    let has = &scripts.interpreter;
    let walk = &mut scripts.walk;
    walk.at = walk.frame;
    if walk.calls >= MAX_FRAMES as u32 || !read(&mut scripts.frame, has.frame_bytes, walk.at) {
        return Frame::End;
    }
    let previous = block(&scripts.frame, has.previous);
    walk.frame = if previous == walk.at { 0 } else { previous };
    if has.entry == entry::BETWEEN && u32::from(byte(&scripts.frame, has.entry_at)) >= has.owner {
        return Frame::Between;
    }
    walk.code = block(&scripts.frame, has.code) & !MARKS;
    let is_code = read(&mut scripts.code, CODE_BYTES, walk.code)
        && scripts.code[1] == walk.bias.wrapping_add(has.code_type);
    if is_code { Frame::Call } else { Frame::End }
}

/// Takes the call that was read last, whose code object has this name.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, key: u64) {
    let has = &scripts.interpreter;
    let instruction = instruction(has, &scripts.frame, scripts.walk.code);
    take(scripts, key, instruction);
    let has = &scripts.interpreter;
    let walk = &mut scripts.walk;
    let is_marked = has.entry == entry::MARKED && byte(&scripts.frame, has.entry_at) == 1;
    if has.entry == entry::EACH || is_marked {
        let border = walk.border;
        if border != 0 {
            walk.border = word(border, has.border_previous);
        }
        end_run(scripts, border);
    }
}

#[inline(always)]
fn instruction(has: &Interpreter, frame: &[u64; FRAME_WORDS], code: u64) -> i32 {
    if has.units == units::ADDRESS {
        let first = code.wrapping_add(u64::from(has.instructions));
        return block(frame, has.instruction).wrapping_sub(first) as i32;
    }
    let number = half(frame, has.instruction) as i32;
    if has.units == units::PAIRS { number.wrapping_mul(2) } else { number }
}
