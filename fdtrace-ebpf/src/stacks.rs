//! Stacks: taken at allocation, named by a hash, sent in full once for each name.
//!
//! The kernel's half of a stack costs about ten times the user's, and nearly always follows from where the process
//! called and what it asked for. So it is taken when that pair is first seen, again once in 2^[`RESAMPLE_BITS`] calls, and
//! always where there is no system call or where one system call does many things.

use aya_ebpf::{
    helpers::bpf_get_stack,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use core::ffi::c_void;
use fdtrace_common::{
    config::{STACKS_BOTH, STACKS_OFF, UNWIND_OFF, UNWIND_TABLES},
    counters::Counter,
    hash,
    unwind::{Registers, end},
    wire::{MAX_FRAMES, NO_SYSCALL, Side, StackHeader, Tag},
};

use crate::{
    config,
    counters::count,
    events,
    scripts::{self, hotspot},
    takers::{TAKERS, Taker},
    task::{Registers as EntryRegisters, Task},
    unwind::{
        frame_pointers,
        stack_cache::{self, Known},
        stack_dump::{self, StackDump},
        tables::{self, Frames, Met, Walked, Workspace},
    },
    work_queues,
};

/// One in so many calls has its kernel stack taken again, to catch variants: by the upper bits of a number that no rhythm of calls
/// keeps step with.
const RESAMPLE_BITS: u32 = 6;

/// Sites that a CPU has met last. A power of two.
const RECENT: u32 = 256;

const BPF_F_USER_STACK: u64 = 1 << 8;
const BPF_ANY: u64 = 0;

/// A stack record as it goes through the ring, and what it is made with.
#[repr(C)]
struct Scratch {
    header: StackHeader,
    frames: Frames,
    work: Workspace,
    dump: StackDump,
    /// What is known of the stack without a walk. Of one that is used as it was found, the frames are not here.
    known: Known,
    found: Walked,
    met: Met,
    /// The last of the numbers that decide which calls are looked at again.
    lot: u64,
}

/// Looks at some words of a dump; global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_choose(taker: u32, stretch: u32) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    stack_dump::choose_some(unsafe { &mut (*scratch).dump }, stretch as usize);
    0
}

/// Finds the code that one word of a dump points into; global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_locate(taker: u32, slot: u32) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scratch = unsafe { &mut *scratch };
    let found = stack_dump::locate(&mut scratch.dump, &mut scratch.work, slot as usize);
    if let Some(met) = found
        && scripts::is_interpreter(met)
    {
        scratch.work.met = met;
    }
    0
}

/// Follows the calls of scripts behind the stack in the scratch; 0 where there are none. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_scripts(taker: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let Scratch { header, work, .. } = unsafe { &mut *scratch };
    if work.met.module == 0 {
        work.met = hotspot::met(taker);
    }
    scripts::walk(taker, work.met, work.space(), header.end == end::COMPLETE)
}

/// Sends them; 0 when the ring is full. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_calls(taker: u32, name: u64) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let Scratch { header, work, .. } = unsafe { &*scratch };
    i32::from(scripts::send(taker, name, work.met.module, header.frames.into(), &work.stacks))
}

/// A site that this CPU has met.
#[repr(C)]
#[derive(Clone, Copy)]
struct Recent {
    key: u64,
    kernel_stack: u64,
    /// How often user space had forgotten all stacks.
    epoch: u64,
}

/// By [`Taker`].
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(TAKERS, 0);

/// All steps of a walk by tables. Global, as what it calls: the verifier checks such a function once, and not once for each way to
/// it and each frame that there may be. It takes numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_steps(taker: u32) -> i32 {
    let mut steps = 0;
    while steps < MAX_FRAMES {
        if stacks_step(taker) == 0 {
            break;
        }
        steps += 1;
    }
    0
}

/// One step; 0 when the walk is over.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_step(taker: u32) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: the map's value is one `Scratch`, which only this program uses on this CPU.
    let scratch = unsafe { &mut *scratch };
    let made = |at| hotspot::rule(taker, at);
    i32::from(tables::step(&mut scratch.work, &mut scratch.frames, made))
}

/// What is known of the stack that [`tables::begin`] was told of: a [`Known`]. Global, for the stack of its caller; as what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_find(taker: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return Known::CHANGING.0 };
    // SAFETY: as above.
    let Scratch { work, found, met, .. } = unsafe { &mut *scratch };
    stack_cache::find(work, found, met).0
}

/// Remembers the stack that was walked.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_keep(taker: u32) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr(taker) else { return 0 };
    // SAFETY: as above.
    let Scratch { work, found, .. } = unsafe { &*scratch };
    stack_cache::keep(work, *found, |set, word| stacks_place(taker, set, word) != 0);
    0
}

/// Makes a word one of those that a stack is found again by; 0 where it cannot be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_place(taker: u32, set: u32, word: u32) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr(taker) else { return 0 };
    // SAFETY: as above.
    i32::from(stack_cache::place(unsafe { &(*scratch).work.trace }, set, word))
}

/// Names that user space has been sent. An evicted name is sent again, so a full map costs bytes, never a stack.
#[map]
static STACKS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(32768, 0);

/// The kernel stacks of sites, by [`hash::call_key`], whose user stack was sent.
#[map]
static SITES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// The same by the lower bits, in front of SITES: nothing that other CPUs write is looked at, and nothing of theirs is written.
#[map]
static RECENT_SITES: PerCpuArray<Recent> = PerCpuArray::with_max_entries(RECENT, 0);

/// How often user space has forgotten all stacks, and emptied STACKS and SITES.
#[map]
static STACKS_EPOCH: Array<u64> = Array::with_max_entries(1, 0);

/// The system call that a stack is taken in, and the registers that it began with.
pub(crate) struct Call {
    pub(crate) registers: Option<EntryRegisters>,
    pub(crate) syscall: i16,
    pub(crate) detail: u32,
}

/// The names of the two halves of a stack; 0 for none.
#[derive(Clone, Copy, Default)]
pub(crate) struct StackIds {
    pub(crate) user: u64,
    pub(crate) kernel: u64,
    /// User space has to complete the user's half, whose name is no other's.
    pub(crate) asked: bool,
}

/// Names the current stack, sending what user space has not seen.
#[inline(always)]
pub(crate) fn take(ctx: *mut c_void, task: Task, tgid: u32, kernel_task: bool, call: &Call) -> StackIds {
    if config::get!(stacks) == STACKS_OFF {
        return StackIds::default();
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(Taker::Allocation as u32) else { return StackIds::default() };
    // SAFETY: the map's value is one `Scratch`, which only this program uses on this CPU.
    let scratch = unsafe { &mut *scratch };
    let no_user = kernel_task || config::get!(unwind) == UNWIND_OFF;
    let epoch = epoch();
    let found = if no_user { 0 } else { found_stack(task, call, scratch) };
    let user = if found != 0 && is_sent(found, call, epoch) {
        found
    } else if no_user {
        0
    } else {
        user_stack(ctx, task, call, scratch)
    };
    let asked = !no_user && is_asked(scratch);
    let kernel_follows = !kernel_task && !asked && follows(call.syscall);
    let key = hash::call_key(user, call.syscall, call.detail);
    if kernel_follows
        && let Some(kernel) = known_site(key, epoch)
        && (config::get!(stacks) != STACKS_BOTH || !is_resampled(scratch))
    {
        return StackIds { user, kernel, asked };
    }
    // The user stack is still in the scratch, so it goes first.
    let sent = no_user || stacks_send(Taker::Allocation as u32, tgid, user) != 0;
    let kernel = if config::get!(stacks) == STACKS_BOTH { kernel_stack(ctx, scratch, tgid) } else { 0 };
    if kernel_follows && sent {
        learn_site(key, kernel, epoch);
    }
    StackIds { user, kernel, asked }
}

/// Whether user space has been sent a stack that was found: then its frames are not needed.
#[inline(always)]
fn is_sent(name: u64, call: &Call, epoch: u64) -> bool {
    if config::get!(compare_stacks) != 0 {
        return false;
    }
    let key = hash::call_key(name, call.syscall, call.detail);
    recent_site(key, epoch).is_some() || STACKS.get_ptr(name).is_some()
}

/// How often user space has forgotten all stacks. Asked before anything is looked up that it forgets.
#[inline(always)]
fn epoch() -> u64 {
    // SAFETY: the pointer is to a value of the map, not null.
    STACKS_EPOCH.get_ptr(0).map_or(0, |epoch| unsafe { core::ptr::read_volatile(epoch) })
}

/// The kernel stack of a site that this CPU has met.
#[inline(always)]
fn recent_site(key: u64, epoch: u64) -> Option<u64> {
    let recent = RECENT_SITES.get_ptr(key as u32 & (RECENT - 1))?;
    // SAFETY: the pointer is to a value of the map, not null, which only this program uses on this CPU.
    let recent = unsafe { &*recent };
    (recent.key == key && recent.epoch == epoch).then_some(recent.kernel_stack)
}

/// The same of any site.
#[inline(always)]
fn known_site(key: u64, epoch: u64) -> Option<u64> {
    if let Some(kernel_stack) = recent_site(key, epoch) {
        return Some(kernel_stack);
    }
    // SAFETY: the pointer is to a value of the map, not null.
    let kernel_stack = unsafe { *SITES.get_ptr(key)? };
    note_recent(key, kernel_stack, epoch);
    Some(kernel_stack)
}

#[inline(always)]
fn note_recent(key: u64, kernel_stack: u64, epoch: u64) {
    if let Some(recent) = RECENT_SITES.get_ptr_mut(key as u32 & (RECENT - 1)) {
        // SAFETY: as above.
        unsafe { *recent = Recent { key, kernel_stack, epoch } };
    }
}

/// Remembers the kernel stack of a site whose user stack user space has.
#[inline(always)]
fn learn_site(key: u64, kernel_stack: u64, epoch: u64) {
    let _ = SITES.insert(key, kernel_stack, BPF_ANY);
    note_recent(key, kernel_stack, epoch);
}

/// Whether the kernel stack of a known site is taken again. Each CPU decides for itself, so that none waits for another's count.
#[inline(always)]
const fn is_resampled(scratch: &mut Scratch) -> bool {
    // Knuth's linear congruential generator, whose upper bits are the good ones.
    scratch.lot = scratch.lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    scratch.lot >> (u64::BITS - RESAMPLE_BITS) == 0
}

/// Names the user's half of the current stack, for a mapping.
#[inline(always)]
pub(crate) fn take_mapping(ctx: *mut c_void, task: Task, tgid: u32) -> u64 {
    take_user(ctx, task, tgid, Taker::Mapping)
}

/// The same, for one of several programs.
#[inline(always)]
pub(crate) fn take_user(ctx: *mut c_void, task: Task, tgid: u32, taker: Taker) -> u64 {
    if config::get!(stacks) == STACKS_OFF || config::get!(unwind) == UNWIND_OFF {
        return 0;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(taker as u32) else { return 0 };
    // SAFETY: as above.
    let scratch = unsafe { &mut *scratch };
    let user = match task.user_stack() {
        Some(_) => stacks_user(taker as u32),
        None => kernel_walks(ctx, scratch, taker),
    };
    stacks_send(taker as u32, tgid, user);
    user
}

/// Whether the kernel's half follows from the user's half and the system call.
#[inline(always)]
fn follows(syscall: i16) -> bool {
    syscall != NO_SYSCALL && i32::from(syscall) != config::get!(syscalls.io_uring_enter)
}

#[inline(always)]
fn user_stack(ctx: *mut c_void, task: Task, call: &Call, scratch: &mut Scratch) -> u64 {
    match call.registers.and_then(EntryRegisters::user_stack) {
        Some(start) => follow(task, start, scratch, Taker::Allocation as u32, true),
        None => kernel_walks(ctx, scratch, Taker::Allocation),
    }
}

/// A stack of which nothing is known yet.
#[inline(always)]
fn begin(header: &mut StackHeader, side: Side) {
    header.side = side as u8;
    header.end = end::CUT;
    header.has_calls = 0;
    header.submitter = 0;
}

/// The stack that begins there, by the rules or by frame pointers.
#[inline(always)]
fn follow(task: Task, start: Registers, scratch: &mut Scratch, taker: u32, remembers: bool) -> u64 {
    begin(&mut scratch.header, Side::User);
    if config::get!(unwind) == UNWIND_TABLES {
        // Where it is remembered, it was looked for.
        if !remembers {
            tables::begin(task, start, &mut scratch.work);
        }
        let walked = walk(scratch, taker, remembers);
        return name_walked(start, walked, scratch, taker);
    }
    let (frames, name) = frame_pointers::walk(start, &mut scratch.frames, scratch.work.memory());
    scratch.header.frames = frames;
    submitted(start, name, scratch)
}

/// Follows the stack that was told of to [`tables::begin`], and `remembers` it if it is new.
#[inline(always)]
fn walk(scratch: &mut Scratch, taker: u32, remembers: bool) -> Walked {
    let known = if remembers { scratch.known } else { Known::CHANGING };
    hotspot::reset(taker);
    let walked = tables::walk(&mut scratch.work, known == Known::NEW, || {
        stacks_steps(taker);
    });
    if known == Known::NEW {
        scratch.found = walked;
        stacks_keep(taker);
    }
    if config::get!(compare_stacks) != 0 && known == Known::FOUND {
        count(Counter::FoundStacks);
        if walked != scratch.found || scratch.work.met != scratch.met {
            count(Counter::OtherStacks);
        }
    }
    scratch.known = Known::CHANGING;
    walked
}

/// Names the stack that the current task has, if it was walked before; else 0.
#[inline(always)]
fn found_stack(task: Task, call: &Call, scratch: &mut Scratch) -> u64 {
    scratch.known = Known::CHANGING;
    if config::get!(unwind) != UNWIND_TABLES {
        return 0;
    }
    let Some(start) = call.registers.and_then(EntryRegisters::user_stack) else { return 0 };
    tables::begin(task, start, &mut scratch.work);
    scratch.known = Known(stacks_find(Taker::Allocation as u32));
    if scratch.known != Known::FOUND {
        return 0;
    }
    scratch.work.met = scratch.met;
    if scratch.met.module != 0 {
        hotspot::reset(Taker::Allocation as u32);
    }
    begin(&mut scratch.header, Side::User);
    name_walked(start, scratch.found, scratch, Taker::Allocation as u32)
}

/// The name of a stack from what a walk has found of it: with the calls of scripts, and who submitted what it works on.
#[inline(always)]
fn name_walked(start: Registers, walked: Walked, scratch: &mut Scratch, taker: u32) -> u64 {
    scratch.header.side = Side::Code as u8;
    scratch.header.end = walked.end;
    scratch.header.frames = walked.frames as u16;
    let mut name = walked.name;
    // A stack that is completed elsewhere has its calls read later, and a name of its own.
    if scratch.work.met.module != 0 && walked.end != end::ASKED {
        let calls = stacks_scripts(taker);
        if calls != 0 {
            scratch.header.has_calls = 1;
            if walked.completes != 0 && scripts::compiles(taker) {
                scratch.header.end = end::COMPLETE;
            }
            name = fdtrace_common::scripts::stack_name(walked.name, calls);
        }
    }
    submitted(start, name, scratch)
}

/// The name of a stack with the one that submitted what it works on.
#[inline(always)]
fn submitted(start: Registers, name: u64, scratch: &mut Scratch) -> u64 {
    let submitter = work_queues::submitter(start.stack);
    if submitter == 0 {
        return name;
    }
    scratch.header.submitter = submitter;
    hash::submitted(name, submitter)
}

/// The kernel's own walker, where nobody knows where the stack begins.
#[inline(always)]
fn kernel_walks(ctx: *mut c_void, scratch: &mut Scratch, taker: Taker) -> u64 {
    begin(&mut scratch.header, Side::User);
    let frames = unwind(ctx, scratch, BPF_F_USER_STACK);
    if frames == 0 {
        count(Counter::LostStacks);
        return 0;
    }
    stacks_name(taker as u32, frames.into())
}

/// Follows the user stack for a program that takes one at several places: the verifier checks it once for all of them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_user(taker: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    let task = Task::current();
    let Some(start) = task.user_stack() else { return 0 };
    // SAFETY: as above.
    follow(task, start, unsafe { &mut *scratch }, taker, false)
}

/// Whether the user stack in the scratch is for user space to complete.
#[inline(always)]
fn is_asked(scratch: &Scratch) -> bool {
    config::get!(unwind) == UNWIND_TABLES && scratch.header.end == end::ASKED
}

/// Sends the user stack in the scratch unless user space has it; 0 when it has not and the ring is full. Global for the same
/// reason: there are many ways to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_send(taker: u32, tgid: u32, name: u64) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scratch = unsafe { &mut *scratch };
    if scratch.known == Known::FOUND {
        // Its name was among those that were sent.
        return 1;
    }
    if !is_asked(scratch) {
        return i32::from(send_once(scratch, taker, tgid, name));
    }
    let stretch = |number| {
        stacks_choose(taker, number);
    };
    let locate = |slot| {
        stacks_locate(taker, slot);
    };
    let found = || {
        if stacks_scripts(taker) != 0 {
            stacks_calls(taker, name);
        }
    };
    let sent = send(scratch, tgid, name)
        && stack_dump::send(&mut scratch.dump, &mut scratch.work, tgid, name, stretch, locate, found);
    if !sent {
        count(Counter::LostStacks);
    }
    i32::from(sent)
}

#[inline(always)]
fn kernel_stack(ctx: *mut c_void, scratch: &mut Scratch, tgid: u32) -> u64 {
    let frames = unwind(ctx, scratch, 0);
    if frames == 0 {
        count(Counter::LostStacks);
        return 0;
    }
    let name = stacks_name(Taker::Allocation as u32, frames.into());
    begin(&mut scratch.header, Side::Kernel);
    send_once(scratch, Taker::Allocation as u32, tgid, name);
    name
}

/// The name of the return addresses in the scratch. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_name(taker: u32, frames: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    name(unsafe { &*scratch }, frames as u16)
}

/// Fills the scratch with return addresses and says how many there are.
#[inline(always)]
fn unwind(ctx: *mut c_void, scratch: &mut Scratch, flags: u64) -> u16 {
    let room = (MAX_FRAMES * 8) as u32;
    // SAFETY: the buffer is `room` bytes long.
    let bytes = unsafe { bpf_get_stack(ctx, scratch.frames.as_mut_ptr().cast(), room, flags) };
    if bytes <= 0 {
        scratch.header.frames = 0;
        return 0;
    }
    let frames = (bytes as u64 / 8) as u16;
    scratch.header.frames = frames;
    frames
}

#[inline(always)]
fn name(scratch: &Scratch, frames: u16) -> u64 {
    let mut hash = hash::SEED;
    let mut index = 0;
    while index < MAX_FRAMES {
        if index >= frames as usize {
            break;
        }
        hash = hash::mix(hash, scratch.frames[index]);
        index += 1;
    }
    hash::finish(hash)
}

/// Sends the stack in the scratch unless user space has it; false when it has not and the ring is full.
#[inline(always)]
fn send_once(scratch: &mut Scratch, taker: u32, tgid: u32, name: u64) -> bool {
    if name == 0 || STACKS.get_ptr(name).is_some() {
        return true;
    }
    if scratch.header.has_calls != 0 && stacks_calls(taker, name) == 0 {
        return false;
    }
    if !send(scratch, tgid, name) {
        count(Counter::LostStacks);
        return false;
    }
    let _ = STACKS.insert(name, 1, BPF_ANY);
    true
}

/// Sends the stack in the scratch; false when the ring is full.
#[inline(always)]
fn send(scratch: &mut Scratch, tgid: u32, name: u64) -> bool {
    scratch.header.tag = Tag::Stack as u8;
    scratch.header.tgid = tgid;
    scratch.header.hash = name;
    scratch.header.reserved = [0; 6];
    let frames = (scratch.header.frames as usize) & 0x7f;
    let words = if scratch.header.side == Side::Code as u8 { frames * Side::Code.words() } else { frames };
    let bytes = size_of::<StackHeader>() + words * 8;
    // SAFETY: `bytes` is at most the size of the header and the frames.
    let record = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), bytes) };
    events::send_bytes(record)
}
