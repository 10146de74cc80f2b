//! How long somebody waits for an answer. One file may take a second, but many files that do are somebody's plan.
//!
//! A second of a usual machine, that is: one that is emulated needs ten for the same, and nobody made that up.

use std::{
    collections::VecDeque,
    hint::black_box,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// What the largest programs take of a slow disk.
const AT_FIRST: Duration = Duration::from_secs(1);
/// What a usual program takes.
const LATER: Duration = Duration::from_millis(100);
/// So many may be late in a while before patience ends.
const MOST_LATE: usize = 3;
const WHILE: Duration = Duration::from_secs(60);

/// How many numbers are sorted to find out how fast a machine is, and how long a usual one runs for that.
const NUMBERS: u64 = 8192;
const USUAL: Duration = Duration::from_micros(250);
/// No machine is taken to be slower than so many usual ones.
const SLOWEST: u32 = 30;

/// How long a first question may take on this machine.
pub(super) fn at_first() -> Duration {
    AT_FIRST * slowness()
}

/// How many times longer this machine runs for the same work than a usual one: by the processor's time, which is the same
/// however busy it is.
fn slowness() -> u32 {
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

/// When questions were answered too late.
pub(super) struct Patience {
    at_first: Duration,
    late: VecDeque<Instant>,
}

impl Patience {
    pub(super) const fn new(at_first: Duration) -> Self {
        Self { at_first, late: VecDeque::new() }
    }

    pub(super) fn now(&mut self) -> Duration {
        self.late.retain(|late| late.elapsed() < WHILE);
        if self.late.len() < MOST_LATE { self.at_first } else { LATER * slowness() }
    }

    pub(super) fn lost(&mut self) {
        self.late.push_back(Instant::now());
        if self.late.len() > MOST_LATE {
            self.late.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_many_are_late() {
        let mut patience = Patience::new(Duration::MAX);
        for _ in 0..MOST_LATE {
            assert_eq!(patience.now(), Duration::MAX);
            patience.lost();
        }
        assert_eq!(patience.now(), LATER * slowness());
    }

    #[test]
    fn a_slow_machine_gets_more_and_none_gets_less() {
        assert!((1..=SLOWEST).contains(&slowness()));
        assert_eq!(at_first(), AT_FIRST * slowness());
    }
}
