//! What is known of a thread.

use aya_ebpf::helpers::bpf_get_current_task;
use fdtrace_common::holder_walk::{Header, Task};

use crate::{
    iterator::{Meta, write},
    kernel::{Ptr, pid, task_struct, upid},
};

/// `struct upid { int nr; struct pid_namespace *ns; }`
const UPID_BYTES: u64 = 16;

/// Writes a [`Task`].
#[inline(always)]
pub(crate) fn tell(meta: *const Meta, task: Ptr<task_struct>, tag: u32) -> bool {
    let (signal, namespaces, mm) = (task.signal(), task.nsproxy(), task.mm());
    let level = own_level();
    let pid = task.thread_pid();
    let record = Task {
        header: Header { tag, length: size_of::<Task>() as u32 },
        files: task.files().address(),
        mm: mm.address(),
        executable: mm.exe_file().address(),
        rings: task.io_uring(),
        cred: task.cred().address(),
        started: task.start_boottime(),
        soft_limit: signal.soft_limit(),
        hard_limit: signal.hard_limit(),
        pid: number(pid, level),
        tgid: number(signal.tgid(), level),
        parent: number(task.real_parent().signal().tgid(), level),
        flags: task.flags(),
        pid_namespace: at_level(pid, pid.level()).ns().inum(),
        net_namespace: namespaces.net_ns().inum(),
        ipc_namespace: namespaces.ipc_ns().inum(),
        mount_namespace: namespaces.mnt_ns().inum(),
        comm: task.comm(),
    };
    write(meta, &record)
}

/// How deep the PID namespace of whoever reads is: the number of a process differs from one to the next.
#[inline(always)]
fn own_level() -> u32 {
    // SAFETY: takes nothing, returns the task's address.
    Ptr::<task_struct>::at(unsafe { bpf_get_current_task() }).thread_pid().level()
}

/// The number of a process in the namespace of that level; 0 where it has none.
#[inline(always)]
fn number(pid: Ptr<pid>, level: u32) -> u32 {
    if pid.is_null() || pid.level() < level { 0 } else { at_level(pid, level).nr() }
}

#[inline(always)]
fn at_level(pid: Ptr<pid>, level: u32) -> Ptr<upid> {
    pid.numbers().skip(u64::from(level) * UPID_BYTES)
}

/// Whether the program was last called for the same owner, and for which task: threads of a process whose main thread
/// is gone come with the same table one after the other.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Last {
    pub(crate) owner: u64,
    pub(crate) task: Ptr<task_struct>,
}

/// What to do with an element.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) enum Visit {
    /// The first of its owner: the task is to be reported.
    Begins,
    /// Another of the same.
    Goes,
    /// All of it was reported with another task.
    Known,
}

impl Last {
    #[inline(always)]
    pub(crate) fn visit(self, owner: u64, task: Ptr<task_struct>) -> Visit {
        if self.owner != owner {
            Visit::Begins
        } else if self.task == task {
            Visit::Goes
        } else {
            Visit::Known
        }
    }
}
