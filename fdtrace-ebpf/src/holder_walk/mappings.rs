//! All mappings of files.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::holder_walk::{Header, Mapping, tag};

use crate::{
    describe::{By, describe_once},
    iterator::{OfMapping, write},
    visit::{self, Last, Visit},
};

/// The address space that was visited last.
#[map]
static LAST_SPACE: Array<Last> = Array::with_max_entries(1, 0);

/// Writes the task for the first mapping of each address space, and each mapping of a file.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
extern "C" fn walk_mappings(ctx: *const OfMapping) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let (meta, task, vma) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).vma) };
    if task.is_null() || vma.is_null() {
        return 0;
    }
    let file = vma.vm_file();
    if file.is_null() {
        return 0;
    }
    let Some(last) = LAST_SPACE.get_ptr_mut(0) else { return 0 };
    let mm = task.mm().address();
    // SAFETY: the map's value is one `Last`; one reader at a time calls this program.
    let visit = unsafe { (*last).visit(mm, task) };
    if visit == Visit::Known {
        return 0;
    }
    if visit == Visit::Begins && !visit::tell(meta, task, tag::SPACE) {
        return 0;
    }
    let Some(place) = describe_once(meta, file, By::Mappings) else { return 0 };
    let record = Mapping {
        header: Header { tag: tag::MAPPING, length: size_of::<Mapping>() as u32 },
        handle: file.address(),
        start: vma.vm_start(),
        end: vma.vm_end(),
        flags: vma.vm_flags(),
    };
    if write(meta, &record) {
        place.take(file);
        // SAFETY: as above.
        unsafe { *last = Last { owner: mm, task } };
    }
    0
}
