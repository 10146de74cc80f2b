//! The tracepoint backend: the slab allocator's own tracepoints, for kernels that offer nothing better.
//!
//! They fire for every object of every cache, so what is no handle is turned away first, by the return address of an
//! allocation and by the cache of a free.

use aya_ebpf::{
    EbpfContext as _,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use fdtrace_common::config::Range;

use crate::{acquired, closers, config, lifetime, mappings};

/// Caches that handles were seen to come from: `filp`, and from 6.13 on `bfilp` for backing files.
#[unsafe(no_mangle)]
static mut CACHES: [u64; 4] = [0; 4];

/// `kmem_cache_alloc(unsigned long call_site, const void *ptr, struct kmem_cache *s, ...)`; 5.10 has no `s`.
#[raw_tracepoint(tracepoint = "kmem_cache_alloc")]
fn alloc_slab(ctx: RawTracePointContext) -> i32 {
    let handle = ctx.arg::<u64>(1);
    if handle != 0 && makes_handles(&ctx) {
        lifetime::allocated(ctx.as_ptr(), handle);
    }
    0
}

/// Whether the caller is one of those that make handles; their cache is one of handles. What a handle is made into is not
/// in the loop, or the verifier would follow it once for each caller.
#[inline(always)]
fn makes_handles(ctx: &RawTracePointContext) -> bool {
    let caller = ctx.arg::<u64>(0);
    let mut index = 0;
    while index < 4 {
        let range = Range {
            start: config::get!(slab_callers[index].start),
            end: config::get!(slab_callers[index].end),
        };
        if caller >= range.start && caller < range.end {
            if config::get!(free_names_cache) != 0 {
                learn_cache(index, ctx.arg::<u64>(2));
            }
            return true;
        }
        index += 1;
    }
    false
}

/// `kmem_cache_free(unsigned long call_site, const void *ptr, const struct kmem_cache *s)`; before 6.1 without `s`.
#[raw_tracepoint(tracepoint = "kmem_cache_free")]
fn release_slab(ctx: RawTracePointContext) -> i32 {
    if config::get!(free_names_cache) != 0 && !is_known(ctx.arg::<u64>(2)) {
        return 0;
    }
    if lifetime::released(ctx.arg::<u64>(1)) {
        closers::mark();
    }
    0
}

/// The end of `mmap`. The system call's own tracepoint: the raw one fires at the end of all of them.
#[tracepoint]
fn mapping_mmap(ctx: TracePointContext) -> u32 {
    mappings::mmap_returns(ctx.as_ptr());
    0
}

/// Bytes of a page on any machine.
const SMALLEST_PAGE: i64 = 4096;

/// The end of every system call, where a program is attached there anyway, for the sake of those that fail: to attach to the
/// ends of two system calls and to detach again takes the kernel a fifth of a second.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn mapping_any(ctx: RawTracePointContext) -> i32 {
    // Both return an address, a multiple of a page: nearly all other calls are told from them without a look at the task.
    let result = ctx.arg::<i64>(1);
    let may_map = result > 0 && result & (SMALLEST_PAGE - 1) == 0;
    if may_map && mappings::syscall_returns(ctx.as_ptr()) {
        return 0;
    }
    // Two programs would take twice the time to be verified.
    if config::get!(closers) != 0 && result == 0 && closers::syscall_returns(ctx.as_ptr()) {
        return 0;
    }
    if config::get!(acquired) != 0 {
        acquired::syscall_returns(ctx.as_ptr(), result);
    }
    0
}

/// `sys_exit(struct pt_regs *regs, long ret)`: what a system call has installed.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn acquired_any(ctx: RawTracePointContext) -> i32 {
    acquired::syscall_returns(ctx.as_ptr(), ctx.arg::<i64>(1));
    0
}

/// The same for what could not be installed: for the other backends, whose hooks see only what could.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn acquired_refused(ctx: RawTracePointContext) -> i32 {
    acquired::refused(ctx.as_ptr(), ctx.arg::<i64>(1));
    0
}

/// The end of `shmat`.
#[tracepoint]
fn mapping_shmat(ctx: TracePointContext) -> u32 {
    mappings::shmat_returns(ctx.as_ptr());
    0
}

/// All handles of one allocation function come from one cache.
#[inline(always)]
fn learn_cache(function: usize, cache: u64) {
    // SAFETY: a plain global of integers; every writer of a slot writes the same value.
    let slot = unsafe { &raw mut CACHES[function] };
    // SAFETY: as above.
    if unsafe { core::ptr::read_volatile(slot) } != cache {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(slot, cache) };
    }
}

#[inline(always)]
fn is_known(cache: u64) -> bool {
    let mut index = 0;
    while index < 4 {
        // SAFETY: as in `learn_cache`.
        if unsafe { core::ptr::read_volatile(&raw const CACHES[index]) } == cache {
            return true;
        }
        index += 1;
    }
    false
}
