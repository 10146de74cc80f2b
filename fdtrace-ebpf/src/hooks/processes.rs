//! Processes come, change and go.

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_buf, bpf_probe_read_kernel_str_bytes},
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use fdtrace_common::{
    config::ABSENT,
    counters::Counter,
    wire::{COMM_LEN, Exec, Exit, Fork, Moment, Tag},
};

use super::failures;
use crate::{
    config,
    counters::count,
    events, fd_exit_scan, filter,
    log::debug,
    task::{current_process, now, process_of, read},
};

/// `RLIMIT_NOFILE` (include/uapi/asm-generic/resource.h)
const RLIMIT_NOFILE: u32 = 7;
/// The size of a `struct rlimit`.
const RLIMIT_BYTES: u32 = 16;

/// Scratch of `process_exec` alone: its record is too large for the BPF stack.
#[map]
static EXEC: PerCpuArray<Exec> = PerCpuArray::with_max_entries(1, 0);

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, before the child runs.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(ctx: RawTracePointContext) -> i32 {
    let (task_parent, task_child) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1));
    // A thread of the same process is no news.
    if read::<u32>(task_child, config::get!(offsets.task_pid))
        != read(task_child, config::get!(offsets.task_tgid))
    {
        return 0;
    }
    let (parent, tgid) = (process_of(task_parent), process_of(task_child));
    filter::forked(parent, tgid);
    if !filter::follows(tgid) {
        return 0;
    }
    debug!(&ctx, "fork {} -> {}", parent, tgid);
    let files: u64 = read(task_child, config::get!(offsets.task_files));
    let shares = files != 0 && files == read(task_parent, config::get!(offsets.task_files));
    if shares {
        fd_exit_scan::share(files);
    }
    end(&Fork {
        tag: Tag::Fork as u8,
        shares: u8::from(shares),
        reserved: [0; 2],
        parent,
        child: tgid,
        reserved2: 0,
        time: now(),
        comm: comm(task_child),
    });
    0
}

/// `sched_process_exec(struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)`
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(ctx: RawTracePointContext) -> i32 {
    let (task, bprm) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2));
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
    record.comm = comm(task);
    record.path[0] = 0;
    let name: u64 = read(bprm, config::get!(offsets.bprm_filename));
    // SAFETY: as above; the buffer's length is its own. A name that cannot be read stays empty.
    let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut record.path) };
    end(record);
    0
}

/// `sched_process_exit(struct task_struct *task)`, from 6.16 on with `bool group_dead`.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(ctx: RawTracePointContext) -> i32 {
    let task = ctx.arg::<u64>(0);
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
    let code: u32 = read(task, config::get!(offsets.task_exit_code));
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
    let task = ctx.arg::<u64>(0);
    let tgid = process_of(task);
    fd_exit_scan::cut(task, tgid);
    if !filter::follows(tgid) {
        return 0;
    }
    let is_last = is_last_thread(&ctx, task);
    if is_last {
        fd_exit_scan::ending(tgid);
    }
    let files: u64 = read(task, config::get!(offsets.task_files));
    let is_alone = || {
        read::<u32>(files, config::get!(offsets.files_count)) == 1
            || is_last && !fd_exit_scan::is_shared(task, files)
    };
    if files != 0 && is_alone() {
        fd_exit_scan::walk(files, tgid, Moment::Exit, !is_last);
    }
    0
}

/// Whether a task is the last one of its process.
#[inline(always)]
fn is_last_thread(ctx: &RawTracePointContext, task: u64) -> bool {
    if config::get!(exit_tells_group) != 0 { ctx.arg::<u64>(1) & 1 != 0 } else { live_threads(task) == 0 }
}

/// `sched_prepare_exec(struct task_struct *task, struct linux_binprm *bprm)`, from 6.11 on: before anything is closed.
#[raw_tracepoint(tracepoint = "sched_prepare_exec")]
fn fd_scan_exec(ctx: RawTracePointContext) -> i32 {
    execs(read(ctx.arg::<u64>(0), config::get!(offsets.task_files)));
    0
}

/// The current process is about to run another program, which closes some descriptors.
#[inline(always)]
pub(super) fn execs(files: u64) {
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

/// `signal->rlim[RLIMIT_NOFILE].rlim_cur`
#[inline(always)]
pub(crate) fn limit(task: u64) -> u64 {
    if config::get!(offsets.signal_limits) == ABSENT {
        return 0;
    }
    let signal: u64 = read(task, config::get!(offsets.task_signal));
    read(signal, config::get!(offsets.signal_limits) + RLIMIT_NOFILE * RLIMIT_BYTES)
}

/// `signal->live`, which `do_exit` has decremented before the tracepoint.
#[inline(always)]
fn live_threads(task: u64) -> u32 {
    let signal: u64 = read(task, config::get!(offsets.task_signal));
    read(signal, config::get!(offsets.signal_live))
}

#[inline(always)]
fn comm(task: u64) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    let field = (task as *const u8).wrapping_add(config::get!(offsets.task_comm) as usize);
    // SAFETY: a probe read takes any address; the buffer's length is its own.
    let _ = unsafe { bpf_probe_read_kernel_buf(field, &mut comm) };
    comm
}
