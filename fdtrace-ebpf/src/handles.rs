//! The kernel's truth: every live traced handle, by address. What all backends do at the two ends of a handle's life.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::HashMap};
use core::ffi::c_void;
use fdtrace_common::{
    config::{ABSENT, EMIT_STREAM, EMIT_SURVIVORS},
    counters::Counter,
    wire::{Alloc, Cause, Entry, Release, Tag, flag},
};

use crate::{
    config,
    counters::count,
    events, filter, stacks,
    task::{Task, now, read},
};

/// `FMODE_OPENED`: `do_dentry_open` got that far (include/linux/fs.h).
const FMODE_OPENED: u32 = 1 << 19;

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = -17;

/// Live handles by the address of their `struct file`. Sized by the loader; preallocated, since an element that is
/// allocated on demand can fail in bursts.
#[map]
static HANDLES: HashMap<u64, Entry> = HashMap::with_max_entries(262_144, 0);

/// A handle was allocated by the current task.
#[inline(always)]
pub(crate) fn allocated(ctx: *mut c_void, handle: u64) {
    let ids = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((ids >> 32) as u32, ids as u32);
    if tgid == config::get!(tracer) {
        count(Counter::Own);
        reused(handle);
        return;
    }
    if !filter::admits(tgid) {
        reused(handle);
        return;
    }
    let task = Task::current();
    let kernel_task = task.flags() & config::get!(kernel_task_flags) != 0;
    let (syscall, detail) = task.syscall();
    let chain = stacks::take(ctx, task, tgid, kernel_task, syscall, detail);
    let flags = if kernel_task { flag::KERNEL_TASK } else { 0 };
    let generation = now();
    let entry = Entry {
        generation,
        user_stack: chain.user,
        kernel_stack: chain.kernel,
        tgid,
        tid,
        detail,
        syscall,
        flags,
        state: 0,
    };
    if !insert(handle, &entry) {
        count(Counter::LostHandles);
        return;
    }
    let allocations = count(Counter::Allocated);
    if config::get!(emit) == EMIT_STREAM {
        let record = Alloc {
            tag: Tag::Alloc as u8,
            flags,
            syscall,
            tid,
            handle,
            generation,
            user_stack: chain.user,
            kernel_stack: chain.kernel,
            tgid,
            detail,
        };
        events::send_often(&record, allocations);
    }
}

#[inline(always)]
fn insert(handle: u64, entry: &Entry) -> bool {
    match HANDLES.insert(handle, entry, BPF_NOEXIST) {
        Ok(()) => true,
        Err(EEXIST) => {
            count(Counter::Phantoms);
            HANDLES.insert(handle, entry, BPF_ANY).is_ok()
        }
        Err(_) => false,
    }
}

/// Somebody who is not traced gets the memory of a handle that seems to live: its release was missed.
#[inline(always)]
fn reused(handle: u64) {
    if config::get!(releases_can_be_missed) == 0 {
        return;
    }
    let Some(entry) = HANDLES.get_ptr(handle) else { return };
    // SAFETY: the pointer is to a value of the map, not null.
    let generation = unsafe { (*entry).generation };
    let _ = HANDLES.remove(handle);
    count(Counter::Phantoms);
    count(Counter::Released);
    events::send(&Release {
        tag: Tag::Release as u8,
        cause: Cause::Unknown as u8,
        handle,
        generation,
        time: now(),
        ..Release::default()
    });
}

/// The memory of a handle is about to be given back, by the current task.
#[inline(always)]
pub(crate) fn released(handle: u64) {
    let Some(entry) = HANDLES.get_ptr(handle) else {
        count(Counter::ReleasedUnknown);
        return;
    };
    // SAFETY: the pointer is to a value of the map, not null; nobody else can release the same handle.
    let (generation, owner) = unsafe { ((*entry).generation, (*entry).tgid) };
    // First out of the table, then into the ring: a reader that finds the handle in the table may not have seen its
    // release yet, but one that has seen its release never finds it there.
    let _ = HANDLES.remove(handle);
    let releases = count(Counter::Released);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let flags = mode_flags(handle);
    if flags & flag::NEVER_OPENED != 0 {
        count(Counter::NeverOpened);
    }
    let cause = Task::current().cause(tgid, owner);
    let time = now();
    if config::get!(emit) == EMIT_SURVIVORS
        && matches!(cause, Cause::Close)
        && time.wrapping_sub(generation) < config::get!(min_age_ns)
    {
        count(Counter::Swallowed);
        return;
    }
    let record = Release {
        tag: Tag::Release as u8,
        cause: cause as u8,
        flags,
        reserved: 0,
        tgid,
        handle,
        generation,
        time,
    };
    events::send_often(&record, releases);
}

/// What `f_mode` says of a handle at the end of its life.
#[inline(always)]
fn mode_flags(handle: u64) -> u8 {
    let offset = config::get!(offsets.file_mode);
    if offset == ABSENT {
        return 0;
    }
    let mode: u32 = read(handle, offset);
    let mut flags = 0;
    if mode & FMODE_OPENED == 0 {
        flags |= flag::NEVER_OPENED;
    }
    if mode & config::get!(unaccounted_modes) != 0 {
        flags |= flag::UNACCOUNTED;
    }
    flags
}
