//! All descriptors.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::holder_walk::{Descriptor, Header, tag};

use crate::{
    describe::{By, describe_once},
    iterator::{OfDescriptor, write},
    kernel::{Ptr, file, files_struct},
    visit::{self, Last, Visit},
};

/// The table that was visited last.
#[map]
static LAST_TABLE: Array<Last> = Array::with_max_entries(1, 0);

/// Writes the task for the first descriptor of each table, and each descriptor with what it points to.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn walk_descriptors(ctx: *const OfDescriptor) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, fd) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd) };
    // A typed pointer cannot be reckoned with; what is read from memory is a number.
    // SAFETY: as above; the pointer is to a field of the context.
    let file = Ptr::<Ptr<file>>::new(unsafe { &raw const (*ctx).file }.cast()).nth(0);
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some(last) = LAST_TABLE.get_ptr_mut(0) else { return 0 };
    let files = task.files();
    // SAFETY: the map's value is one `Last`; one reader at a time calls this program.
    let visit = unsafe { (*last).visit(files.address(), task) };
    if visit == Visit::Known {
        return 0;
    }
    if visit == Visit::Begins && !visit::tell(meta, task, tag::TABLE) {
        return 0;
    }
    let Some(place) = describe_once(meta, file, By::Descriptors) else { return 0 };
    let record = Descriptor {
        header: Header { tag: tag::DESCRIPTOR, length: size_of::<Descriptor>() as u32 },
        handle: file.address(),
        fd,
        close_on_exec: close_on_exec(files, fd),
    };
    if write(meta, &record) {
        place.take(file);
        // SAFETY: as above.
        unsafe { *last = Last { owner: files.address(), task } };
    }
    0
}

#[inline(always)]
fn close_on_exec(files: Ptr<files_struct>, fd: u32) -> u32 {
    let bits = files.fdt().close_on_exec();
    if bits.is_null() {
        return 2;
    }
    (bits.nth(u64::from(fd / u64::BITS)) >> (fd % u64::BITS) & 1) as u32
}
