//! Elements of the tables that user space reads over and over.
//!
//! It could read them by batch look-ups as well, and does where the kernel refuses these iterators. But while a batch is looked up, no
//! kprobe runs a program on that CPU (`bpf_disable_instrumentation`, kernel/bpf/hashtab.c): on a kernel that preempts, another task
//! may make handles there meanwhile.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::{
    descriptor::Acquired,
    iterators::{Element, Span},
    wire::Entry,
};

use crate::iterator::{Meta, write};

/// `struct bpf_iter__bpf_map_elem`
#[repr(C)]
struct OfElement<K, V> {
    meta: *const Meta,
    map: u64,
    key: *const K,
    value: *const V,
}

impl<K, V> OfElement<K, V> {
    /// The element, unless the walk is over.
    #[inline(always)]
    fn element(&self) -> Option<(*const Meta, *const K, *const V)> {
        (!self.key.is_null() && !self.value.is_null()).then_some((self.meta, self.key, self.value))
    }
}

/// Set by user space before it reads.
#[map]
static SPAN: Array<Span> = Array::with_max_entries(1, 0);

/// Writes an [`Element`] for each entry of HANDLES that is wanted.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_handles(ctx: *const OfElement<u64, Entry>) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let Some((meta, key, value)) = (unsafe { (*ctx).element() }) else { return 0 };
    let Some(span) = SPAN.get(0) else { return 0 };
    // SAFETY: not null; the kernel holds the element while the program runs. A handle that is replaced meanwhile is newer than any span.
    let element = unsafe { Element { handle: *key, entry: *value } };
    if span.has(&element.entry) {
        write(meta, &element);
    }
    0
}

/// Writes the key of each entry of ACQUIRED.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_acquired(ctx: *const OfElement<u64, Acquired>) -> i32 {
    // SAFETY: as above.
    let Some((meta, key, _)) = (unsafe { (*ctx).element() }) else { return 0 };
    // SAFETY: as above.
    write(meta, &unsafe { *key });
    0
}
