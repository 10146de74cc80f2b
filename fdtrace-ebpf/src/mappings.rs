//! Handles that are mapped into memory: a mapping keeps its file open after the descriptor is closed.

use aya_ebpf::{macros::map, maps::LruHashMap};
use core::ffi::c_void;
use fdtrace_common::wire::{Mapped, Tag, flag};

use crate::{
    config, events, handles,
    kernel::{Ptr, file},
    stacks,
    task::{Task, current_thread, ids, now},
};

const BPF_ANY: u64 = 0;
/// `MAP_ANONYMOUS` (include/uapi/asm-generic/mman-common.h).
const MAP_ANONYMOUS: u64 = 0x20;
/// The largest error number that an address can hold (`IS_ERR_VALUE`).
const MAX_ERRNO: i64 = 4095;

/// The handle that a thread has allocated in `shmat`, until that returns.
#[map]
static ATTACHES: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// The current task maps a handle.
#[inline(always)]
pub(crate) fn mapped(ctx: *mut c_void, file: Ptr<file>, address: u64, length: u64) {
    if file.is_null() {
        return;
    }
    let handle = file.address();
    let Some(generation) = handles::note_mapped(handle) else { return };
    let (tgid, tid) = ids();
    let task = Task::current();
    let kernel_task = task.flags() & config::get!(kernel_task_flags) != 0;
    let (syscall, _) = task.syscall();
    let number = i32::from(syscall);
    // A program that is about to run is mapped before its own registers are set: the stack that these name is gone.
    let has_stack =
        !kernel_task && number != config::get!(syscalls.execve) && number != config::get!(syscalls.execveat);
    events::send(&Mapped {
        tag: Tag::Mapped as u8,
        flags: if kernel_task { flag::KERNEL_TASK } else { 0 },
        syscall,
        tid,
        handle,
        generation,
        user_stack: if has_stack { stacks::take_mapping(ctx, task, tgid) } else { 0 },
        address,
        length,
        time: now(),
        tgid,
        detail: if number == config::get!(syscalls.mmap) { task.argument(2) as u32 } else { 0 },
        inode: file.f_inode().address(),
    });
}

/// `mmap` is about to return. Its arguments are still where the process put them; the descriptor could have become
/// another file's meanwhile, if another thread of the process wants it so.
#[inline(always)]
pub(crate) fn mmap_returns(ctx: *mut c_void) {
    if let Some(made) = made_by_mmap() {
        mapped(ctx, made.file, made.address, made.length);
    }
}

/// A mapping that a system call has made.
struct Made {
    file: Ptr<file>,
    address: u64,
    length: u64,
}

#[inline(always)]
fn made_by_mmap() -> Option<Made> {
    let task = Task::current();
    let address = address(task)?;
    if task.argument(3) & MAP_ANONYMOUS != 0 {
        return None;
    }
    Some(Made { file: task.file(task.argument(4) as u32), address, length: task.argument(1) })
}

/// Any system call is about to return; false when it is none that maps. The stack is taken at one place for all: the
/// verifier follows each place where that is done.
#[inline(always)]
pub(crate) fn syscall_returns(ctx: *mut c_void) -> bool {
    let number = i32::from(Task::current().syscall().0);
    let made = if number == config::get!(syscalls.mmap) {
        made_by_mmap()
    } else if number == config::get!(syscalls.shmat) {
        made_by_shmat()
    } else {
        return false;
    };
    if let Some(made) = made {
        mapped(ctx, made.file, made.address, made.length);
    }
    true
}

/// `shmat` is about to return: what this thread has allocated in it is mapped, all of it.
#[inline(always)]
pub(crate) fn shmat_returns(ctx: *mut c_void) {
    if let Some(made) = made_by_shmat() {
        mapped(ctx, made.file, made.address, made.length);
    }
}

#[inline(always)]
fn made_by_shmat() -> Option<Made> {
    let tid = current_thread();
    let attach = ATTACHES.get_ptr(tid)?;
    // SAFETY: the pointer is to a value of the map, not null.
    let file = Ptr::<file>::at(unsafe { *attach });
    let _ = ATTACHES.remove(tid);
    let address = address(Task::current())?;
    Some(Made { file, address, length: file.f_inode().i_size() })
}

/// A thread allocates a handle that `shmat` will map before it returns.
#[inline(always)]
pub(crate) fn note_attach(syscall: i16, tid: u32, handle: u64) {
    if config::get!(note_attach) != 0 && i32::from(syscall) == config::get!(syscalls.shmat) {
        // Where there is no room, nobody is reported who mapped it.
        let _ = ATTACHES.insert(tid, handle, BPF_ANY);
    }
}

/// The address that a system call returns, unless it failed.
#[inline(always)]
fn address(task: Task) -> Option<u64> {
    task.result().filter(|result| !(-MAX_ERRNO..=0).contains(&(*result as i64)))
}
