//! Calls of scripts, behind the native frames of an interpreter.
//!
//! A walk by tables tells that it came through an interpreter ([`note::INTERPRETER`](fdtrace_common::unwind::note)). Then the
//! thread's state is found, and the interpreter's own frames are followed from there. All of that is a stranger's memory: a step
//! reads three blocks of it, there are as many steps as frames at most, and what is no code object ends the walk.

mod code;
mod memory;
mod thread;

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use fdtrace_common::{
    counters::Counter,
    hash,
    scripts::{self, ABSENT, Call, Calls, Interpreter, entry, units},
    wire::{MAX_FRAMES, Tag},
};

use self::memory::{block, byte, half, read, word};
use crate::{counters::count, events, task::Task, unwind::tables::Met};

/// What user space has recognised, by the module's key.
#[map]
static INTERPRETERS: HashMap<u64, Interpreter> = HashMap::with_max_entries(256, 0);

/// Room for a frame and for a code object. Powers of two, so that an index is seen to fit.
const FRAME_WORDS: usize = 16;
const CODE_WORDS: usize = 32;
/// What is read of a code object.
const CODE_BYTES: u32 = 144;
/// What marks references of 3.14 in their lowest bits.
const MARKS: u64 = 7;

/// A record as it goes through the ring, and what it is made with.
#[repr(C)]
pub(crate) struct Scripts {
    header: Calls,
    calls: [Call; MAX_FRAMES + 1],
    interpreter: Interpreter,
    walk: Walk,
    frame: [u64; FRAME_WORDS],
    code: [u64; CODE_WORDS],
}

/// How far a walk is; in memory, as a native one.
#[repr(C)]
struct Walk {
    /// What addresses are more by in the process than in the file.
    bias: u64,
    /// The next frame, and the one that was read last.
    frame: u64,
    at: u64,
    /// What the innermost run of the evaluation loop has on the C stack.
    border: u64,
    hash: u64,
    space: u64,
    /// The code object of the frame that was taken last, and what it is known by.
    code: u64,
    check: u64,
    calls: u32,
    reserved: u32,
}

/// By who takes the stack, as the native half.
#[map]
static SCRIPTS: PerCpuArray<Scripts> = PerCpuArray::with_max_entries(5, 0);

/// Whether a file is an interpreter's.
#[inline(always)]
pub(crate) fn is_interpreter(module: u64) -> bool {
    INTERPRETERS.get_ptr(module).is_some()
}

/// Takes one frame, and goes to its caller; 0 at the end of the walk. Global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_step(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: the map's value is one `Scripts`, which only this program uses on this CPU; here and below.
    match read_frame(unsafe { &mut *scripts }) {
        Frame::End => return 0,
        Frame::Between => {
            // SAFETY: as above.
            let scripts = unsafe { &mut *scripts };
            end_run(scripts, scripts.walk.at);
        }
        Frame::Call => {
            let key = code::key(taker);
            if key == 0 {
                return 0;
            }
            // SAFETY: as above.
            take_call(unsafe { &mut *scripts }, key);
        }
    }
    1
}

/// Follows the calls of the current thread; gives a hash of them for [`scripts::stack_name`], 0 where there are none.
#[inline(always)]
pub(crate) fn walk(taker: u32, task: Task, met: Met, space: u64) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    scripts.walk.calls = 0;
    let Some(interpreter) = INTERPRETERS.get_ptr(met.module) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null.
    scripts.interpreter = unsafe { *interpreter };
    let bias = met.start.wrapping_sub(scripts.interpreter.code_delta);
    let state = thread::find(&scripts.interpreter, bias, task.plain().fsbase());
    if state == 0 {
        return 0;
    }
    begin(scripts, state, bias, space);
    let mut steps = 0;
    // Frames of no function come between runs.
    while steps < 2 * MAX_FRAMES {
        if scripts_step(taker) == 0 {
            break;
        }
        steps += 1;
    }
    if scripts.walk.calls == 0 { 0 } else { scripts.walk.hash }
}

#[inline(always)]
fn begin(scripts: &mut Scripts, state: u64, bias: u64, space: u64) {
    let has = &scripts.interpreter;
    let first = word(state, has.frame);
    let frame = if has.behind == ABSENT { first } else { word(first, has.behind) };
    let border = if has.border == ABSENT { 0 } else { word(state, has.border) };
    scripts.walk = Walk {
        bias,
        frame,
        at: 0,
        border,
        hash: hash::SEED,
        space,
        code: 0,
        check: 0,
        calls: 0,
        reserved: 0,
    };
}

/// What a frame is.
#[derive(PartialEq, Eq)]
enum Frame {
    /// None: the walk is over.
    End,
    /// One of no function, between two runs.
    Between,
    /// One of a code object, which has been read.
    Call,
}

/// Reads the next frame, and its code object.
#[inline(always)]
fn read_frame(scripts: &mut Scripts) -> Frame {
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
fn take_call(scripts: &mut Scripts, key: u64) {
    let has = &scripts.interpreter;
    let walk = &mut scripts.walk;
    let instruction = instruction(has, &scripts.frame, walk.code);
    let slot = walk.calls as usize & MAX_FRAMES;
    scripts.calls[slot] = Call { code: key, border: 0, instruction, ends_run: 0 };
    walk.calls += 1;
    walk.hash = scripts::mix(walk.hash, key, instruction);
    let is_marked = has.entry == entry::MARKED && byte(&scripts.frame, has.entry_at) == 1;
    if has.entry == entry::EACH || is_marked {
        let border = walk.border;
        if border != 0 {
            walk.border = word(border, has.border_previous);
        }
        end_run(scripts, border);
    }
}

/// The call that was taken last is the last of its run.
#[inline(always)]
fn end_run(scripts: &mut Scripts, border: u64) {
    let slot = scripts.walk.calls.wrapping_sub(1) as usize & MAX_FRAMES;
    let call = &mut scripts.calls[slot];
    call.border = border;
    call.ends_run = 1;
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

/// Sends the calls that were taken last; false when the ring is full.
#[inline(always)]
pub(crate) fn send(taker: u32, name: u64, module: u64, frames: u32, stacks: &[u64; MAX_FRAMES + 1]) -> bool {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return true };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    let calls = scripts.walk.calls & MAX_FRAMES as u32;
    if calls == 0 {
        return true;
    }
    scripts.header.tag = Tag::Calls as u8;
    scripts.header.reserved = 0;
    scripts.header.calls = calls as u16;
    scripts.header.frames = frames;
    scripts.header.hash = name;
    scripts.header.module = module;
    scripts.header.reserved2 = 0;
    memory::copy(&mut scripts.header.stacks, stacks);
    let bytes = size_of::<Calls>() + calls as usize * size_of::<Call>();
    // SAFETY: `bytes` is at most the size of the header and the calls.
    let record = unsafe { core::slice::from_raw_parts((&raw const *scripts).cast::<u8>(), bytes) };
    let sent = events::send_bytes(record);
    if !sent {
        count(Counter::LostStacks);
    }
    sent
}
