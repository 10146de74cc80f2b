//! Min-age filter: most handles live for a moment, and user space never hears of those.
//!
//! What a process closes before the handle is old enough is counted, and nothing else. Any other release is reported
//! together with its allocation, for user space may not have found the handle in the table yet.

use aya_ebpf::{macros::map, maps::LruPerCpuHashMap};
use fdtrace_common::{
    counters::{Counter, ShortLivedCount},
    hash,
    wire::{Cause, Entry, PREEXISTING, Release, flag, state},
};

use crate::{config, counters::count, events, handles};

const BPF_ANY: u64 = 0;

/// What was dropped as short-lived, by call. An evicted call's count is lost here; the sum over all calls is among the counters.
#[map]
static SHORT_LIVED: LruPerCpuHashMap<u64, ShortLivedCount> = LruPerCpuHashMap::with_max_entries(16384, 0);

/// A handle was released that has left the table; the `number`th release on this CPU.
#[inline(always)]
pub(crate) fn released(entry: &Entry, release: &Release, number: u64) {
    if is_short_life(entry, release) {
        drop_short_lived(entry, release.flags & flag::NEVER_OPENED != 0);
    } else {
        gone(entry, release, number);
    }
}

/// A handle is gone that user space may or may not know; its release is the `number`th on this CPU.
#[inline(always)]
pub(crate) fn gone(entry: &Entry, release: &Release, number: u64) {
    // A handle that is pre-existing has no allocation to tell of: the walk does.
    if entry.generation != PREEXISTING {
        events::send_often(&handles::birth(release.handle, entry), number);
    }
    events::send_often(release, number);
}

#[inline(always)]
fn is_short_life(entry: &Entry, release: &Release) -> bool {
    // Where releases are seen late, in a bystander, nobody knows their cause.
    let closed = release.cause == Cause::Close as u8 || config::get!(free_is_late) != 0;
    // What is counted is found by the name of the stack, which must be one that comes again.
    closed
        && entry.state & state::ASKED == 0
        && entry.generation != PREEXISTING
        && release.time.wrapping_sub(entry.generation) < config::get!(min_age_ns)
}

#[inline(always)]
fn drop_short_lived(entry: &Entry, never_opened: bool) {
    count(Counter::ShortLived);
    if never_opened {
        count(Counter::ShortLivedNeverOpened);
    }
    let key = hash::call_key(entry.user_stack, entry.syscall, entry.detail);
    let one = ShortLivedCount { handles: 1, never_opened: u64::from(never_opened) };
    if let Some(sum) = SHORT_LIVED.get_ptr_mut(key) {
        // SAFETY: the pointer is to a value of the map, not null, and only this CPU writes here.
        unsafe { (*sum).add(one) };
    } else {
        // Where there is no room, the sum over all calls has it.
        let _ = SHORT_LIVED.insert(key, one, BPF_ANY);
    }
}
