//! How fast this machine is: what a usual one does in a second takes an emulated one ten.

use std::{hint::black_box, sync::OnceLock, time::Duration};

/// How many numbers are sorted to find out how fast a machine is, and how long a usual one runs for that.
const NUMBERS: u64 = 8192;
const USUAL: Duration = Duration::from_micros(250);
/// No machine is taken to be slower than so many usual ones.
const SLOWEST: u32 = 30;

/// How many times longer this machine runs for the same work than a usual one: by the processor's time, which is the same
/// however busy it is.
#[must_use]
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let took = time_to_sort();
        u32::try_from(took.as_nanos() / USUAL.as_nanos()).unwrap_or(SLOWEST).clamp(1, SLOWEST)
    })
}

fn time_to_sort() -> Duration {
    let before = thread_time();
    let mut state = 1_u64;
    let mut numbers: Vec<u64> = (0..NUMBERS)
        .map(|_| {
            // Knuth's generator (MMIX).
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        })
        .collect();
    numbers.sort_unstable();
    black_box(numbers);
    thread_time().saturating_sub(before)
}

/// For how long this thread has run.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid structure. The clock is there on all kernels; without it no time has passed.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_machine_is_faster_than_usual() {
        assert!((1..=SLOWEST).contains(&slowness()));
    }
}
