//! Reads of kernel memory, and records to user space.

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_seq_write, generated::bpf_probe_read_kernel},
};

/// `struct bpf_iter_meta`
#[repr(C)]
pub(crate) struct Meta {
    seq: *mut seq_file,
}

/// A field of a kernel structure; zero where it cannot be read, and where the kernel has no such field.
///
/// The helper fills what it cannot read with zeros, so nobody asks how it went: a branch at each of forty reads would
/// make the verifier look at every program for a tenth of a second.
#[inline(always)]
pub(crate) fn read<T: Copy + Default>(base: u64, offset: u32) -> T {
    let mut value = T::default();
    if offset != u32::MAX {
        let field = (base as *const u8).wrapping_add(offset as usize);
        // SAFETY: a probe read never faults, a `T` is made of integers, and the length is its own.
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, field.cast()) };
    }
    value
}

/// Gives `bytes` of a record to user space, all of it or nothing. When the kernel has no more room it forgets what this
/// run has written, and calls the program again for the same element.
#[inline(always)]
pub(crate) fn write<T>(meta: *const Meta, record: &T, bytes: usize) -> bool {
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; callers pass a length within the record.
    unsafe { bpf_seq_write((*meta).seq, core::ptr::from_ref(record).cast_mut().cast(), bytes as u32) == 0 }
}
