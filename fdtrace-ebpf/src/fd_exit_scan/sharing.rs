//! Whether a table of descriptors is another process's as well (CLONE_FILES without CLONE_THREAD).
//!
//! The table's own count does not tell: threads of the same process that are about to end have not let go of it yet, and
//! others borrow it for a moment. So a table is only asked about when a fork was seen that shared it, and its count is
//! compared with the threads of the ending process that have it.

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use fdtrace_common::counters::Counter;

use crate::{
    counters::count,
    kernel::{Ptr, files_struct, list_head, task_struct},
};

const BPF_ANY: u64 = 0;

/// A list of threads is walked in so many stretches of so many rounds at most.
const STRETCHES: u32 = 64;
const ROUNDS: u32 = 512;

/// How often the threads are counted anew when they changed meanwhile.
const TRIES: u32 = 4;

/// Tables that a fork has shared. An evicted one counts as its last process's alone.
#[map]
static SHARED: LruHashMap<u64, u8> = LruHashMap::with_max_entries(4096, 0);

/// A count in the making, in memory between its rounds.
#[repr(C)]
struct Sharers {
    files: Ptr<files_struct>,
    /// `signal_struct.thread_head`
    head: Ptr<list_head>,
    node: Ptr<list_head>,
    threads: u32,
    reserved: u32,
}

/// Of the one program that counts, which the kernel never runs twice at once on a CPU.
#[map]
static SHARERS: PerCpuArray<Sharers> = PerCpuArray::with_max_entries(1, 0);

/// A fork leaves this table to two processes.
#[inline(always)]
pub(crate) fn share(files: u64) {
    let _ = SHARED.insert(files, 1, BPF_ANY);
}

/// Whether others than the threads of a task's process have its table.
#[inline(always)]
pub(crate) fn is_shared(task: Ptr<task_struct>, files: Ptr<files_struct>) -> bool {
    if SHARED.get_ptr(files.address()).is_none() {
        return false;
    }
    let head = task.signal().thread_head();
    let (mut tries, mut is_shared) = (0, false);
    while tries < TRIES {
        let before = threads(files, head);
        is_shared = files.count() > before;
        if threads(files, head) == before {
            break;
        }
        tries += 1;
    }
    is_shared
}

/// How many threads of a process have a table.
#[inline(always)]
fn threads(files: Ptr<files_struct>, head: Ptr<list_head>) -> u32 {
    let Some(sharers) = SHARERS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is one `Sharers`, which only that program uses.
    let sharers = unsafe { &mut *sharers };
    *sharers = Sharers { files, head, node: head.next(), threads: 0, reserved: 0 };
    let mut stretches = 0;
    while stretches < STRETCHES {
        if fd_scan_threads() == 0 {
            return sharers.threads;
        }
        stretches += 1;
    }
    count(Counter::CutWalks);
    sharers.threads
}

/// Some rounds; 0 at the end of the list.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_threads() -> i32 {
    let mut rounds = 0;
    while rounds < ROUNDS {
        if fd_scan_thread() == 0 {
            return 0;
        }
        rounds += 1;
    }
    1
}

/// The next thread; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_thread() -> i32 {
    let Some(sharers) = SHARERS.get_ptr_mut(0) else { return 0 };
    // SAFETY: as above.
    let sharers = unsafe { &mut *sharers };
    if sharers.node == sharers.head || sharers.node.is_null() {
        return 0;
    }
    let task = sharers.node.around::<task_struct>(task_struct::thread_node().offset());
    if task.files() == sharers.files {
        sharers.threads += 1;
    }
    sharers.node = sharers.node.next();
    1
}
