//! What user space asks about entries of a table that it names. Nothing attaches these programs: user space runs them
//! (`BPF_PROG_TEST_RUN`, which raw tracepoints know since Linux 5.10).
//!
//! A program answers for the keys that user space has written to its map, and finds their number in its first argument. What
//! answers for one key is a global function, which the verifier checks once and not once for each round of the loop.

mod acquired;
pub(crate) mod describe;
mod phantoms;

use aya_ebpf::programs::RawTracePointContext;
use fdtrace_common::queries::MAX_KEYS;

/// Calls `answer` with the place of each key.
#[inline(always)]
fn for_each_key(ctx: &RawTracePointContext, answer: impl Fn(u32) -> i32) -> i32 {
    let keys = ctx.arg::<u64>(0) as u32;
    let mut place = 0;
    while place < MAX_KEYS && place < keys {
        answer(place);
        place += 1;
    }
    0
}
