//! All descriptors.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::holder_walk::{Descriptor, Header, tag};

use crate::{
    describe::{By, describe_once},
    layout::at,
    read::{Meta, read, write},
    visit::{self, Last, Visit},
};

/// `struct bpf_iter__task_file`
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: u64,
    fd: u32,
    file: u64,
}

/// The table that was visited last.
#[map]
static LAST_TABLE: Array<Last> = Array::with_max_entries(1, 0);

/// Writes the task for the first descriptor of each table, and each descriptor with what it points to.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn walk_descriptors(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd) };
    // A typed pointer cannot be reckoned with; what is read from memory is a number.
    let file: u64 = read(ctx as u64, core::mem::offset_of!(Context, file) as u32);
    if task == 0 || file == 0 {
        return 0;
    }
    let Some(last) = LAST_TABLE.get_ptr_mut(0) else { return 0 };
    let files: u64 = read(task, at!(task_files));
    // SAFETY: the map's value is one `Last`; one reader at a time calls this program.
    let visit = unsafe { (*last).visit(files, task) };
    if visit == Visit::Known {
        return 0;
    }
    if visit == Visit::Begins && !visit::tell(meta, task, tag::TABLE) {
        return 0;
    }
    let Some(place) = describe_once(meta, file, By::Descriptors) else { return 0 };
    let record = Descriptor {
        header: Header { tag: tag::DESCRIPTOR, length: size_of::<Descriptor>() as u32 },
        handle: file,
        fd,
        close_on_exec: close_on_exec(files, fd),
    };
    if write(meta, &record, size_of::<Descriptor>()) {
        place.take(file);
        // SAFETY: as above.
        unsafe { *last = Last { owner: files, task } };
    }
    0
}

#[inline(always)]
fn close_on_exec(files: u64, fd: u32) -> u32 {
    let table: u64 = read(files, at!(files_table));
    let bits: u64 = read(table, at!(table_close_on_exec));
    if bits == 0 {
        return 2;
    }
    let word: u64 = read(bits, fd / 64 * 8);
    (word >> (fd % 64) & 1) as u32
}
