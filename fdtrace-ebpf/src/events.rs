//! The one ring buffer.

use aya_ebpf::{macros::map, maps::RingBuf};
use fdtrace_common::counters::Counter;

use crate::{config, counters::count};

/// Sized by the loader; a power of two of pages.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 23, 0);

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// One in so many frequent records looks how full the ring is. A power of two.
const SAMPLE_INTERVAL: u64 = 16;

/// Sends one record of fixed size; counted when the ring is full.
#[inline(always)]
pub(crate) fn send<T: Copy + 'static>(record: &T) {
    let _ = submit(record, wakeup);
}

/// The same for a record that is the `number`th of its kind on this CPU: looking how full the ring is costs as much as
/// filling it, so only some do.
#[inline(always)]
pub(crate) fn send_often<T: Copy + 'static>(record: &T, number: u64) {
    let _ =
        submit(record, || if number.is_multiple_of(SAMPLE_INTERVAL) { wakeup() } else { BPF_RB_NO_WAKEUP });
}

/// The same; false when the ring is full, for a caller that counts what that costs it besides.
#[inline(always)]
pub(crate) fn tell<T: Copy + 'static>(record: &T) -> bool {
    submit(record, wakeup)
}

/// The same, and wakes the reader at once: it can prepare for what comes.
#[inline(always)]
pub(crate) fn tell_urgently<T: Copy + 'static>(record: &T) -> bool {
    submit(record, || BPF_RB_FORCE_WAKEUP)
}

#[inline(always)]
fn submit<T: Copy + 'static>(record: &T, flags: impl FnOnce() -> u64) -> bool {
    let Some(mut slot) = EVENTS.reserve::<T>(0) else {
        count(Counter::LostEvents);
        return false;
    };
    slot.write(*record);
    slot.submit(flags());
    true
}

/// Sends `bytes` as one record; false when the ring is full. The caller counts the loss.
#[inline(always)]
pub(crate) fn send_bytes(bytes: &[u8]) -> bool {
    EVENTS.output::<[u8]>(bytes, wakeup()).is_ok()
}

/// The same, and wakes the reader at once: somebody's next record may be cheaper for it.
#[inline(always)]
pub(crate) fn send_urgently(bytes: &[u8]) -> bool {
    EVENTS.output::<[u8]>(bytes, BPF_RB_FORCE_WAKEUP).is_ok()
}

/// Waking the reader costs an interrupt on this CPU, so it is woken only when enough waits; it looks by itself often
/// enough for a quiet machine.
#[inline(always)]
fn wakeup() -> u64 {
    if EVENTS.query(BPF_RB_AVAIL_DATA) >= u64::from(config::get!(wakeup_bytes)) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}
