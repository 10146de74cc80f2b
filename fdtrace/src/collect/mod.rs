//! The collector: one thread that drains the ring into the stream, keeps the fold of it true to the kernel's own table,
//! and writes the stream to a trace file if there is one.
//!
//! It owns the tracer. Others ask it for a [`Snapshot`] and tell it what they found out; nothing is shared, so nothing is
//! locked on the way from the ring to the table.

mod acquired;
mod alloc_errors;
mod interpreters;
mod missed;
mod preexisting;
mod requests;
mod resync;
mod stacks;
mod sweep;
mod waker;
mod what;
mod work_queues;
mod worker;

pub use requests::{Collector, Sample, Sink, Written};
pub(crate) use work_queues::watch_queues;
pub use worker::Setup;

#[cfg(doc)]
use crate::handles::Snapshot;

/// `CLOCK_MONOTONIC` in ns, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid structure; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
