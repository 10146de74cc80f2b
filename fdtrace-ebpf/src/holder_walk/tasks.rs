//! All threads, and the programs that they run.

use fdtrace_common::holder_walk::tag;

use crate::{
    describe::{By, describe_once},
    iterator::Meta,
    kernel::{Ptr, task_struct},
    visit,
};

/// `struct bpf_iter__task`
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: Ptr<task_struct>,
}

/// Writes a task for each thread, and the file of its program.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn walk_tasks(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return 0;
    }
    let executable = task.mm().exe_file();
    let place = if executable.is_null() { None } else { describe_once(meta, executable, By::Tasks) };
    if visit::tell(meta, task, tag::TASK)
        && let Some(place) = place
    {
        place.take(executable);
    }
    0
}
