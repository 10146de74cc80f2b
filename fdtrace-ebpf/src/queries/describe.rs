//! What live handles are.
//!
//! A handle can be released while it is read, so every read is fault-tolerant, and the generation is compared again
//! afterwards: what is told is of one handle or not told.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use fdtrace_common::{config::EMIT_MIN_AGE, description::Description, queries::MAX_KEYS};

use super::for_each_key;
use crate::{
    config,
    description::describe,
    handles,
    kernel::{Ptr, file},
    task::now,
};

/// Handles.
#[map]
static DESCRIBE: Array<u64> = Array::with_max_entries(MAX_KEYS, 0);

/// The answer to each; one whose handle is 0 says nothing.
#[map]
static DESCRIPTIONS: Array<Description> = Array::with_max_entries(MAX_KEYS, 0);

/// Describes each handle that is in HANDLES, once: that it was described is noted, and one that the min-age filter does not tell of
/// yet is left out. A second argument that is not 0 asks for all of them, and nothing is noted.
#[raw_tracepoint]
fn query_describe(ctx: RawTracePointContext) -> i32 {
    let again = ctx.arg::<u64>(1) as u32;
    for_each_key(&ctx, |place| query_describe_one(place, again))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn query_describe_one(place: u32, again: u32) -> i32 {
    let (Some(handle), Some(out)) = (DESCRIBE.get(place), DESCRIPTIONS.get_ptr_mut(place)) else { return 0 };
    // SAFETY: the address of an element of an array map, which stays; user space waits for this run.
    let (handle, out) = (*handle, unsafe { &mut *out });
    out.handle = 0;
    let Some(generation) = handles::get(handle).map(|entry| entry.generation) else { return 0 };
    if again == 0 && is_young(generation) {
        return 0;
    }
    let inode = Ptr::<file>::at(handle).f_inode();
    if inode.is_null() {
        // It is being opened; the next walk will find it done.
        return 0;
    }
    (out.handle, out.generation) = (handle, generation);
    describe(out, inode);
    if !handles::is_still(handle, generation) {
        out.handle = 0;
    } else if again == 0 {
        handles::note_described(handle);
    }
    0
}

/// User space has not heard of the handle yet, and may never.
#[inline(always)]
fn is_young(generation: u64) -> bool {
    config::get!(emit) == EMIT_MIN_AGE && now().wrapping_sub(generation) < config::get!(min_age_ns)
}
