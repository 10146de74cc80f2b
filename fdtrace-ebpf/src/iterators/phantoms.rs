//! Entries of HANDLES whose handle is gone although no release was seen: what a missed probe leaves behind.

use fdtrace_common::{iterators::Phantom, wire::Entry};

use crate::{
    config,
    iterator::{OfElement, write},
    kernel::{Ptr, file},
};

/// Writes a [`Phantom`] for each entry whose `struct file` has no reference left.
///
/// A dead file's count stays readable: the slab cache is type-stable, and what cannot be read counts as alive.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_phantoms(ctx: *const OfElement<u64, Entry>) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let Some((meta, key, value)) = (unsafe { (*ctx).element() }) else { return 0 };
    // SAFETY: not null; the kernel holds the element while the program runs.
    let phantom = unsafe { Phantom { handle: *key, generation: (*value).generation } };
    if !is_alive(Ptr::<file>::at(phantom.handle).f_count()) {
        write(meta, &phantom);
    }
    0
}

/// `f_count` counts references. `f_ref`, from 6.13 on, counts from 0 for one reference, and its two highest bits say
/// that it is dead (`FILE_REF_RELEASED` and `FILE_REF_DEAD`, include/linux/file_ref.h).
#[inline(always)]
fn is_alive(count: u64) -> bool {
    if config::get!(count_from_zero) != 0 { count >> 62 != 0b11 } else { count != 0 }
}
