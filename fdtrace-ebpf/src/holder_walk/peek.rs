//! Memory and handles that user space asks for, by address. It runs these programs itself (`BPF_PROG_TEST_RUN`).

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use fdtrace_common::holder_walk::{ANSWER_BYTES, File, MEMORY_BYTES, PEEK_BYTES, PEEK_REQUESTS, Request};

use crate::{describe::fill, kernel::Ptr};

/// Filled by user space before it asks. What was read is in their place afterwards.
#[map]
static REQUESTS: Array<Request> = Array::with_max_entries(PEEK_REQUESTS, 0);

/// The bytes of all requests.
#[map]
static MEMORY: Array<[u8; MEMORY_BYTES]> = Array::with_max_entries(1, 0);

#[map]
static FILE: Array<File> = Array::with_max_entries(1, 0);

/// Reads for as many requests as the first argument says; the length of one that cannot be read becomes 0.
#[raw_tracepoint]
fn walk_read(ctx: RawTracePointContext) -> i32 {
    let requests = ctx.arg::<u64>(0) as u32;
    let Some(memory) = MEMORY.get_ptr_mut(0) else { return 0 };
    let mut place = 0;
    while place < PEEK_REQUESTS && place < requests {
        let Some(request) = REQUESTS.get_ptr_mut(place) else { return 0 };
        // SAFETY: the addresses of elements of array maps, which stay; user space waits for this run.
        unsafe { read(&mut *request, memory.cast()) };
        place += 1;
    }
    0
}

#[inline(always)]
fn read(request: &mut Request, memory: *mut u8) {
    let (offset, length) = (request.offset, request.length);
    if offset >= ANSWER_BYTES || length > PEEK_BYTES {
        request.length = 0;
        return;
    }
    // SAFETY: a probe read takes any address, and writes within the element: both were compared.
    let result = unsafe {
        bpf_probe_read_kernel(memory.add(offset as usize).cast(), length, request.address as *const _)
    };
    if result != 0 {
        request.length = 0;
    }
}

/// Describes the handle whose address is the first argument; the length is 0 for what is none.
#[raw_tracepoint]
fn walk_describe(ctx: RawTracePointContext) -> i32 {
    let Some(out) = FILE.get_ptr_mut(0) else { return 0 };
    // SAFETY: the address of an element of an array map, which stays; user space waits for this run.
    let out = unsafe { &mut *out };
    out.header.length = 0;
    fill(out, Ptr::at(ctx.arg::<u64>(0)));
    0
}
