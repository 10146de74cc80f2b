//! The kprobe backend. Entry probes run with preemption off and cannot run out of instances: nothing is missed.

use aya_ebpf::{EbpfContext as _, macros::kprobe, programs::ProbeContext};

use super::processes;
use crate::{acquired, closers, kernel::Ptr, lifetime, mappings};

/// `int security_file_alloc(struct file *file)`: every allocator calls it once.
#[kprobe]
fn alloc_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(file) = ctx.arg::<u64>(0) {
        lifetime::allocated(ctx.as_ptr(), file);
    }
    0
}

/// `void security_file_free(struct file *file)`: the last call before every kind of free.
#[kprobe]
fn release_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(file) = ctx.arg::<u64>(0) {
        lifetime::released(file);
    }
    0
}

/// The same, and who closes it.
#[kprobe]
fn closing_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(file) = ctx.arg::<u64>(0)
        && lifetime::released(file)
    {
        closers::tell(ctx.as_ptr());
    }
    0
}

/// `unsigned long mmap_region(struct file *file, unsigned long addr, unsigned long len, ...)`, where every mapping of a
/// file is made, by whatever system call; the address is chosen by then. The loader checks the arguments' names.
#[kprobe]
fn mapping_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(file), Some(address), Some(length)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        mappings::mapped(ctx.as_ptr(), Ptr::at(file), address, length);
    }
    0
}

/// `void do_close_on_exec(struct files_struct *files)`
#[kprobe]
fn fd_scan_exec_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(files) = ctx.arg(0) {
        processes::execs(Ptr::at(files));
    }
    0
}

/// `void fd_install(unsigned int fd, struct file *file)`
#[kprobe]
fn acquired_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(fd), Some(file)) = (ctx.arg::<u32>(0), ctx.arg(1)) {
        acquired::installed(ctx.as_ptr(), fd, Ptr::at(file));
    }
    0
}

/// `int do_dup2(struct files_struct *files, struct file *file, unsigned fd, unsigned flags)`
#[kprobe]
fn acquired_over_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(file), Some(fd)) = (ctx.arg(1), ctx.arg::<u32>(2)) {
        acquired::installed(ctx.as_ptr(), fd, Ptr::at(file));
    }
    0
}

/// `void scm_detach_fds(struct msghdr *msg, struct scm_cookie *scm)`
#[kprobe]
fn acquired_message_kprobe(_ctx: ProbeContext) -> u32 {
    acquired::message_comes();
    0
}
