//! Which acquired descriptors are closed by now.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use fdtrace_common::queries::MAX_KEYS;

use super::for_each_key;
use crate::acquired;

/// Keys of ACQUIRED; the answer to each is written in its place.
#[map]
static CLOSED: Array<u64> = Array::with_max_entries(MAX_KEYS, 0);

/// Answers with the time of acquisition for each entry that the table of descriptors does not have any more, and with 0 for
/// all others.
#[raw_tracepoint]
fn query_closed(ctx: RawTracePointContext) -> i32 {
    for_each_key(&ctx, |place| query_closed_one(place))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn query_closed_one(place: u32) -> i32 {
    let Some(key) = CLOSED.get_ptr_mut(place) else { return 0 };
    // SAFETY: the address of an element of an array map, which stays; user space waits for this run.
    let key = unsafe { &mut *key };
    let closed = acquired::get(*key).filter(|record| !acquired::is_there(record));
    *key = closed.map_or(0, |record| record.time);
    0
}
