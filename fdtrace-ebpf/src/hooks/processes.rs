//! Processes come, change and go.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel_str_bytes,
    macros::{map, raw_tracepoint},
    maps::{LruHashMap, PerCpuArray},
    programs::RawTracePointContext,
};
use fdtrace_common::{
    config::UNWIND_TABLES,
    counters::Counter,
    wire::{Exec, Exit, Fork, Moment, Tag},
};

use super::failures;
use crate::{
    config,
    counters::count,
    events, fd_exit_scan, filter,
    kernel::{Ptr, file, files_struct, linux_binprm, task_struct},
    log::debug,
    task::{current_process, limit, now, process_of},
    unwind::tables::module,
};

/// Scratch of `process_exec` alone: its record is too large for the BPF stack.
#[map]
static EXEC: PerCpuArray<Exec> = PerCpuArray::with_max_entries(1, 0);

/// Files of programs that have run, by the name that they have as modules. Whoever is evicted is new again.
#[map]
static BEGUN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1024, 0);

const BPF_ANY: u64 = 0;

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, before the child runs.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(ctx: RawTracePointContext) -> i32 {
    let (task_parent, task_child) = (first_task(&ctx), Ptr::<task_struct>::at(ctx.arg(1)));
    // A thread of the same process is no news.
    if task_child.pid() != task_child.tgid() {
        return 0;
    }
    let (parent, tgid) = (process_of(task_parent), process_of(task_child));
    filter::forked(parent, tgid);
    if !filter::follows(tgid) {
        return 0;
    }
    debug!(&ctx, "fork {} -> {}", parent, tgid);
    let files = task_child.files();
    let shares = !files.is_null() && files == task_parent.files();
    if shares {
        fd_exit_scan::share(files.address());
    }
    end(&Fork {
        tag: Tag::Fork as u8,
        shares: u8::from(shares),
        reserved: [0; 2],
        parent,
        child: tgid,
        reserved2: 0,
        time: now(),
        comm: task_child.comm(),
    });
    0
}

/// `sched_process_exec(struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)`
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(ctx: RawTracePointContext) -> i32 {
    let (task, bprm) = (first_task(&ctx), Ptr::<linux_binprm>::at(ctx.arg(2)));
    let tgid = process_of(task);
    if !filter::follows(tgid) {
        return 0;
    }
    debug!(&ctx, "exec {}", tgid);
    failures::tell_rest(tgid);
    let Some(record) = EXEC.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is one `Exec`, used by this program only.
    let record = unsafe { &mut *record };
    record.tag = Tag::Exec as u8;
    record.tgid = tgid;
    record.time = now();
    record.comm = task.comm();
    record.path[0] = 0;
    let name = bprm.filename();
    // SAFETY: as above; the buffer's length is its own. A name that cannot be read stays empty.
    let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut record.path) };
    let told = if is_new(bprm.file()) { events::tell_urgently(record) } else { events::tell(record) };
    if !told {
        count(Counter::LostEnds);
    }
    0
}

/// Whether a program has never run since tracing began: its tables are to be read before its first stack comes. Waking the reader is
/// an interrupt on this CPU and costs twenty times what else is done here; a shell runs the same few programs over and over.
#[inline(always)]
fn is_new(file: Ptr<file>) -> bool {
    if config::get!(unwind) != UNWIND_TABLES {
        return false;
    }
    let program = module(file);
    BEGUN.get_ptr(program).is_none() && BEGUN.insert(program, 1, BPF_ANY).is_ok()
}

/// `sched_process_exit(struct task_struct *task)`, from 6.16 on with `bool group_dead`.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(ctx: RawTracePointContext) -> i32 {
    let task = first_task(&ctx);
    if !is_last_thread(&ctx, task) {
        return 0;
    }
    let tgid = process_of(task);
    if !filter::follows(tgid) {
        return 0;
    }
    debug!(&ctx, "exit {}", tgid);
    failures::tell_rest(tgid);
    filter::exited(tgid);
    let code = task.exit_code();
    end(&Exit {
        tag: Tag::Exit as u8,
        signal: code as u8 & 0x7f,
        status: (code >> 8) as u8,
        reserved: 0,
        tgid,
        time: now(),
        limit: limit(task),
    });
    0
}

/// The same moment, before the record of it: what is open. Only the last task that uses a table of descriptors takes it
/// along; when a whole process ends, that is its table, whoever else of it is still about to let go of it, unless the table
/// is another process's as well.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn fd_scan_exit(ctx: RawTracePointContext) -> i32 {
    let task = first_task(&ctx);
    let tgid = process_of(task);
    fd_exit_scan::cut(task, tgid);
    if !filter::follows(tgid) {
        return 0;
    }
    let is_last = is_last_thread(&ctx, task);
    if is_last {
        fd_exit_scan::ending(tgid);
    }
    let files = task.files();
    let is_alone = || files.count() == 1 || is_last && !fd_exit_scan::is_shared(task, files);
    if !files.is_null() && is_alone() {
        fd_exit_scan::walk(files, tgid, Moment::Exit, !is_last);
    }
    0
}

/// The task that all these tracepoints begin with.
#[inline(always)]
fn first_task(ctx: &RawTracePointContext) -> Ptr<task_struct> {
    Ptr::at(ctx.arg(0))
}

/// Whether a task is the last one of its process: `do_exit` has decremented `live` before the tracepoint.
#[inline(always)]
fn is_last_thread(ctx: &RawTracePointContext, task: Ptr<task_struct>) -> bool {
    if config::get!(exit_tells_group) != 0 { ctx.arg::<u64>(1) & 1 != 0 } else { task.signal().live() == 0 }
}

/// `sched_prepare_exec(struct task_struct *task, struct linux_binprm *bprm)`, from 6.11 on: before anything is closed.
#[raw_tracepoint(tracepoint = "sched_prepare_exec")]
fn fd_scan_exec(ctx: RawTracePointContext) -> i32 {
    execs(first_task(&ctx).files());
    0
}

/// The current process is about to run another program, which closes some descriptors.
#[inline(always)]
pub(super) fn execs(files: Ptr<files_struct>) {
    let tgid = current_process();
    if filter::follows(tgid) {
        fd_exit_scan::walk(files, tgid, Moment::Exec, false);
    }
}

/// The record of a process that comes, changes or goes: without it, nobody can tell which program had what.
#[inline(always)]
fn end<T: Copy + 'static>(record: &T) {
    if !events::tell(record) {
        count(Counter::LostEnds);
    }
}
