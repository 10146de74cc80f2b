//! What cannot be had: a handle (`alloc_empty_file` returns an error), or a descriptor for it (`get_unused_fd_flags` does).

use aya_ebpf::{
    helpers::bpf_get_current_comm,
    macros::{fexit, kretprobe, map, raw_tracepoint},
    maps::LruHashMap,
    programs::{FExitContext, RawTracePointContext, RetProbeContext},
};
use fdtrace_common::{
    counters::Counter,
    wire::{Failure, Tag},
};

use crate::{
    config,
    counters::count,
    events, filter,
    task::{Task, current_process, limit, now},
};

/// The largest error number that a pointer can hold (`IS_ERR`).
const MAX_ERRNO: i64 = 4095;

const ENFILE: i64 = -23;
const EMFILE: i64 = -24;

/// So many errors of a process are reported one by one.
const FEW: u32 = 16;
const BPF_ANY: u64 = 0;

/// How many errors there were, by process (upper half) and error number. The collector reads it too.
#[map]
static FAILURES: LruHashMap<u64, u32> = LruHashMap::with_max_entries(1024, 0);

/// A return probe has as many instances as the kernel gives it; on old kernels it can miss calls.
#[kretprobe]
fn failure_kretprobe(ctx: RetProbeContext) -> u32 {
    allocation_returned(ctx.ret::<i64>());
    0
}

/// The return value comes behind the two arguments.
#[fexit(function = "alloc_empty_file")]
fn failure_fexit(ctx: FExitContext) -> i32 {
    allocation_returned(ctx.arg::<i64>(2));
    0
}

/// `int get_unused_fd_flags(unsigned flags)`
#[kretprobe]
fn descriptor_kretprobe(ctx: RetProbeContext) -> u32 {
    descriptor_returned(ctx.ret::<i32>());
    0
}

/// The return value comes behind the argument.
#[fexit(function = "get_unused_fd_flags")]
fn descriptor_fexit(ctx: FExitContext) -> i32 {
    descriptor_returned(ctx.arg::<i32>(1));
    0
}

/// `sys_exit(struct pt_regs *regs, long ret)`: the end of every system call, for kernels that offer nothing better.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn descriptor_syscall(ctx: RawTracePointContext) -> i32 {
    match ctx.arg::<i64>(1) {
        ENFILE => {
            count(Counter::Failed);
            let _ = failed(-ENFILE as i32);
        }
        EMFILE => {
            let _ = failed(-EMFILE as i32);
        }
        _ => {}
    }
    0
}

#[inline(always)]
fn allocation_returned(value: i64) {
    if (-MAX_ERRNO..0).contains(&value) && failed(-value as i32) {
        count(Counter::Failed);
    }
}

#[inline(always)]
fn descriptor_returned(value: i32) {
    if i64::from(value) == EMFILE {
        let _ = failed(-value);
    }
}

/// Counts an error of the current process; false when it is none of ours.
#[inline(always)]
fn failed(errno: i32) -> bool {
    let tgid = current_process();
    if tgid == config::get!(tracer) || !filter::admits(tgid) {
        return false;
    }
    let key = key(tgid, errno);
    let times = match FAILURES.get_ptr_mut(key) {
        // SAFETY: the pointer is to a value of the map, not null; a race with another CPU loses a count.
        Some(times) => unsafe {
            *times += 1;
            *times
        },
        None => {
            let _ = FAILURES.insert(key, 1, BPF_ANY);
            1
        }
    };
    if is_told(times) {
        tell(tgid, errno, times);
    }
    true
}

/// A process that has no descriptors left asks again and again: after the first few it is reported when they have doubled.
#[inline(always)]
const fn is_told(times: u32) -> bool {
    times <= FEW || times.is_power_of_two()
}

/// Before the current process is no more, or another program: what was not told yet.
#[inline(always)]
pub(super) fn tell_rest(tgid: u32) {
    tell_rest_of(tgid, -ENFILE as i32);
    tell_rest_of(tgid, -EMFILE as i32);
}

#[inline(always)]
fn tell_rest_of(tgid: u32, errno: i32) {
    let key = key(tgid, errno);
    let Some(times) = FAILURES.get_ptr(key) else { return };
    // SAFETY: the pointer is to a value of the map, not null.
    let times = unsafe { *times };
    if !is_told(times) {
        tell(tgid, errno, times);
    }
    // The next process of this number, or the next program, begins anew. Gone already is gone.
    let _ = FAILURES.remove(key);
}

#[inline(always)]
fn tell(tgid: u32, errno: i32, times: u32) {
    events::send(&Failure {
        tag: Tag::Failure as u8,
        reserved: [0; 3],
        tgid,
        errno,
        times,
        time: now(),
        limit: limit(Task::current().plain()),
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
}

#[inline(always)]
fn key(tgid: u32, errno: i32) -> u64 {
    u64::from(tgid) << 32 | errno as u64
}
