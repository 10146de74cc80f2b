//! Descriptors that were acquired and are closed by now, and all that are in the tables of some processes.

use aya_ebpf::{macros::map, maps::HashMap};
use fdtrace_common::descriptor::{Acquired, Closed, InTable};

use crate::{
    acquired,
    iterator::{OfDescriptor, OfElement, write},
    task::process_of,
};

/// Writes a [`Closed`] for each entry of ACQUIRED that the table of descriptors does not have any more.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_closed(ctx: *const OfElement<u64, Acquired>) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let Some((meta, _, value)) = (unsafe { (*ctx).element() }) else { return 0 };
    // SAFETY: not null; the kernel holds the element while the program runs. One that is replaced meanwhile is another.
    let record = unsafe { *value };
    if acquired::is_there(&record) {
        return 0;
    }
    write(meta, &Closed { key: record.key, time: record.time });
    0
}

/// Processes whose tables are looked through.
#[map]
static TABLES: HashMap<u32, u8> = HashMap::with_max_entries(64, 0);

/// Writes an [`InTable`] for each descriptor of these processes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_tables(ctx: *const OfDescriptor) -> i32 {
    // SAFETY: as above.
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
