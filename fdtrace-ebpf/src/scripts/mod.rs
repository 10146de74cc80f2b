//! Calls of scripts, behind the native frames of an interpreter.
//!
//! A walk by tables tells that it came through an interpreter ([`note::INTERPRETER`](fdtrace_common::unwind::note)). Then the
//! thread's state is found, and the interpreter's own frames are followed from there. All of that is a stranger's memory: a step
//! reads three blocks of it, there are as many steps as frames at most, and what is no code object ends the walk.

mod code;
mod cpython;
pub(crate) mod hotspot;
mod memory;
mod perl;
mod php;
mod ruby;
mod thread;
mod v8;
mod v8_optimized;

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use fdtrace_common::{
    counters::Counter,
    hash,
    scripts::{self, Call, Calls, Interpreter, kind},
    wire::{MAX_FRAMES, Tag},
};

use crate::{counters::count, events, takers::TAKERS, task::Task, unwind::tables::Met};

/// What user space has recognised, by the module's key.
#[map]
static INTERPRETERS: HashMap<u64, Interpreter> = HashMap::with_max_entries(256, 0);

/// So many frames are gone through at a time: the verifier checks a stretch once, and each round of its loop.
const STRETCH: usize = 16;

/// Room for a frame and for a code object. Powers of two, so that an index is seen to fit.
const FRAME_WORDS: usize = 16;
const CODE_WORDS: usize = 32;
/// Memory that frames which lie side by side are read in; a power of two.
const WINDOW_WORDS: usize = 128;
const WINDOW_BYTES: u64 = WINDOW_WORDS as u64 * 8;

/// A record as it goes through the ring, and what it is made with.
#[repr(C)]
pub(crate) struct Scripts {
    header: Calls,
    calls: [Call; MAX_FRAMES + 1],
    /// The interpreter of the last walk, and its file.
    interpreter: Interpreter,
    module: u64,
    walk: Walk,
    /// CPython: the thread's state, frames (of Perl too), a part of a code object, and the beginning of its line table. Ruby has the
    /// characters of a string in the first, and the head of an object in the last.
    state: [u64; thread::STATE_WORDS],
    window: [u64; WINDOW_WORDS],
    part: [u64; cpython::PART_WORDS],
    table: [u64; cpython::TABLE_WORDS],
    /// PHP: a frame.
    frame: [u64; FRAME_WORDS],
    /// A code object that was not met before; of PHP and Ruby, each.
    code: [u64; CODE_WORDS],
    perl: perl::State,
}

/// How far a walk is; in memory, as a native one.
#[repr(C)]
struct Walk {
    /// What addresses are more by in the process than in the file.
    bias: u64,
    /// The next frame, and the one that was read last.
    frame: u64,
    at: u64,
    /// What the innermost run of the evaluation loop has on the C stack; of Ruby the end of the stack that its frames are on.
    border: u64,
    hash: u64,
    space: u64,
    /// The code object of the frame that was taken last, and what it is known by.
    code: u64,
    check: u64,
    /// CPython: the version that the next code object gets, or 0; a hash of it; and what the code object is known by while it
    /// stays, or 0.
    next_version: u64,
    generation: u64,
    brief: u64,
    /// CPython and Ruby: which memory frames were read in, and in how many bytes of it one may begin.
    window: u64,
    window_frames: u64,
    /// PHP: the name of the class that the function is a method of, or 0.
    class: u64,
    /// PHP: the generator whose caller is `caller`, while those are gone through that it has yield in its place; or 0. What
    /// `delegate` yields in place of was not gone through yet.
    outermost: u64,
    caller: u64,
    delegate: u64,
    /// Ruby: what the frame that was read last says of itself, and the string that its file is.
    flags: u64,
    file: u64,
    calls: u32,
    /// PHP and Ruby: the line of the call that was read last.
    line: i32,
    /// V8: how many calls of the frame that was read last were taken which are inlined in it, and 1 where the one that is known now
    /// is one of them.
    depth: u32,
    goes_on: u32,
    /// V8: how many steps were made to find calls.
    searched: u32,
    reserved: u32,
    /// V8: what the frame that was read last is known by, if it runs bytecodes.
    met: u64,
}

impl Walk {
    const NONE: Self = Self {
        bias: 0,
        frame: 0,
        at: 0,
        border: 0,
        hash: 0,
        space: 0,
        code: 0,
        check: 0,
        next_version: 0,
        generation: 0,
        brief: 0,
        window: 0,
        window_frames: 0,
        class: 0,
        outermost: 0,
        caller: 0,
        delegate: 0,
        flags: 0,
        file: 0,
        calls: 0,
        line: 0,
        depth: 0,
        goes_on: 0,
        searched: 0,
        reserved: 0,
        met: 0,
    };
}

/// By who takes the stack, as the native half.
#[map]
static SCRIPTS: PerCpuArray<Scripts> = PerCpuArray::with_max_entries(TAKERS, 0);

/// Whether a file is an interpreter's, and where it is mapped leads to all of it: V8 maps a part of its code once more, near
/// what it compiles.
#[inline(always)]
pub(crate) fn is_interpreter(met: Met) -> bool {
    let Some(interpreter) = INTERPRETERS.get_ptr(met.module) else { return false };
    // SAFETY: the pointer is to a value of the map, not null.
    let has = unsafe { &*interpreter };
    kind_of(has) != kind::V8
        || memory::is_there(met.start.wrapping_sub(has.code_delta).wrapping_add(has.runtime))
}

/// Whether the interpreter of the last walk makes code that keeps frame pointers.
#[inline(always)]
pub(crate) fn compiles(taker: u32) -> bool {
    // SAFETY: the map's value is one `Scripts`, which only this program uses on this CPU.
    SCRIPTS.get_ptr(taker).is_some_and(|scripts| unsafe { (*scripts).interpreter.kind } == kind::V8)
}

/// Takes one frame, and goes to its caller; 0 at the end of the walk. Global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_step(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: the map's value is one `Scripts`, which only this program uses on this CPU; here and below.
    match cpython::read_frame(unsafe { &mut *scripts }) {
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
            cpython::take_call(unsafe { &mut *scripts }, key);
        }
    }
    1
}

/// The same of PHP.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_php_step(taker: u32) -> i32 {
    let found = scripts_php_frame(taker);
    if found != Frame::Call as i32 {
        return i32::from(found == Frame::Between as i32);
    }
    let key = code::php_key(taker);
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    if key == 0 {
        return 0;
    }
    // SAFETY: as above.
    php::take_call(unsafe { &mut *scripts }, key);
    1
}

/// Reads the next frame of PHP: a [`Frame`]. Apart from what takes it, for the stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_php_frame(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    php::read_frame(unsafe { &mut *scripts }) as i32
}

/// The same of Perl.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_step(taker: u32) -> i32 {
    let found = scripts_perl_frame(taker);
    if found != Frame::Call as i32 {
        return i32::from(found == Frame::Between as i32);
    }
    if scripts_perl_look(taker) == 0 {
        return 0;
    }
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let check = unsafe { (*scripts).perl.check };
    let (mut key, mut line) = perl::known(check);
    if key == 0 {
        key = code::perl_key(taker);
        if key == 0 {
            return 0;
        }
        line = perl::line(taker);
        // SAFETY: as above.
        perl::remember(unsafe { &(*scripts).perl }, key, line);
    }
    // SAFETY: as above.
    perl::take_call(unsafe { &mut *scripts }, key, line);
    1
}

/// Goes to the next frame of Perl: a [`Frame`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_frame(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    perl::read_frame(unsafe { &mut *scripts }) as i32
}

/// Reads what tells it from others; 0 where it is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_look(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    i32::from(perl::look(unsafe { &mut *scripts }))
}

/// The same of Ruby.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_ruby_step(taker: u32) -> i32 {
    let found = scripts_ruby_frame(taker);
    if found != Frame::Call as i32 {
        return i32::from(found == Frame::Between as i32);
    }
    let key = code::ruby_key(taker);
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    if key == 0 {
        return 0;
    }
    // SAFETY: as above.
    ruby::take_call(unsafe { &mut *scripts }, key);
    1
}

/// As [`scripts_php_frame`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_ruby_frame(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    ruby::read_frame(unsafe { &mut *scripts }) as i32
}

/// The same of V8.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_step(taker: u32) -> i32 {
    let found = scripts_v8_frame(taker);
    if found != Frame::Call as i32 {
        return i32::from(found == Frame::Between as i32);
    }
    let key = code::v8_key(taker);
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    if key == 0 {
        scripts.walk.depth = 0;
    } else {
        v8::take_call(scripts, key);
    }
    1
}

/// As [`scripts_php_frame`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_frame(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    v8::read_frame(unsafe { &mut *scripts }) as i32
}

/// All calls of HotSpot, whose frames are known if the native ones all are: apart from the others, for the stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_java(taker: u32, is_complete: u32) -> i32 {
    if !hotspot::begin(taker, is_complete) {
        return 0;
    }
    let mut steps = 0;
    // Frames of stubs come between.
    while steps < 2 * MAX_FRAMES {
        if java_step(taker) == 0 {
            break;
        }
        steps += 1;
    }
    0
}

/// Takes the next call, if it is one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_step(taker: u32) -> i32 {
    let found = hotspot::find_call(taker);
    if found != Frame::Call as i32 {
        return i32::from(found == Frame::Between as i32);
    }
    let mut name = hotspot::known_name(taker);
    if name == 0 {
        name = code::hotspot_key(taker);
    }
    java_take(taker, name)
}

/// Takes the call that was found; 0 where there is room for no more.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_take(taker: u32, name: u64) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    i32::from(hotspot::take_call(unsafe { &mut *scripts }, taker, name))
}

/// Finds the current thread's innermost frame; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_begin(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    let (bias, space) = (scripts.walk.bias, scripts.walk.space);
    let (frame, border) = match kind_of(&scripts.interpreter) {
        kind::PHP => php::begin(&scripts.interpreter, bias),
        kind::PERL => (perl::begin(scripts, bias, Task::current()), 0),
        kind::RUBY => ruby::begin(scripts, bias, Task::current()),
        kind::V8 => v8::begin(scripts, bias, Task::current()),
        _ => cpython::begin(scripts, bias, Task::current(), space),
    };
    scripts.walk.frame = frame;
    scripts.walk.border = border;
    i32::from(frame != 0)
}

#[inline(always)]
const fn kind_of(interpreter: &Interpreter) -> u32 {
    interpreter.kind & 7
}

/// Follows the calls of the current thread, whose native frames are all known if that is `is_complete`; gives a hash of them for [`scripts::stack_name`], 0 where there are none.
#[inline(always)]
pub(crate) fn walk(taker: u32, met: Met, space: u64, is_complete: bool) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    scripts.walk.calls = 0;
    if met.module == 0 {
        return 0;
    }
    // What a file is does not change.
    if scripts.module != met.module {
        let Some(interpreter) = INTERPRETERS.get_ptr(met.module) else { return 0 };
        // SAFETY: the pointer is to a value of the map, not null.
        scripts.interpreter = unsafe { *interpreter };
        scripts.module = met.module;
    }
    let bias = met.start.wrapping_sub(scripts.interpreter.code_delta);
    scripts.walk = Walk { bias, hash: hash::SEED, space, ..Walk::NONE };
    let kind = kind_of(&scripts.interpreter);
    if kind == kind::HOTSPOT {
        scripts_java(taker, u32::from(is_complete));
        return walked(scripts);
    }
    if scripts_begin(taker) == 0 {
        return 0;
    }
    // Frames of no function come between runs, those of functions of C between others.
    // Those of two runtimes are not gone through in stretches: what they call is as deep as the verifier lets functions call each
    // other.
    match kind {
        kind::PERL => follow(2 * MAX_FRAMES, || scripts_perl_step(taker)),
        kind::V8 => follow(2 * MAX_FRAMES, || scripts_v8_step(taker)),
        _ => follow(2 * MAX_FRAMES / STRETCH, || scripts_steps(taker, kind)),
    };
    walked(scripts)
}

/// Goes from frame to frame, so many times; 0 when a step was the last. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_steps(taker: u32, kind: u32) -> i32 {
    // Each runtime has a loop of its own, in which the verifier need not tell them apart.
    match kind {
        kind::PHP => follow(STRETCH, || scripts_php_step(taker)),
        kind::RUBY => follow(STRETCH, || scripts_ruby_step(taker)),
        _ => follow(STRETCH, || scripts_step(taker)),
    }
}

/// Steps until one is the last, which gives 0, or so many were made.
#[inline(always)]
fn follow(most: usize, step: impl Fn() -> i32) -> i32 {
    let mut steps = 0;
    while steps < most {
        if step() == 0 {
            return 0;
        }
        steps += 1;
    }
    1
}

#[inline(always)]
fn walked(scripts: &Scripts) -> u64 {
    if scripts.walk.calls == 0 { 0 } else { scripts.walk.hash }
}

/// What a frame is.
#[derive(PartialEq, Eq)]
#[repr(i32)]
enum Frame {
    /// None: the walk is over.
    End = 0,
    /// One of no function of a script.
    Between,
    /// One of a code object, which has been read.
    Call,
}

/// Takes a call.
#[inline(always)]
fn take(scripts: &mut Scripts, code: u64, instruction: i32) {
    let walk = &mut scripts.walk;
    let slot = walk.calls as usize & MAX_FRAMES;
    scripts.calls[slot] = Call { code, border: 0, instruction, ends_run: 0 };
    walk.calls += 1;
    walk.hash = scripts::mix(walk.hash, code, instruction);
}

/// The call that was taken last is the last of its run.
#[inline(always)]
fn end_run(scripts: &mut Scripts, border: u64) {
    let slot = scripts.walk.calls.wrapping_sub(1) as usize & MAX_FRAMES;
    let call = &mut scripts.calls[slot];
    call.border = border;
    call.ends_run = 1;
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
