//! Handles that are pre-existing: one walk over the descriptors of all processes, one over their mappings.
//!
//! The walk holds the file while the program runs, so what gets into HANDLES here is alive, and its release will be seen.

use aya_ebpf::helpers::bpf_seq_write;
use fdtrace_common::{
    counters::Counter,
    iterators::{Existing, NO_DESCRIPTOR},
    wire::{Entry, NO_SYSCALL, PREEXISTING},
};

use super::{describe::Meta, descriptors::Context};
use crate::{
    config,
    counters::count,
    filter,
    handles::{EEXIST, HANDLES},
    task::{process_of, read},
};

const BPF_NOEXIST: u64 = 1;

/// `struct bpf_iter__task_vma`
#[repr(C)]
struct VmaContext {
    meta: *const Meta,
    task: u64,
    vma: u64,
}

/// Writes an [`Existing`] for each handle that a descriptor points to and that HANDLES did not have.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_existing_files(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    found(meta, task, file as u64, fd);
    0
}

/// The same for each handle that is mapped.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
extern "C" fn iter_existing_mappings(ctx: *const VmaContext) -> i32 {
    // SAFETY: as above.
    let (meta, task, vma) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).vma) };
    if vma != 0 {
        found(meta, task, read(vma, config::get!(offsets.vma_file)), NO_DESCRIPTOR);
    }
    0
}

/// The tracer, its children and theirs: what they have from before comes from it. Those that read files for it are among them.
#[inline(always)]
fn is_tracers(task: u64, tgid: u32) -> bool {
    let parent: u64 = read(task, config::get!(offsets.task_parent));
    let grandparent: u64 = read(parent, config::get!(offsets.task_parent));
    let tracer = config::get!(tracer);
    tgid == tracer || process_of(parent) == tracer || process_of(grandparent) == tracer
}

#[inline(always)]
fn found(meta: *const Meta, task: u64, handle: u64, fd: u32) {
    if task == 0 || handle == 0 {
        return;
    }
    let tgid = process_of(task);
    if is_tracers(task, tgid) || !filter::admits_other(task, tgid) {
        return;
    }
    let entry = Entry { generation: PREEXISTING, tgid, tid: tgid, syscall: NO_SYSCALL, ..Entry::default() };
    match HANDLES.insert(handle, entry, BPF_NOEXIST) {
        Ok(()) => {}
        Err(EEXIST) => return,
        Err(_) => {
            count(Counter::LostHandles);
            return;
        }
    }
    let record = Existing { handle, tgid, fd };
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; the length is the record's own.
    let written =
        unsafe { bpf_seq_write((*meta).seq, (&raw const record).cast(), size_of::<Existing>() as u32) };
    if written != 0 {
        // When the buffer is full the kernel calls again for the same file, which must be news then.
        let _ = HANDLES.remove(handle);
    }
}
