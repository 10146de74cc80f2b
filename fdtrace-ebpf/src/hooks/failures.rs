//! Allocations that fail: `struct file *alloc_empty_file(int flags, const struct cred *cred)` returning an error.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};
use fdtrace_common::{
    counters::Counter,
    wire::{Failure, Tag},
};

use crate::{config, counters::count, events, filter, task::now};

/// The largest error number that a pointer can hold (`IS_ERR`).
const MAX_ERRNO: i64 = 4095;

/// A return probe has as many instances as the kernel gives it; on old kernels it can miss calls.
#[kretprobe]
fn failure_kretprobe(ctx: RetProbeContext) -> u32 {
    returned(ctx.ret::<i64>());
    0
}

/// The return value comes behind the two arguments.
#[fexit(function = "alloc_empty_file")]
fn failure_fexit(ctx: FExitContext) -> i32 {
    returned(ctx.arg::<i64>(2));
    0
}

#[inline(always)]
fn returned(value: i64) {
    if !(-MAX_ERRNO..0).contains(&value) {
        return;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == config::get!(tracer) || !filter::admits(tgid) {
        return;
    }
    count(Counter::Failed);
    events::send(&Failure {
        tag: Tag::Failure as u8,
        reserved: [0; 3],
        tgid,
        errno: -value as i32,
        reserved2: 0,
        time: now(),
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
}
