//! Threads that do not end themselves.

use aya_ebpf::{macros::map, maps::LruHashMap};
use fdtrace_common::{
    counters::Counter,
    wire::{Cut, NO_SYSCALL, Tag},
};

use crate::{
    config,
    counters::count,
    events, filter,
    kernel::{Ptr, task_struct},
    task::{Task, current_thread, now},
};

const BPF_ANY: u64 = 0;

/// Processes that are followed no longer, since their last thread is ending; others of their threads may still be about to.
#[map]
static ENDING: LruHashMap<u32, u8> = LruHashMap::with_max_entries(1024, 0);

/// The last thread of a process is ending.
#[inline(always)]
pub(crate) fn ending(tgid: u32) {
    let _ = ENDING.insert(tgid, 1, BPF_ANY);
}

/// Tells that the current thread is cut off, if it is: it does not ask to end.
#[inline(always)]
pub(crate) fn cut(task: Ptr<task_struct>, tgid: u32) {
    if !filter::follows(tgid) && ENDING.get_ptr(tgid).is_none() {
        return;
    }
    let current = Task::current();
    let number = current.syscall_number();
    let ends_itself = number == config::get!(syscalls.exit) || number == config::get!(syscalls.exit_group);
    if ends_itself || !current.is_64_bit() || current.flags() & config::get!(kernel_task_flags) != 0 {
        return;
    }
    let reported = events::tell(&Cut {
        tag: Tag::Cut as u8,
        reserved: 0,
        syscall: if number < 0 { NO_SYSCALL } else { number as i16 },
        tid: current_thread(),
        began: task.start_time(),
        time: now(),
    });
    if !reported {
        count(Counter::LostEnds);
    }
}
