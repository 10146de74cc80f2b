//! Frames of HotSpot: compiled code with the calls that are inlined in it, interpreted methods, and what leads to native ones.
//!
//! None of them is in a file. Each lies in a blob of a code heap, which says how long a frame is, so that the native walk asks here
//! for rules ([`rule`]), and the frames that it came through are remembered. Where it was cut before, they are found from what the
//! thread itself knows of its last Java frame. Blobs, methods and their constants stay as long as a frame of them is on a stack.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    hash,
    hotspot::{ENTRY_WRAPPER, Hotspot, NATIVE, UNKNOWN, anchor, heap, interpreted},
    scripts::{ABSENT, FILE_WORDS, FUNCTION_WORDS, LINES_WORDS, Text, kind},
    unwind::{Registers, Rule, kind as rule_kind},
    wire::MAX_FRAMES,
};

use super::{
    Frame, INTERPRETERS, SCRIPTS, Scripts, end_run,
    memory::{copy_text, read, word},
    take, thread,
};
use crate::{
    kernel::{Ptr, mm_struct},
    takers::TAKERS,
    task::{Task, now},
    unwind::{
        mappings::{self, Node},
        tables::{self, Met},
    },
};

/// What is read of a blob: more than any version has before its code. A power of two, in words.
const HEAD_WORDS: usize = 64;
const HEAD_BYTES: u32 = 352;
/// The same of what does not change of a method.
const CONSTANT_WORDS: usize = 8;

/// Kinds of blobs.
const COMPILED: u64 = 1;
const TO_NATIVE: u64 = 2;
const INTERPRETER: u64 = 3;
const OTHER: u64 = 4;

/// How their names begin.
const COMPILED_NAME: u64 = u64::from_le_bytes(*b"nmethod\0");
const TO_NATIVE_NAME: u64 = u64::from_le_bytes(*b"native n");
const INTERPRETER_NAME: u64 = u64::from_le_bytes(*b"Interpre");

/// A code cache has three heaps, or one.
const MAX_HEAPS: u32 = 4;
/// An entry of a segment map leads at most so many segments back; longer blobs are more steps.
const MAX_BACK: u64 = 0xfe;
const MAX_STEPS: u32 = 64;
/// A frame of more words is none.
const MAX_FRAME_WORDS: u32 = 1 << 17;

/// An entry of the table of addresses: its distance from the code, and where the innermost call is described.
const ENTRY_BYTES: u64 = 16;
/// The table is searched in so many steps.
const MAX_SEARCH: u32 = 18;

/// A byte of a compressed number that others follow is not less.
const MORE: u64 = 192;
const BITS: u32 = 6;
const NUMBER_BYTES: u32 = 5;

/// No method has more bytecode.
const MAX_BYTECODE: u64 = 1 << 16;
/// Bytes of a class's name, and of a file's; all bits that a smaller number may have.
const MAX_PART: u64 = 255;

/// So long a process is believed to run no Java, in ns.
const RETRY_INTERVAL: u64 = 1_000_000_000;
const PAGE_SHIFT: u64 = 12;

/// No stack is larger.
const LARGEST_STACK: u64 = 1 << 32;

/// Keys under which a thread may have its Java thread: the first ones that the C library gives away.
const MAX_KEYS: u32 = 16;
/// The same where nobody knows whether it is one: the virtual machine takes one of the first.
const MAX_FIRST_KEYS: u32 = 4;

/// A power of two, as all that follow.
const SLOTS: u32 = 4096;

/// Where the library is in an address space that runs Java.
#[map]
static JAVA_SPACES: LruHashMap<u64, Met> = LruHashMap::with_max_entries(1024, 0);

/// Blobs by address space and address; what is there is looked at again each time.
#[map]
static JAVA_BLOBS: Array<BlobSlot> = Array::with_max_entries(SLOTS, 0);

/// Calls by what their blob is known by, the address in it, and how deep they are inlined there.
#[map]
static JAVA_CALLS: Array<CallSlot> = Array::with_max_entries(SLOTS, 0);

/// What has been found out on the way, by who takes the stack.
#[map]
static JAVA: PerCpuArray<Java> = PerCpuArray::with_max_entries(TAKERS, 0);

/// Two CPUs may write at once: then `key` fits neither.
#[repr(C)]
#[derive(Clone, Copy)]
struct BlobSlot {
    key: u64,
    blob: u64,
    check: u64,
    kind: u64,
}

impl BlobSlot {
    #[inline(always)]
    const fn mixed(&self) -> u64 {
        self.key ^ self.blob ^ self.check.rotate_left(7) ^ self.kind
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CallSlot {
    key: u64,
    code: u64,
    /// The instruction, and above it where the caller is described.
    place: u64,
}

impl CallSlot {
    #[inline(always)]
    const fn mixed(&self) -> u64 {
        self.key ^ self.code ^ self.place.rotate_left(7)
    }
}

/// A frame on the stack.
#[repr(C)]
#[derive(Clone, Copy)]
struct Physical {
    at: u64,
    stack: u64,
    frame: u64,
    blob: u64,
    check: u64,
    method: u64,
    kind: u64,
}

#[repr(C)]
pub(super) struct Java {
    pub(super) has: Hotspot,
    /// Whose `has` is.
    module: u64,
    /// What addresses are more by in the process than in the file.
    bias: u64,
    /// The name of the address space; 0 before anybody has asked.
    space: u64,
    /// 1 where Java runs in it.
    runs: u64,
    met: Met,
    node: Node,
    frames: [Physical; MAX_FRAMES + 1],
    count: u32,
    /// The next frame whose calls are wanted.
    next: u32,
    /// Where its next call is described; 0 at its innermost one.
    scope: u32,
    /// Where the caller of the call that was found last is described; 0 for the last of a frame.
    caller: u32,
    /// What the call that was found last is remembered by, or 0.
    key: u64,
    /// Its name, or 0.
    pub(super) name: u64,
    /// Its method.
    method: u64,
    /// Its instruction.
    line: i32,
    /// 1 where a call of the frame was taken.
    taken: u32,
    /// Of a walk from the thread's own state.
    at: Registers,
    /// A blob, or an interpreted frame.
    head: [u64; HEAD_WORDS],
    words: [u64; 2],
    /// What does not change of a method.
    constant: [u64; CONSTANT_WORDS],
    /// Where that is, the class's constants, the class, and its name.
    at_constant: u64,
    pool: u64,
    holder: u64,
    class: u64,
}

/// A walk begins.
#[inline(always)]
pub(crate) fn reset(taker: u32) {
    if let Some(java) = JAVA.get_ptr_mut(taker) {
        // SAFETY: the map's value is one `Java`, which only this program uses on this CPU; here and below.
        unsafe {
            (*java).space = 0;
            (*java).runs = 0;
            (*java).count = 0;
        }
    }
}

/// What an address space is known by here: what is remembered under it is checked each time.
#[inline(always)]
fn space_of(mm: Ptr<mm_struct>) -> u64 {
    hash::mix(mm.address(), mm.start_stack()) | 1
}

/// How a frame leads on whose code is in no file: `None` where it is none of Java's.
#[inline(always)]
pub(crate) fn rule(taker: u32, at: Registers) -> Option<(Rule, Met)> {
    let java = JAVA.get_ptr_mut(taker)?;
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    if java.space == 0 {
        find_space(taker);
    }
    if java.runs == 0 {
        return None;
    }
    java.at = at;
    let rule = frame_rule(taker);
    (rule.kind != rule_kind::UNKNOWN).then_some((rule, java.met))
}

/// Where the library of the current address space is, by what its thread knows.
#[inline(always)]
pub(crate) fn met(taker: u32) -> Met {
    find_space(taker);
    match JAVA.get_ptr(taker) {
        // SAFETY: as above.
        Some(java) if unsafe { (*java).runs } != 0 => unsafe { (*java).met },
        _ => Met::default(),
    }
}

/// Finds out whether Java runs in the current address space, and where its library is there.
#[inline(always)]
fn find_space(taker: u32) {
    if java_space(taker) == 0 {
        return;
    }
    let mut key = 0;
    while key < MAX_FIRST_KEYS {
        if java_look(taker, key) != 0 {
            break;
        }
        key += 1;
    }
    java_settle(taker);
}

/// Looks up what is known of it; 1 where that is nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_space(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let task = Task::current().plain();
    let mm = task.mm();
    java.space = space_of(mm);
    java.runs = 0;
    java.met = Met::default();
    let known = match JAVA_SPACES.get_ptr(java.space) {
        // SAFETY: the pointer is to a value of the map, not null.
        Some(met) => unsafe { *met },
        None => Met::default(),
    };
    if known.module != 0 {
        java.met = known;
        java.runs = u64::from(learn(java));
        return 0;
    }
    // What was no library of Java may have been recognised since.
    i32::from(known.start == 0 || now().wrapping_sub(known.start) >= RETRY_INTERVAL)
}

/// Remembers what was found. Apart from what looks for it, for the stack.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "copies would lie on the stack, of which there is little"
)]
extern "C" fn java_settle(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    java.runs = u64::from(java.met.module != 0 && learn(java));
    if java.runs == 0 {
        java.met = Met { module: 0, start: now() };
    }
    let _ = JAVA_SPACES.insert(&java.space, &java.met, 0);
    0
}

/// Notes the file that the first function is in of what a thread may have under a key as its Java thread; 0 where there is none. A
/// process that runs already may have frames that nobody can follow before the first one of the library.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_look(taker: u32, key: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let task = Task::current().plain();
    let function = word(word(thread::value(task.fsbase(), key), 0), 0);
    if function != 0
        && let Some(found) = mappings::find(task.mm(), function, &mut java.node)
        && !found.file.is_null()
    {
        let start = found.start.wrapping_sub(found.page << PAGE_SHIFT);
        java.met = Met { module: tables::module(found.file), start };
        return 1;
    }
    0
}

/// Reads where the library of a process has what.
#[inline(always)]
fn learn(java: &mut Java) -> bool {
    if java.module != java.met.module {
        let Some(interpreter) = INTERPRETERS.get_ptr(java.met.module) else { return false };
        // SAFETY: the pointer is to a value of the map, not null, and one has the layout of the other.
        let has = unsafe { &*interpreter.cast::<Hotspot>() };
        if has.kind != kind::HOTSPOT {
            return false;
        }
        java.has = *has;
        java.module = java.met.module;
    }
    java.bias = java.met.start.wrapping_sub(java.has.code_delta);
    true
}

/// The rule of the frame that was come to, which is remembered; one of no kind where it is none of Java's. None of these functions
/// calls another one: all callers of a function share 512 bytes of stack.
#[inline(always)]
fn frame_rule(taker: u32) -> Rule {
    let mut rule = java_frame(taker);
    if rule == 0 && java_find(taker) != 0 {
        rule = java_frame(taker);
    }
    // SAFETY: as many bytes, of which any are a rule.
    unsafe { core::mem::transmute::<u64, Rule>(rule) }
}

/// Remembers the frame that was come to, and gives its [`Rule`]; 0 where its blob is not known. Global, as all that follow, so that
/// the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_frame(taker: u32) -> u64 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let key = hash::mix(java.space, java.at.instruction);
    let Some(slot) = JAVA_BLOBS.get_ptr(index(key)) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let slot = unsafe { *slot };
    if slot.mixed() != key || !read_blob(java, slot.blob) || check(java, slot.blob) != slot.check {
        return 0;
    }
    remember(java, &slot)
}

#[inline(always)]
fn remember(java: &mut Java, slot: &BlobSlot) -> u64 {
    let has = &java.has;
    let Registers { mut instruction, stack, frame } = java.at;
    if slot.kind == COMPILED {
        let is_there = |handler: u32| {
            handler != ABSENT && instruction == handler_at(has, &java.head, slot.blob, handler)
        };
        if is_there(has.deoptimized) || is_there(has.deoptimized_handle) {
            instruction = word(stack.wrapping_add(signed(half(&java.head, has.original))), 0);
        }
    }
    let method = part(&java.head, has.method);
    let BlobSlot { blob, check, kind, .. } = *slot;
    let words = half(&java.head, has.frame_words);
    java.frames[java.count as usize & MAX_FRAMES] =
        Physical { at: instruction, stack, frame, blob, check, method, kind };
    if java.count < MAX_FRAMES as u32 {
        java.count += 1;
    }
    let rule = if kind == INTERPRETER {
        Rule::INTERPRETED
    } else if words != 0 && words < MAX_FRAME_WORDS {
        Rule { cfa: (words * 8) as i32, frame: -16, kind: rule_kind::STACK, notes: 0 }
    } else {
        Rule::FRAME_POINTER
    };
    bits(rule)
}

#[inline(always)]
const fn bits(rule: Rule) -> u64 {
    // SAFETY: as many bytes, all of them initialized: a rule has no padding.
    unsafe { core::mem::transmute::<Rule, u64>(rule) }
}

/// Code that a frame returns to whose own is no longer valid.
#[inline(always)]
fn handler_at(has: &Hotspot, head: &[u64; HEAD_WORDS], blob: u64, handler: u32) -> u64 {
    if has.immutable == ABSENT { part(head, handler) } else { blob.wrapping_add(half(head, handler).into()) }
}

#[inline(always)]
fn read_blob(java: &mut Java, blob: u64) -> bool {
    read(&mut java.head, HEAD_BYTES, blob)
}

/// What tells a blob from others that were at its place.
#[inline(always)]
fn check(java: &Java, blob: u64) -> u64 {
    let (has, head) = (&java.has, &java.head);
    let hash = hash::mix(hash::mix(java.space, blob), part(head, has.blob_name));
    let numbers = u64::from(half(head, has.compilation)) << 32 | u64::from(half(head, has.frame_words));
    hash::mix(hash::mix(hash, numbers), part(head, has.method))
}

/// What a blob is, by its name.
#[inline(always)]
fn kind_of(java: &Java) -> u64 {
    match word(part(&java.head, java.has.blob_name), 0) {
        COMPILED_NAME => COMPILED,
        TO_NATIVE_NAME => TO_NATIVE,
        INTERPRETER_NAME => INTERPRETER,
        _ => OTHER,
    }
}

/// Finds the blob of the frame that was come to; 0 where it lies in none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_find(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let key = hash::mix(java.space, java.at.instruction);
    let blob = find(java);
    if blob == 0 || !read_blob(java, blob) {
        return 0;
    }
    let slot = BlobSlot { key: 0, blob, check: check(java, blob), kind: kind_of(java) };
    let Some(place) = JAVA_BLOBS.get_ptr_mut(index(key)) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null; readers check what they find.
    unsafe { *place = BlobSlot { key: slot.mixed() ^ key, ..slot } };
    1
}

/// The blob that a return address lies in, or rather the call before.
#[inline(always)]
fn find(java: &Java) -> u64 {
    let has = &java.has;
    let address = java.at.instruction.wrapping_sub(1);
    let heaps = word(java.bias.wrapping_add(has.heaps), 0);
    let count = word(heaps, 0) as u32;
    let data = word(heaps, has.array_data);
    let mut at = 0;
    while at < MAX_HEAPS {
        if at >= count {
            break;
        }
        let heap = word(data, at * 8);
        let low = word(heap, has.heap_memory + heap::LOW);
        if low != 0 && address >= low && address < word(heap, has.heap_memory + heap::HIGH) {
            return block(has, heap, low, address);
        }
        at += 1;
    }
    0
}

/// The blob of a heap that an address lies in. The map of its segments leads back to where a block begins.
#[inline(always)]
fn block(has: &Hotspot, heap: u64, low: u64, address: u64) -> u64 {
    let map = word(heap, has.heap_map + heap::LOW);
    let shift = word(heap, has.heap_shift) & 31;
    let mut segment = address.wrapping_sub(low) >> shift;
    let mut steps = 0;
    while steps < MAX_STEPS {
        let back = word(map.wrapping_add(segment), 0) & 0xff;
        if back == 0 {
            return low.wrapping_add(segment << shift).wrapping_add(has.block_header.into());
        }
        if back > MAX_BACK || back > segment {
            break;
        }
        segment -= back;
        steps += 1;
    }
    0
}

/// Finds the current thread's frames: those that the native walk came through, if it came to its end.
#[inline(always)]
pub(super) fn begin(taker: u32, is_complete: u32) -> bool {
    let found = java_begin(taker, is_complete);
    if found != 0 || java_anchor(taker) == 0 {
        return found != 0;
    }
    let mut steps = 0;
    while steps < MAX_FRAMES {
        if java_goes_on(taker) == 0 {
            break;
        }
        steps += 1;
    }
    true
}

/// Remembers a frame of a walk from the thread's own state, and goes to its caller; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_goes_on(taker: u32) -> i32 {
    if java_entered(taker) == 0 {
        return 0;
    }
    java_caller(taker, bits(frame_rule(taker)))
}

/// Whether the frames are known already.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_begin(taker: u32, is_complete: u32) -> i32 {
    let (Some(java), Some(scripts)) = (JAVA.get_ptr_mut(taker), SCRIPTS.get_ptr(taker)) else { return 0 };
    // SAFETY: as above.
    let (java, scripts) = unsafe { (&mut *java, &*scripts) };
    let start = scripts.walk.bias.wrapping_add(scripts.interpreter.code_delta);
    let (space, met) = (space_of(Task::current().plain().mm()), Met { module: scripts.module, start });
    // SAFETY: the pointer is to a value of the map, not null.
    let is_known = JAVA_SPACES.get_ptr(space).is_some_and(|known| unsafe { (*known).module == met.module });
    if !is_known {
        let _ = JAVA_SPACES.insert(space, met, 0);
    }
    (java.next, java.scope, java.taken) = (0, 0, 0);
    if is_complete != 0 && java.count != 0 {
        return 1;
    }
    java.space = space;
    java.count = 0;
    java.met = met;
    java.runs = u64::from(learn(java));
    0
}

/// Finds what the current thread knows of its last Java frame; 0 where that is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_anchor(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let task = Task::current();
    let own = task.plain().fsbase();
    let Some(now) = task.user_stack().filter(|_| java.runs != 0) else { return 0 };
    let mut key = 0;
    while key < MAX_KEYS {
        let thread = thread::value(own, key);
        if thread != 0 && word(word(thread, java.has.system_thread), java.has.pthread) == own {
            // A thread that runs no Java has something else there.
            let is_one = load_anchor(java, thread.wrapping_add(java.has.anchor.into()));
            return i32::from(is_one && java.at.stack.wrapping_sub(now.stack) < LARGEST_STACK);
        }
        key += 1;
    }
    0
}

/// Goes to a last Java frame; false where that is none.
#[inline(always)]
fn load_anchor(java: &mut Java, from: u64) -> bool {
    let stack = word(from, anchor::STACK);
    let instruction = word(from, anchor::INSTRUCTION);
    java.at = Registers {
        instruction: if instruction == 0 { word(stack.wrapping_sub(8), 0) } else { instruction },
        stack,
        frame: word(from, anchor::FRAME),
    };
    stack != 0
}

/// Where a frame is come to that was called from native code, goes to the last Java frame before that; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_entered(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let at = java.at;
    if at.instruction != word(java.bias.wrapping_add(java.has.entry_return), 0) {
        return 1;
    }
    let wrapper = word(at.frame.wrapping_sub(ENTRY_WRAPPER), 0);
    // Callers lie above.
    i32::from(
        load_anchor(java, wrapper.wrapping_add(java.has.entry_anchor.into())) && java.at.stack > at.stack,
    )
}

/// Goes to the caller of the frame that was come to; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_caller(taker: u32, rule: u64) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    // SAFETY: as many bytes, of which any are a rule.
    let rule = unsafe { core::mem::transmute::<u64, Rule>(rule) };
    match rule.caller(java.at, |address| Some(word(address, 0))) {
        Some(caller) => {
            java.at = caller;
            i32::from(caller.instruction != 0)
        }
        None => 0,
    }
}

/// What [`java_call`] gives beside a [`Frame`]: a call that was not met before.
const UNMET: i32 = 3;

/// Finds the next call: a [`Frame`], or [`UNMET`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_call(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return Frame::End as i32 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    if java.next >= java.count {
        return Frame::End as i32;
    }
    let frame = &java.frames[java.next as usize & MAX_FRAMES];
    (java.key, java.name, java.caller) = (0, 0, 0);
    (java.method, java.line) = (frame.method, NATIVE);
    match frame.kind {
        TO_NATIVE => Frame::Call as i32,
        COMPILED => {
            java.key = hash::mix(hash::mix(frame.check, frame.at), java.scope.into());
            if met_before(java) { Frame::Call as i32 } else { UNMET }
        }
        INTERPRETER if read(&mut java.head, 48, frame.frame.wrapping_sub(interpreted::BYTECODE)) => {
            java.method = java.head[((interpreted::BYTECODE - interpreted::METHOD) / 8) as usize];
            let first = word(java.method, java.has.constant).wrapping_add(java.has.bytecode.into());
            let instruction = java.head[0].wrapping_sub(first);
            // A native method has none.
            java.line = if instruction < MAX_BYTECODE { instruction as i32 } else { NATIVE };
            Frame::Call as i32
        }
        _ => {
            go_on(java);
            Frame::Between as i32
        }
    }
}

/// Looks for the call among those that were met.
#[inline(always)]
fn met_before(java: &mut Java) -> bool {
    let Some(slot) = JAVA_CALLS.get_ptr(index(java.key)) else { return false };
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let slot = unsafe { *slot };
    if slot.mixed() != java.key || slot.code == 0 {
        return false;
    }
    java.name = slot.code;
    java.line = slot.place as u32 as i32;
    java.caller = (slot.place >> 32) as u32;
    true
}

/// Goes to the next frame.
#[inline(always)]
fn go_on(java: &mut Java) {
    java.next += 1;
    java.scope = 0;
    java.taken = 0;
}

/// Finds the next call: a [`Frame`].
#[inline(always)]
pub(super) fn find_call(taker: u32) -> i32 {
    let found = java_call(taker);
    if found != UNMET {
        return found;
    }
    java_scope(taker);
    Frame::Call as i32
}

/// The name of its method, if it was met before.
#[inline(always)]
pub(super) fn known_name(taker: u32) -> u64 {
    state(taker).map_or(0, |java| java.name)
}

/// Reads what compiled code says of the call. Where it says nothing, it is the method that was compiled.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_scope(taker: u32) -> i32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let frame = &java.frames[java.next as usize & MAX_FRAMES];
    let blob = frame.blob;
    java.line = UNKNOWN;
    if !read(&mut java.head, HEAD_BYTES, blob) {
        return 0;
    }
    let scope = if java.scope == 0 { java_entry(taker) } else { java.scope };
    let described = scopes(java).wrapping_add(scope.into());
    if scope == 0 || !read(&mut java.words, 16, described) {
        return 0;
    }
    let excluded = u64::from(java.has.format & 1);
    let (caller, at) = number(&java.words, 0, excluded);
    let (method, at) = number(&java.words, at, excluded);
    let (place, _) = number(&java.words, at, excluded);
    let method = method_at(java, blob, method);
    if method == 0 {
        return 0;
    }
    java.caller = caller;
    java.method = method;
    // One less than what is written: the entry of a method is before its first instruction.
    java.line = place.wrapping_sub(1) as i32;
    1
}

/// Where compiled code has its descriptions of calls.
#[inline(always)]
fn scopes(java: &Java) -> u64 {
    let has = &java.has;
    if has.immutable == ABSENT {
        part(&java.head, has.scopes)
    } else {
        part(&java.head, has.immutable).wrapping_add(half(&java.head, has.scopes).into())
    }
}

/// A method that it speaks of.
#[inline(always)]
fn method_at(java: &Java, blob: u64, number: u32) -> u64 {
    let has = &java.has;
    let all = if has.mutable == ABSENT {
        blob.wrapping_add(half(&java.head, has.metadata).into())
    } else {
        part(&java.head, has.mutable).wrapping_add(half(&java.head, has.relocation_bytes).into())
    };
    if number == 0 { 0 } else { word(all.wrapping_add(u64::from(number - 1) * 8), 0) }
}

/// A compressed number that begins at one of the first bytes, and where the next one does.
#[inline(always)]
fn number(words: &[u64; 2], at: u32, excluded: u64) -> (u32, u32) {
    let (mut number, mut at, mut index) = (0_u64, at, 0);
    while index < NUMBER_BYTES {
        let byte = words[(at >> 3) as usize & 1] >> ((at & 7) * 8) & 0xff;
        number += byte.wrapping_sub(excluded) << (index * BITS);
        at += 1;
        index += 1;
        if byte < MORE {
            break;
        }
    }
    (number as u32, at)
}

/// Where the innermost call is described that stands at the address; 0 where none does. The head of the blob has been read.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_entry(taker: u32) -> u32 {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let frame = &java.frames[java.next as usize & MAX_FRAMES];
    let (has, head, blob) = (&java.has, &java.head, frame.blob);
    let (base, code) = if has.immutable == ABSENT {
        (blob, part(head, has.code))
    } else {
        (part(head, has.immutable), blob.wrapping_add(half(head, has.code).into()))
    };
    let table = base.wrapping_add(half(head, has.table).into());
    let wanted = frame.at.wrapping_sub(code) as u32;
    let mut low = 0;
    let mut high = half(head, has.table_end).wrapping_sub(half(head, has.table)) / ENTRY_BYTES as u32;
    let mut steps = 0;
    while steps < MAX_SEARCH {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        let entry = word(table.wrapping_add(u64::from(middle) * ENTRY_BYTES), 0);
        let place = entry as u32;
        if place == wanted {
            return (entry >> 32) as u32;
        }
        // The first one is less than all.
        if (place as i32) < wanted as i32 {
            low = middle + 1;
        } else {
            high = middle;
        }
        steps += 1;
    }
    0
}

/// Takes the call that was found, whose method has this name, without a name it is left out; false where there is room for none.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, taker: u32, name: u64) -> bool {
    let Some(java) = JAVA.get_ptr_mut(taker) else { return false };
    // SAFETY: as above.
    let java = unsafe { &mut *java };
    let border = java.frames[java.next as usize & MAX_FRAMES].stack;
    if name != 0 {
        take(scripts, name, java.line);
        java.taken = 1;
        if java.name == 0 && java.key != 0 {
            keep(java, name);
        }
    }
    if java.caller == 0 {
        if java.taken != 0 {
            end_run(scripts, border);
        }
        go_on(java);
    } else {
        java.scope = java.caller;
    }
    scripts.walk.calls < MAX_FRAMES as u32
}

#[inline(always)]
fn keep(java: &Java, code: u64) {
    let Some(place) = JAVA_CALLS.get_ptr_mut(index(java.key)) else { return };
    let at = u64::from(java.caller) << 32 | u64::from(java.line as u32);
    let slot = CallSlot { key: 0, code, place: at };
    // SAFETY: the pointer is to a value of the map, not null; readers check what they find.
    unsafe { *place = CallSlot { key: slot.mixed() ^ java.key, ..slot } };
}

/// What has been found out of a method.
#[inline(always)]
pub(super) fn state(taker: u32) -> Option<&'static mut Java> {
    // SAFETY: as above; nobody has another reference while this one is used.
    JAVA.get_ptr_mut(taker).map(|java| unsafe { &mut *java })
}

/// Reads what does not change of the method, and gives what it is known by; 0 where it is none. Another one may come to its place
/// when its class is gone.
#[inline(always)]
pub(super) fn check_method(java: &mut Java) -> u64 {
    let constant = word(java.method, java.has.constant);
    if constant == 0 || !read(&mut java.constant, (CONSTANT_WORDS * 8) as u32, constant) {
        return 0;
    }
    java.at_constant = constant;
    java.pool = constant_part(java, java.has.constants);
    java.holder = word(java.pool, java.has.holder);
    java.class = word(java.holder, java.has.class_name);
    if java.class == 0 {
        return 0;
    }
    let hash = hash::mix(hash::mix(java.space, java.method), constant);
    let hash = hash::mix(hash::mix(hash, java.pool), java.class);
    let code = constant_half(java, java.has.code_bytes) & 0xffff;
    let name = constant_half(java, java.has.name) & 0xffff;
    hash::mix(
        hash,
        u64::from(code) << 48 | u64::from(name) << 32 | u64::from(constant_half(java, java.has.words)),
    )
}

#[inline(always)]
fn constant_part(java: &Java, offset: u32) -> u64 {
    java.constant[(offset >> 3) as usize & (CONSTANT_WORDS - 1)]
}

/// A number of four bytes, or of two in its lower half, which does not lie across two words.
#[inline(always)]
fn constant_half(java: &Java, offset: u32) -> u32 {
    (constant_part(java, offset) >> ((offset & 7) * 8)) as u32
}

/// Where a symbol has its characters, and how many.
#[inline(always)]
fn symbol(has: &Hotspot, symbol: u64) -> (u64, u64) {
    (symbol.wrapping_add(has.symbol.into()), word(symbol, has.symbol_length) & 0xffff)
}

/// The symbol that is one of a class's constants.
#[inline(always)]
fn constant_symbol(java: &Java, number: u32) -> (u64, u64) {
    let at =
        java.pool.wrapping_add(java.has.first_constant.into()).wrapping_add(u64::from(number & 0xffff) * 8);
    symbol(&java.has, word(at, 0))
}

/// 1 where the language's own stack traces leave the method out.
#[inline(always)]
pub(super) fn is_hidden(java: &Java) -> u32 {
    let has = &java.has;
    let flags = if has.hidden_at == ABSENT {
        constant_half(java, has.flags)
    } else {
        word(java.method, has.hidden_at) as u32 & 0xffff
    };
    u32::from(flags & has.hidden != 0)
}

/// Reads a method's name.
#[inline(always)]
pub(super) fn name(java: &Java, into: &mut Text<FUNCTION_WORDS>) -> bool {
    let (from, bytes) = constant_symbol(java, constant_half(java, java.has.name));
    into.width = 1;
    copy_text(into, from, bytes)
}

/// Reads the class's name, and behind a zero that of its source file.
#[inline(always)]
pub(super) fn file(java: &Java, into: &mut Text<FILE_WORDS>) -> bool {
    let has = &java.has;
    let number =
        if has.source == ABSENT { word(java.holder, has.holder_source) } else { word(java.pool, has.source) };
    let number = number as u32 & 0xffff;
    let class = symbol(has, java.class);
    let source = if number == 0 { (0, 0) } else { constant_symbol(java, number) };
    *into = Text { bytes: 0, width: 1, cut: 0, words: [0; FILE_WORDS] };
    let first = put(into, 0, class);
    if first == 0 {
        return false;
    }
    // A zero is between them.
    let behind = first + 1;
    into.bytes = (behind + put(into, behind, source)) as u32;
    true
}

/// Puts as much of a text somewhere as there is room for two, and says how much that is.
#[inline(always)]
fn put(into: &mut Text<FILE_WORDS>, at: u64, (from, wanted): (u64, u64)) -> u64 {
    into.cut |= u16::from(wanted > MAX_PART);
    let bytes = bounded(into, if wanted > MAX_PART { MAX_PART } else { wanted });
    // SAFETY: twice as many bytes and one fit; any address may be given, the helper checks it.
    let read = unsafe {
        let to = into.words.as_mut_ptr().cast::<u8>().add(at as usize);
        bpf_probe_read_user(to.cast(), bytes as u32, from as *const _)
    };
    bounded(into, if read == 0 { bytes } else { 0 })
}

/// A length that is not more. It goes through memory, for the compiler leaves out bounds that it knows of, and old verifiers do not.
#[inline(always)]
fn bounded(into: &mut Text<FILE_WORDS>, bytes: u64) -> u64 {
    let cell = &raw mut into.bytes;
    // SAFETY: a field of the text.
    unsafe {
        cell.write_volatile(bytes as u32);
        u64::from(cell.read_volatile()) & MAX_PART
    }
}

/// Reads the line table, with what else does not change and is the same in each process.
#[inline(always)]
pub(super) fn lines(java: &Java, into: &mut Text<LINES_WORDS>) -> bool {
    let has = &java.has;
    let flags = constant_half(java, has.flags);
    let code = u64::from(constant_half(java, has.code_bytes) & 0xffff);
    let begin = u64::from(has.bytecode) + code;
    let pointers = u64::from((flags & has.has_pointers & 0xffff).count_ones());
    let end = u64::from(constant_half(java, has.words)) * 8;
    into.width = 1;
    let wanted = end.wrapping_sub(pointers * 8).wrapping_sub(begin);
    let wanted = if flags & has.has_lines == 0 || wanted > 1 << 20 { 0 } else { wanted };
    copy_text(into, java.at_constant.wrapping_add(begin), wanted)
}

#[inline(always)]
fn part(head: &[u64; HEAD_WORDS], offset: u32) -> u64 {
    head[(offset >> 3) as usize & (HEAD_WORDS - 1)]
}

#[inline(always)]
fn half(head: &[u64; HEAD_WORDS], offset: u32) -> u32 {
    (part(head, offset) >> ((offset & 4) * 8)) as u32
}

#[inline(always)]
const fn signed(number: u32) -> u64 {
    number as i32 as i64 as u64
}

/// The upper bits of a product depend on all bits of its factors.
#[inline(always)]
const fn index(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32 & (SLOTS - 1)
}
