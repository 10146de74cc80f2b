//! Entries of HANDLES whose handle is gone although no release was seen: what a missed probe leaves behind.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use fdtrace_common::queries::MAX_KEYS;

use super::for_each_key;
use crate::{
    config, handles,
    kernel::{Ptr, file},
};

/// Handles; the answer to each is written in its place.
#[map]
static PHANTOMS: Array<u64> = Array::with_max_entries(MAX_KEYS, 0);

/// Answers with the generation of each entry whose `struct file` has no reference left, and with 0 for all others.
///
/// A dead file's count stays readable: the slab cache is type-stable, and what cannot be read counts as alive.
#[raw_tracepoint]
fn query_phantoms(ctx: RawTracePointContext) -> i32 {
    for_each_key(&ctx, |place| query_phantoms_one(place))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn query_phantoms_one(place: u32) -> i32 {
    let Some(key) = PHANTOMS.get_ptr_mut(place) else { return 0 };
    // SAFETY: the address of an element of an array map, which stays; user space waits for this run.
    let handle = unsafe { *key };
    // Before the count is read: of a handle that is replaced in between, the old generation is told.
    let generation = handles::get(handle).map_or(0, |entry| entry.generation);
    let is_gone = generation != 0 && !is_alive(Ptr::<file>::at(handle).f_count());
    // SAFETY: as above.
    unsafe { *key = if is_gone { generation } else { 0 } };
    0
}

/// `f_count` counts references. `f_ref`, from 6.13 on, counts from 0 for one reference, and its two highest bits say
/// that it is dead (`FILE_REF_RELEASED` and `FILE_REF_DEAD`, include/linux/file_ref.h).
#[inline(always)]
fn is_alive(count: u64) -> bool {
    if config::get!(count_from_zero) != 0 { count >> 62 != 0b11 } else { count != 0 }
}
