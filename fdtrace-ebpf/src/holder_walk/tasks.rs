//! All threads, and the programs that they run.

use fdtrace_common::holder_walk::tag;

use crate::{
    describe::{By, describe_once},
    layout::at,
    read::{Meta, read},
    visit,
};

/// `struct bpf_iter__task`
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: u64,
}

/// Writes a task for each thread, and the file of its program.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn walk_tasks(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task == 0 {
        return 0;
    }
    let executable: u64 = read(read(task, at!(task_mm)), at!(mm_executable));
    let place = if executable == 0 { None } else { describe_once(meta, executable, By::Tasks) };
    if visit::tell(meta, task, tag::TASK)
        && let Some(place) = place
    {
        place.take(executable);
    }
    0
}
