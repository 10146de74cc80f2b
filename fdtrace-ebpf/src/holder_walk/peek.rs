//! Memory that user space asks for, by address.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel,
    macros::map,
    maps::{Array, PerCpuArray},
};
use fdtrace_common::holder_walk::{Header, Memory, PEEK_BYTES, PEEK_REQUESTS, Request, tag};

use crate::{
    describe::{By, describe},
    iterator::{OfElement, write_part},
    kernel::Ptr,
};

/// Filled by user space before it reads.
#[map]
static REQUESTS: Array<Request> = Array::with_max_entries(PEEK_REQUESTS, 0);

/// An answer.
#[repr(C)]
struct Answer {
    memory: Memory,
    bytes: [u8; PEEK_BYTES],
}

#[map]
static ANSWER: PerCpuArray<Answer> = PerCpuArray::with_max_entries(1, 0);

/// Answers each request that has an address.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn walk_peek(ctx: *const OfElement<u32, Request>) -> i32 {
    // SAFETY: the kernel passes a context of this layout for this section.
    let Some((meta, key, value)) = (unsafe { (*ctx).element() }) else { return 0 };
    // SAFETY: not null; the kernel holds the element while the program runs.
    let (index, request) = unsafe { (*key, *value) };
    if request.address == 0 {
        return 0;
    }
    if request.length == 0 {
        describe(meta, Ptr::at(request.address), By::Peek);
        return 0;
    }
    let Some(answer) = ANSWER.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is one `Answer`, used by this program only.
    let answer = unsafe { &mut *answer };
    let wanted = if request.length > PEEK_BYTES as u64 { PEEK_BYTES as u64 } else { request.length };
    // SAFETY: a probe read takes any address; the length is that of the buffer at most.
    let result = unsafe {
        bpf_probe_read_kernel(answer.bytes.as_mut_ptr().cast(), wanted as u32, request.address as *const _)
    };
    let bytes = if result == 0 { wanted } else { 0 };
    let length = size_of::<Memory>() + ((bytes as usize + 7) & !7);
    answer.memory =
        Memory { header: Header { tag: tag::MEMORY, length: length as u32 }, index, bytes: bytes as u32 };
    write_part(meta, answer, if length > size_of::<Answer>() { size_of::<Answer>() } else { length });
    0
}
