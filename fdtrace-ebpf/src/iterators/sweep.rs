//! Entries of HANDLES that have become old enough for user space to hear of them.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::{
    iterators::{Span, Swept},
    wire::{Entry, PREEXISTING},
};

use crate::iterator::{OfElement, write};

/// Set by user space before it reads.
#[map]
static SPAN: Array<Span> = Array::with_max_entries(1, 0);

/// Writes a [`Swept`] for each entry whose handle was allocated in the span; one that is pre-existing was
/// not.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_sweep(ctx: *const OfElement<u64, Entry>) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let Some((meta, key, value)) = (unsafe { (*ctx).element() }) else { return 0 };
    let Some(span) = SPAN.get(0) else { return 0 };
    // SAFETY: not null; the kernel holds the element while the program runs.
    let generation = unsafe { (*value).generation };
    if generation == PREEXISTING || generation <= span.after || generation > span.until {
        return 0;
    }
    // SAFETY: as above. A handle that is replaced meanwhile is newer than any span.
    write(meta, &unsafe { Swept { handle: *key, entry: *value } });
    0
}
