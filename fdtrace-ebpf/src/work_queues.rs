//! Work that one thread submits and a thread of a pool does: on the stack of the second one nobody is who asked for it.
//!
//! A request has an address, which is the same at both ends. The stack that submits it is taken and named as any other, and
//! is part of what is named while the request is worked on.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::LruHashMap};
use fdtrace_common::hash;

use crate::{config, task::Task};

const BPF_ANY: u64 = 0;

/// No stack of a thread is larger.
const MAX_STACK: u64 = 64 << 20;

/// The stacks that submitted what nobody works on yet, by [`key`]. An evicted one is a request whose submitter is unknown.
#[map]
static SUBMITTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// What each thread of a pool works on, by the kernel's numbers of process and thread.
#[map]
static AT_WORK: LruHashMap<u64, Work> = LruHashMap::with_max_entries(4096, 0);

/// A request that is worked on.
#[repr(C)]
#[derive(Clone, Copy)]
struct Work {
    /// Where the stack was when that began.
    stack: u64,
    /// Name of the stack that submitted it.
    submitter: u64,
}

/// A thread submits a request, whose stack has this name.
#[inline(always)]
pub(crate) fn submitted(request: u64, name: u64) {
    let _ = SUBMITTED.insert(key(request), name, BPF_ANY);
}

/// A thread of a pool begins to work on a request.
#[inline(always)]
pub(crate) fn begun(request: u64) {
    let (thread, key) = (bpf_get_current_pid_tgid(), key(request));
    // SAFETY: the pointer is to a value of the map, not null.
    let submitter = SUBMITTED.get_ptr(key).map_or(0, |name| unsafe { *name });
    if submitter == 0 {
        // What it worked on before is done.
        let _ = AT_WORK.remove(thread);
        return;
    }
    let _ = SUBMITTED.remove(key);
    if let Some(registers) = Task::current().user_stack() {
        let _ = AT_WORK.insert(thread, Work { stack: registers.stack, submitter }, BPF_ANY);
    }
}

/// The name of the stack that submitted what the current thread works on, whose stack is there; 0 for none.
#[inline(always)]
pub(crate) fn submitter(stack: u64) -> u64 {
    if config::get!(submitters) == 0 { 0 } else { work_submitter(stack) }
}

/// Global, for the stack of its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn work_submitter(stack: u64) -> u64 {
    let Some(work) = AT_WORK.get_ptr(bpf_get_current_pid_tgid()) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null.
    let work = unsafe { *work };
    // Work is done further down on the stack; a thread that got the number of one that is gone has its stack elsewhere.
    if work.stack.wrapping_sub(stack) < MAX_STACK { work.submitter } else { 0 }
}

/// A request of the current process.
#[inline(always)]
fn key(request: u64) -> u64 {
    hash::mix(bpf_get_current_pid_tgid() >> 32, request)
}
