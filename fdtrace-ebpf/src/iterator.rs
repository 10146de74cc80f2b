//! What iterators are called with, and how they answer.

use aya_ebpf::{bindings::seq_file, helpers::bpf_seq_write};

use crate::kernel::{Ptr, file, task_struct, vm_area_struct};

/// `struct bpf_iter_meta`
#[repr(C)]
pub(crate) struct Meta {
    seq: *mut seq_file,
}

/// `struct bpf_iter__task_file`
#[repr(C)]
pub(crate) struct OfDescriptor {
    pub(crate) meta: *const Meta,
    pub(crate) task: Ptr<task_struct>,
    pub(crate) fd: u32,
    pub(crate) file: Ptr<file>,
}

/// `struct bpf_iter__task_vma`
#[repr(C)]
pub(crate) struct OfMapping {
    pub(crate) meta: *const Meta,
    pub(crate) task: Ptr<task_struct>,
    pub(crate) vma: Ptr<vm_area_struct>,
}

/// Gives a record to user space, all of it or nothing. When the kernel has no more room it forgets what this run has
/// written, and calls the program again for the same element.
#[inline(always)]
pub(crate) fn write<T>(meta: *const Meta, record: &T) -> bool {
    write_part(meta, record, size_of::<T>())
}

/// The same for the first `bytes` of a record.
#[inline(always)]
pub(crate) fn write_part<T>(meta: *const Meta, record: &T, bytes: usize) -> bool {
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; callers pass a length within the record.
    unsafe { bpf_seq_write((*meta).seq, core::ptr::from_ref(record).cast_mut().cast(), bytes as u32) == 0 }
}
