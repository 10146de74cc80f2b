//! All descriptors that are in the tables of some processes.

use aya_ebpf::{macros::map, maps::HashMap};
use fdtrace_common::descriptor::InTable;

use crate::{
    iterator::{OfDescriptor, write},
    task::process_of,
};

/// Processes whose tables are looked through.
#[map]
static TABLES: HashMap<u32, u8> = HashMap::with_max_entries(64, 0);

/// Writes an [`InTable`] for each descriptor of these processes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_tables(ctx: *const OfDescriptor) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let tgid = process_of(task);
    if TABLES.get_ptr(tgid).is_none() {
        return 0;
    }
    write(meta, &InTable { handle: file.address(), tgid, fd });
    0
}
