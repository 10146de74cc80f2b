//! Entries of HANDLES that have become old enough for user space to hear of them.

use aya_ebpf::{helpers::bpf_seq_write, macros::map, maps::Array};
use fdtrace_common::{
    iterators::{Span, Swept},
    wire::PREEXISTING,
};

use super::describe::{Context, Meta};

/// Set by user space before it reads.
#[map]
static SPAN: Array<Span> = Array::with_max_entries(1, 0);

/// Writes a [`Swept`] for each entry whose handle was allocated in the span; one that is pre-existing was
/// not.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_sweep(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, key, value): (*const Meta, _, _) = unsafe { ((*ctx).meta, (*ctx).key, (*ctx).value) };
    if key.is_null() || value.is_null() {
        return 0;
    }
    let Some(span) = SPAN.get(0) else { return 0 };
    // SAFETY: not null; the kernel holds the element while the program runs.
    let generation = unsafe { (*value).generation };
    if generation == PREEXISTING || generation <= span.after || generation > span.until {
        return 0;
    }
    // SAFETY: as above. A handle that is replaced meanwhile is newer than any span.
    let swept = unsafe { Swept { handle: *key, entry: *value } };
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; the length is the record's own.
    unsafe { bpf_seq_write((*meta).seq, (&raw const swept).cast(), size_of::<Swept>() as u32) };
    0
}
