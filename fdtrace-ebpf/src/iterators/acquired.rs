//! Descriptors that were acquired and are closed by now, and all that are in the tables of some processes.

use aya_ebpf::{helpers::bpf_seq_write, macros::map, maps::HashMap};
use fdtrace_common::descriptor::{Acquired, Closed, InTable};

use super::{
    describe::{Context, Meta},
    descriptors::Context as FileContext,
};
use crate::{acquired, task::process_of};

/// Writes a [`Closed`] for each entry of ACQUIRED that the table of descriptors does not have any more.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn iter_closed(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, value): (*const Meta, _) = unsafe { ((*ctx).meta, (*ctx).value.cast::<Acquired>()) };
    if value.is_null() {
        return 0;
    }
    // SAFETY: not null; the kernel holds the element while the program runs. One that is replaced meanwhile is another.
    let record = unsafe { *value };
    if acquired::is_there(&record) {
        return 0;
    }
    let closed = Closed { key: record.key, time: record.time };
    // SAFETY: the kernel's `meta` and `seq` are valid while the program runs; the length is the record's own.
    unsafe { bpf_seq_write((*meta).seq, (&raw const closed).cast(), size_of::<Closed>() as u32) };
    0
}

/// Processes whose tables are looked through.
#[map]
static TABLES: HashMap<u32, u8> = HashMap::with_max_entries(64, 0);

/// Writes an [`InTable`] for each descriptor of these processes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_tables(ctx: *const FileContext) -> i32 {
    // SAFETY: as above.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    if task == 0 || file.is_null() {
        return 0;
    }
    let tgid = process_of(task);
    if TABLES.get_ptr(tgid).is_none() {
        return 0;
    }
    let found = InTable { handle: file as u64, tgid, fd };
    // SAFETY: as above.
    unsafe { bpf_seq_write((*meta).seq, (&raw const found).cast(), size_of::<InTable>() as u32) };
    0
}
