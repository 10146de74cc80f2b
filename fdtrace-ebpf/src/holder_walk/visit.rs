//! What is known of a thread.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel_buf};
use fdtrace_common::holder_walk::{Header, Task};

use crate::{
    layout::at,
    read::{Meta, read, write},
};

/// `RLIMIT_NOFILE` (include/uapi/asm-generic/resource.h), in an array of pairs of 8 bytes.
const DESCRIPTOR_LIMIT: u32 = 7 * 16;
/// `PIDTYPE_TGID` (include/linux/pid.h), in an array of pointers.
const PROCESS_ID: u32 = 8;
/// `struct upid { int nr; struct pid_namespace *ns; }`
const NUMBER_BYTES: u32 = 16;

/// Writes a [`Task`].
#[inline(always)]
pub(crate) fn tell(meta: *const Meta, task: u64, tag: u32) -> bool {
    let signal: u64 = read(task, at!(task_signal));
    let namespaces: u64 = read(task, at!(task_namespaces));
    let mm: u64 = read(task, at!(task_mm));
    let level = own_level();
    let pid: u64 = read(task, at!(task_pid));
    let parent: u64 = read(task, at!(task_parent));
    let limits = at!(signal_limits).wrapping_add(DESCRIPTOR_LIMIT);
    let mut record = Task {
        header: Header { tag, length: size_of::<Task>() as u32 },
        files: read(task, at!(task_files)),
        mm,
        executable: read(mm, at!(mm_executable)),
        rings: read(task, at!(task_io_uring)),
        cred: read(task, at!(task_cred)),
        started: read(task, at!(task_started)),
        soft_limit: read(signal, limits),
        hard_limit: read(signal, limits + 8),
        pid: number(pid, level),
        tgid: number(process(signal), level),
        parent: number(process(read(parent, at!(task_signal))), level),
        flags: read(task, at!(task_flags)),
        pid_namespace: own_namespace(pid),
        net_namespace: read(read(namespaces, at!(namespaces_net)), at!(net_ns_number)),
        ipc_namespace: read(read(namespaces, at!(namespaces_ipc)), at!(ipc_ns_number)),
        mount_namespace: read(read(namespaces, at!(namespaces_mount)), at!(mount_ns_number)),
        comm: [0; 16],
    };
    let comm = (task as *const u8).wrapping_add(at!(task_comm) as usize);
    // SAFETY: a probe read takes any address; the buffer's length is its own. What cannot be read stays empty.
    let _ = unsafe { bpf_probe_read_kernel_buf(comm, &mut record.comm) };
    write(meta, &record, size_of::<Task>())
}

#[inline(always)]
fn process(signal: u64) -> u64 {
    read(signal, at!(signal_pids).wrapping_add(PROCESS_ID))
}

/// How deep the PID namespace of whoever reads is: the number of a process differs from one to the next.
#[inline(always)]
fn own_level() -> u32 {
    // SAFETY: takes nothing, returns the task's address.
    let reader = unsafe { bpf_get_current_task() };
    read(read(reader, at!(task_pid)), at!(pid_level))
}

/// The number of a process in the namespace of that level; 0 where it has none.
#[inline(always)]
fn number(pid: u64, level: u32) -> u32 {
    if pid == 0 || read::<u32>(pid, at!(pid_level)) < level {
        return 0;
    }
    read(pid, at!(pid_numbers).wrapping_add(level.wrapping_mul(NUMBER_BYTES)))
}

/// The number of the namespace that the process lives in.
#[inline(always)]
fn own_namespace(pid: u64) -> u32 {
    let level: u32 = read(pid, at!(pid_level));
    let innermost = at!(pid_numbers).wrapping_add(level.wrapping_mul(NUMBER_BYTES));
    read(read(pid, innermost.wrapping_add(8)), at!(pid_ns_number))
}

/// Whether the program was last called for the same owner, and for which task: threads of a process whose main thread
/// is gone come with the same table one after the other.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Last {
    pub(crate) owner: u64,
    pub(crate) task: u64,
}

/// What to do with an element.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) enum Visit {
    /// The first of its owner: the task is to be told.
    Begins,
    /// Another of the same.
    Goes,
    /// All of it was told with another task.
    Known,
}

impl Last {
    #[inline(always)]
    pub(crate) fn visit(self, owner: u64, task: u64) -> Visit {
        if self.owner != owner {
            Visit::Begins
        } else if self.task == task {
            Visit::Goes
        } else {
            Visit::Known
        }
    }
}
