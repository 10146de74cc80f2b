//! Per-CPU counters, one map look-up for a program run.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use fdtrace_common::counters::{Counter, Counters};

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Counts on this CPU, and says how many there are now.
///
/// A task that is preempted between the load and the store of an increment can lose another task's: kernels that
/// preempt inside a program run these increments so seldom that the collector's own sums, taken from events, are
/// compared with them instead of trusted over them.
#[inline(always)]
pub(crate) fn count(counter: Counter) -> u64 {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is one `Counters`, and the verifier has seen that the pointer is not null.
    let slot = unsafe { &raw mut (*counters).0[counter as usize] };
    // SAFETY: as above; only this CPU writes here.
    unsafe {
        *slot += 1;
        *slot
    }
}
