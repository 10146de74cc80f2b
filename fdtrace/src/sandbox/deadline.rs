//! How long somebody waits for a process. On a busy machine it waits as well, for a processor: that is not its fault.

use std::time::{Duration, Instant};

use crate::process::usage::Usage;

/// A process that nobody lets run is not waited for longer than so many times what was meant.
const MAX: u32 = 10;

/// The end of patience.
pub(super) struct Deadline {
    until: Instant,
    last: Instant,
    /// Whose answer is waited for, how long it may run for it, and how long it had run before.
    process: Option<(libc::pid_t, Duration, Duration)>,
}

impl Deadline {
    /// So long from now on.
    pub(super) fn after(patience: Duration) -> Self {
        let until = Instant::now() + patience;
        Self { until, last: until, process: None }
    }

    /// The same for the answer of a process that runs; one that waits for something else than a processor gets no more.
    pub(super) fn for_process(patience: Duration, pid: libc::pid_t) -> Self {
        let before = usage(pid).unwrap_or_default().time;
        let last = Instant::now() + patience * MAX;
        Self { last, process: Some((pid, patience, before)), ..Self::after(patience) }
    }

    /// What is left; `None` when patience has ended.
    pub(super) fn left(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if now >= self.until
            && let Some((pid, patience, before)) = self.process
            && let Some(Usage { runs: true, time, .. }) = usage(pid)
        {
            let unused = patience.saturating_sub(time.saturating_sub(before));
            self.until = (now + unused).min(self.last);
        }
        Some(self.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

fn usage(pid: libc::pid_t) -> Option<Usage> {
    Usage::of(u32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_gets_no_more() {
        let mut deadline = Deadline::for_process(Duration::from_millis(5), 1);
        while deadline.left().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Instant::now() >= deadline.until && deadline.until < deadline.last);
    }
}
