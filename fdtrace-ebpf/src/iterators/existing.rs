//! Handles that are pre-existing: one walk over the descriptors of all processes, one over their mappings.
//!
//! The walk holds the file while the program runs, so what gets into HANDLES here is alive, and its release will be seen.

use fdtrace_common::{
    counters::Counter,
    iterators::{Existing, NO_DESCRIPTOR},
    wire::{Entry, NO_SYSCALL, PREEXISTING},
};

use crate::{
    config,
    counters::count,
    filter,
    handles::{self, Added},
    iterator::{Meta, OfDescriptor, OfMapping, write},
    kernel::{Access as _, Probe, Ptr, file, task_struct},
    task::process_of,
};

/// Writes an [`Existing`] for each handle that a descriptor points to and that HANDLES did not have.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_existing_files(ctx: *const OfDescriptor) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, &raw const (*ctx).file) };
    // A number: the functions of the table take no pointer of the verifier's.
    found(meta, task, Probe::load(file), fd);
    0
}

/// The same for each handle that is mapped.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
extern "C" fn iter_existing_mappings(ctx: *const OfMapping) -> i32 {
    // SAFETY: as above.
    let (meta, task, vma) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).vma) };
    if !vma.is_null() {
        found(meta, task, vma.vm_file(), NO_DESCRIPTOR);
    }
    0
}

/// The tracer, its children and theirs: what they have from before comes from it. Those that read files for it are among them.
#[inline(always)]
fn is_tracers(task: Ptr<task_struct>, tgid: u32) -> bool {
    let parent = task.real_parent();
    let tracer = config::get!(tracer);
    tgid == tracer || process_of(parent) == tracer || process_of(parent.real_parent()) == tracer
}

#[inline(always)]
fn found(meta: *const Meta, task: Ptr<task_struct>, file: Ptr<file>, fd: u32) {
    if task.is_null() || file.is_null() {
        return;
    }
    let handle = file.address();
    let tgid = process_of(task);
    if is_tracers(task, tgid) || !filter::admits_other(task, tgid) {
        return;
    }
    let entry = Entry { generation: PREEXISTING, tgid, tid: tgid, syscall: NO_SYSCALL, ..Entry::default() };
    match handles::add(handle, &entry) {
        Added::New => {}
        Added::Known => return,
        Added::NoRoom => {
            count(Counter::LostHandles);
            return;
        }
    }
    if !write(meta, &Existing { handle, tgid, fd }) {
        // When the buffer is full the kernel calls again for the same file, which must be news then.
        handles::remove(handle);
    }
}
