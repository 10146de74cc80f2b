//! Which descriptors point to the handles that a view wants to name: one walk over the tables of all processes.

use aya_ebpf::{
    helpers::bpf_d_path,
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use fdtrace_common::iterators::{Descriptor, ITER_PATH_LEN};

use crate::{
    iterator::{OfDescriptor, write},
    kernel::{Ptr, file},
    task::process_of,
};

/// Addresses of the handles to look for.
#[map]
pub(super) static WANTED: HashMap<u64, u8> = HashMap::with_max_entries(1024, 0);

/// Scratch of this iterator alone.
#[map]
static DESCRIPTOR: PerCpuArray<Descriptor> = PerCpuArray::with_max_entries(1, 0);

/// Writes a [`Descriptor`] with the file's path for each table entry that points to a wanted handle.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_paths(ctx: *const OfDescriptor) -> i32 {
    write_descriptors(ctx, |file, out| out.path_len = path(file, &mut out.path));
    0
}

/// The same without the path, for kernels that refuse `bpf_d_path` in an iterator (before 5.12).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_descriptors(ctx: *const OfDescriptor) -> i32 {
    write_descriptors(ctx, |_, out| out.path_len = 0);
    0
}

#[inline(always)]
fn write_descriptors(ctx: *const OfDescriptor, name: impl Fn(Ptr<file>, &mut Descriptor)) {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    if task.is_null() || file.is_null() || WANTED.get_ptr(file.address()).is_none() {
        return;
    }
    let Some(scratch) = DESCRIPTOR.get_ptr_mut(0) else { return };
    // SAFETY: the map's value is one `Descriptor`; only one of the two programs is loaded.
    let scratch = unsafe { &mut *scratch };
    scratch.handle = file.address();
    scratch.tgid = process_of(task);
    scratch.fd = fd;
    name(file, scratch);
    write(meta, scratch);
}

#[inline(always)]
fn path(file: Ptr<file>, out: &mut [u8; ITER_PATH_LEN]) -> i32 {
    let field = file.f_path().pointer().cast_mut();
    // SAFETY: the iterator pins the file, and the verifier checks that `f_path` lies at the offset.
    unsafe { bpf_d_path(field.cast(), out.as_mut_ptr().cast(), ITER_PATH_LEN as u32) as i32 }
}
