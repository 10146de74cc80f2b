//! The fentry backend. Cheapest, but on a preemptible kernel a task that is preempted inside a program makes every
//! other task on that CPU skip it; the kernel counts that as `recursion_misses`.

use aya_ebpf::{EbpfContext as _, macros::fentry, programs::FEntryContext};

use super::processes;
use crate::{
    acquired, closers,
    kernel::{Access as _, Probe, Ptr, file},
    lifetime, mappings,
};

/// The first argument, as a number: what the context gives is a pointer to the verifier, and a function of its own takes none.
#[inline(always)]
fn first(ctx: &FEntryContext) -> Ptr<file> {
    Probe::load(ctx.as_ptr().cast())
}

/// `int security_file_alloc(struct file *file)`
#[fentry(function = "security_file_alloc")]
fn alloc_fentry(ctx: FEntryContext) -> i32 {
    lifetime::allocated(ctx.as_ptr(), first(&ctx).address());
    0
}

/// `void security_file_free(struct file *file)`
#[fentry(function = "security_file_free")]
fn release_fentry(ctx: FEntryContext) -> i32 {
    lifetime::released(first(&ctx).address());
    0
}

/// The same, and who closes it.
#[fentry(function = "security_file_free")]
fn closing_fentry(ctx: FEntryContext) -> i32 {
    if lifetime::released(first(&ctx).address()) {
        closers::tell(ctx.as_ptr());
    }
    0
}

/// `unsigned long mmap_region(struct file *file, unsigned long addr, unsigned long len, ...)`
#[fentry(function = "mmap_region")]
fn mapping_fentry(ctx: FEntryContext) -> i32 {
    mappings::mapped(ctx.as_ptr(), first(&ctx), ctx.arg(1), ctx.arg(2));
    0
}

/// `void do_close_on_exec(struct files_struct *files)`
#[fentry(function = "do_close_on_exec")]
fn fd_scan_exec_fentry(ctx: FEntryContext) -> i32 {
    processes::execs(Ptr::at(ctx.arg(0)));
    0
}

/// `void fd_install(unsigned int fd, struct file *file)`
#[fentry(function = "fd_install")]
fn acquired_fentry(ctx: FEntryContext) -> i32 {
    acquired::installed(ctx.as_ptr(), ctx.arg(0), Ptr::at(ctx.arg(1)));
    0
}

/// `int do_dup2(struct files_struct *files, struct file *file, unsigned fd, unsigned flags)`
#[fentry(function = "do_dup2")]
fn acquired_over_fentry(ctx: FEntryContext) -> i32 {
    acquired::installed(ctx.as_ptr(), ctx.arg(2), Ptr::at(ctx.arg(1)));
    0
}

/// `void scm_detach_fds(struct msghdr *msg, struct scm_cookie *scm)`
#[fentry(function = "scm_detach_fds")]
fn acquired_message_fentry(_ctx: FEntryContext) -> i32 {
    acquired::message_comes();
    0
}
