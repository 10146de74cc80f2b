//! Who closes handles: a handle that lives until its program's end is closed by what runs then.
//!
//! The stack is taken only where it may decide something. Most programs close what they have just made, over and over:
//! that is reported once for each place. A loop that closes many handles costs a stack now and then.

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use core::ffi::c_void;
use fdtrace_common::{
    descriptor::{Acquired, LETS_GO},
    hash,
    wire::{Cause, Release, Tag, flag},
};

use crate::{
    config, events, stacks,
    takers::Taker,
    task::{Task, current_thread, ids, now},
};

const BPF_ANY: u64 = 0;

/// For so long a place has the stack that it had: others that look like it come later.
const SAME_NS: u64 = 1_000_000;
/// For so long after a place has closed others, it is reported as well that it closes the last handle that was made.
const BUSY_NS: u64 = 10_000_000;

/// What was done last on a CPU.
#[repr(C)]
struct Latest {
    /// The last handle that was made.
    made: u64,
    /// The place that closed such a handle last and was not told of; 0 after others.
    quiet: u64,
    /// The thread that has closed a handle in the system call that it is in; 0 for none.
    marked: u64,
}

#[map]
static LATEST: PerCpuArray<Latest> = PerCpuArray::with_max_entries(1, 0);

/// Where a process closes handles.
#[repr(C)]
#[derive(Clone, Copy)]
struct Place {
    /// The name of the stack, and when it was taken.
    stack: u64,
    taken: u64,
    /// When it closed a handle that was not the last one that was made.
    busy: u64,
    /// Since when it has closed what it was not told of; 0 for nothing.
    since: u64,
}

/// By [`key`].
#[map]
static PLACES: LruHashMap<u64, Place> = LruHashMap::with_max_entries(4096, 0);

/// A handle was made.
#[inline(always)]
pub(crate) fn note_made(handle: u64) {
    if config::get!(closers) != 0
        && let Some(latest) = LATEST.get_ptr_mut(0)
    {
        // SAFETY: the map's value is of this CPU alone.
        unsafe { (*latest).made = handle };
    }
}

/// Whether it is to be reported who has let go of a handle.
#[inline(always)]
pub(crate) fn is_wanted(release: &Release) -> bool {
    if config::get!(closers) == 0
        || release.cause != Cause::Close as u8
        || release.flags & flag::NEVER_OPENED != 0
    {
        return false;
    }
    let Some(key) = key(Task::current(), release.tgid) else { return false };
    let Some(latest) = LATEST.get_ptr_mut(0) else { return false };
    // SAFETY: the map's value is of this CPU alone; an interrupt that writes here in between changes what costs less.
    let latest = unsafe { &mut *latest };
    let others = latest.made != release.handle;
    if !others && latest.quiet == key {
        return false;
    }
    let reported = is_told(key, others, release.time);
    latest.quiet = if reported { 0 } else { key };
    reported
}

/// Whether this place is new, or has more to close than what was just made.
#[inline(always)]
fn is_told(key: u64, others: bool, time: u64) -> bool {
    let busy = if others { time } else { 0 };
    let Some(known) = PLACES.get_ptr_mut(key) else {
        // Where there is no room, it is not known who closed it.
        return PLACES.insert(key, Place { stack: 0, taken: 0, busy, since: time }, BPF_ANY).is_ok();
    };
    // SAFETY: the pointer is to a value of the map, not null; a race of two threads tells of one more or less.
    let known = unsafe { &mut *known };
    if others {
        known.busy = busy;
    }
    let reported = others || time.wrapping_sub(known.busy) < BUSY_NS;
    if reported && known.since == 0 {
        known.since = time;
    }
    reported
}

/// Names the place that the current task closes from. Not by the frame pointer: most code has other things there, which change.
#[inline(always)]
fn key(task: Task, tgid: u32) -> Option<u64> {
    let (number, instruction, stack) = task.caller()?;
    let closes = number == config::get!(syscalls.close) || number == config::get!(syscalls.close_range);
    closes.then(|| hash::finish(hash::mix(hash::mix(u64::from(tgid), instruction), stack)))
}

/// The current thread has closed a handle; who it is will be reported at the end of its system call. If it is moved to another CPU
/// before, what it closes next is reported with this.
#[inline(always)]
pub(crate) fn mark() {
    if let Some(latest) = LATEST.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (*latest).marked = current_thread().into() };
    }
}

/// A system call is about to return; false when nothing is to be reported it.
#[inline(always)]
pub(crate) fn syscall_returns(ctx: *mut c_void) -> bool {
    let Some(latest) = LATEST.get_ptr_mut(0) else { return false };
    // SAFETY: as above.
    let latest = unsafe { &mut *latest };
    if latest.marked == 0 || latest.marked != u64::from(current_thread()) {
        return false;
    }
    latest.marked = 0;
    tell(ctx);
    true
}

/// Tells who has closed what the current place has closed.
#[inline(always)]
pub(crate) fn tell(ctx: *mut c_void) {
    let (tgid, tid) = ids();
    let task = Task::current();
    let Some(known) = key(task, tgid).and_then(|key| PLACES.get_ptr_mut(key)) else { return };
    // SAFETY: the pointer is to a value of the map, not null.
    let known = unsafe { &mut *known };
    let time = now();
    // In a loop nothing changes but what is closed.
    if time.wrapping_sub(known.taken) >= SAME_NS {
        known.stack = stacks::take_user(ctx, task, tgid, Taker::Closing);
        known.taken = time;
    }
    let since = known.since;
    known.since = 0;
    events::send(&Acquired {
        tag: Tag::Acquired as u8,
        reserved: 0,
        syscall: task.syscall().0,
        tid,
        key: LETS_GO,
        time,
        user_stack: known.stack,
        handle: 0,
        files: since,
        tgid,
        reserved2: 0,
    });
}
