//! The walk: iterators that show who holds which handle, now. They need no tracing, and run when user space reads them.
//!
//! [`tasks`], [`descriptors`] and [`mappings`] walk what the kernel lets iterators walk, with everything held that they
//! look at. [`peek`] reads any memory, for the holders that no iterator shows (queues of sockets, tables of io_uring):
//! their layouts differ from version to version, and user space follows them better than a verifier would.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros pass the context by value")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "fields of one context are read together")]
#![expect(clippy::cast_possible_truncation, reason = "lengths of records are far below 4 GB")]

mod describe;
mod descriptors;
#[path = "../iterator.rs"]
mod iterator;
#[expect(dead_code, reason = "the tracer reads other fields")]
#[path = "../kernel.rs"]
mod kernel;
mod mappings;
mod peek;
mod tasks;
mod visit;

/// GPL-only helpers (probe reads, iterators) ask for a compatible licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A reachable panic must not verify: the verifier refuses a loop that never ends.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The host builds this crate only to check and lint it.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
