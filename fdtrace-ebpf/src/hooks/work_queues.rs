//! The two ends of a request in libuv's queue of work (src/threadpool.c): by probes in the processes' own code, which the loader
//! attaches where it finds these functions.

use aya_ebpf::{EbpfContext as _, macros::uprobe, programs::ProbeContext};

use crate::{
    filter, stacks,
    takers::Taker,
    task::{self, Task},
    work_queues,
};

/// `void uv__work_submit(uv_loop_t* loop, struct uv__work* w, enum uv__work_kind kind, ...)`
#[uprobe]
fn work_submitted(ctx: ProbeContext) -> u32 {
    let process = task::current_process();
    if let Some(request) = ctx.arg(1)
        && filter::follows(process)
    {
        let name = stacks::take_user(ctx.as_ptr(), Task::current(), process, Taker::Submission);
        work_queues::submitted(request, name);
    }
    0
}

/// `void uv__fs_work(struct uv__work* w)`, and the functions for requests of other types
#[uprobe]
fn work_begun(ctx: ProbeContext) -> u32 {
    if let Some(request) = ctx.arg(0) {
        work_queues::begun(request);
    }
    0
}
