//! Which descriptors point to the handles that a view wants to name: one walk over the tables of all processes.

use aya_ebpf::{
    helpers::{bpf_d_path, bpf_seq_write},
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use fdtrace_common::iterators::{Descriptor, ITER_PATH_LEN};

use super::describe::Meta;
use crate::{config, task::process_of};

/// `struct bpf_iter__task_file`
#[repr(C)]
pub(super) struct Context {
    pub(super) meta: *const Meta,
    pub(super) task: u64,
    pub(super) fd: u32,
    pub(super) file: *mut u8,
}

/// Addresses of the handles to look for.
#[map]
pub(super) static WANTED: HashMap<u64, u8> = HashMap::with_max_entries(1024, 0);

/// Scratch of this iterator alone.
#[map]
static DESCRIPTOR: PerCpuArray<Descriptor> = PerCpuArray::with_max_entries(1, 0);

/// Writes a [`Descriptor`] with the file's path for each table entry that points to a wanted handle.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_paths(ctx: *const Context) -> i32 {
    write_descriptors(ctx, |file, out| out.path_len = path(file, &mut out.path));
    0
}

/// The same without the path, for kernels that refuse `bpf_d_path` in an iterator (before 5.12).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_descriptors(ctx: *const Context) -> i32 {
    write_descriptors(ctx, |_, out| out.path_len = 0);
    0
}

#[inline(always)]
fn write_descriptors(ctx: *const Context, name: impl Fn(*mut u8, &mut Descriptor)) {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    if task == 0 || file.is_null() || WANTED.get_ptr(file as u64).is_none() {
        return;
    }
    let Some(scratch) = DESCRIPTOR.get_ptr_mut(0) else { return };
    // SAFETY: the map's value is one `Descriptor`; only one of the two programs is loaded.
    let scratch = unsafe { &mut *scratch };
    scratch.handle = file as u64;
    scratch.tgid = process_of(task);
    scratch.fd = fd;
    name(file, scratch);
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; the length is the record's own.
    unsafe { bpf_seq_write((*meta).seq, (&raw const *scratch).cast(), size_of::<Descriptor>() as u32) };
}

#[inline(always)]
fn path(file: *mut u8, out: &mut [u8; ITER_PATH_LEN]) -> i32 {
    let field = file.wrapping_add(config::get!(offsets.file_path) as usize);
    // SAFETY: the iterator pins the file, and the verifier checks that `f_path` lies at the offset.
    unsafe { bpf_d_path(field.cast(), out.as_mut_ptr().cast(), ITER_PATH_LEN as u32) as i32 }
}
