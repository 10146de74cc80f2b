//! How long somebody waits for a process. On a busy machine it waits as well, for a processor: that is not its fault.

use std::time::{Duration, Instant};

use crate::process::procfs::{Text, number};

/// A process that nobody lets run is not waited for longer than so many times what was meant.
const MOST: u32 = 10;

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
        let before = Activity::of(pid).unwrap_or_default().used;
        let last = Instant::now() + patience * MOST;
        Self { last, process: Some((pid, patience, before)), ..Self::after(patience) }
    }

    /// What is left; `None` when patience has ended.
    pub(super) fn left(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if now >= self.until
            && let Some((pid, patience, before)) = self.process
            && let Some(Activity { runs: true, used }) = Activity::of(pid)
        {
            let unused = patience.saturating_sub(used.saturating_sub(before));
            self.until = (now + unused).min(self.last);
        }
        Some(self.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

/// What a process does (`/proc/PID/stat`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Activity {
    /// It runs, or would if there were a processor.
    runs: bool,
    /// For how long it has run.
    used: Duration,
}

impl Activity {
    fn of(pid: libc::pid_t) -> Option<Self> {
        // SAFETY: takes a number and returns one.
        let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
        Self::parse(&Text::of(u32::try_from(pid).ok()?, "stat").ok()?, ticks)
    }

    /// Of the fields behind the name the first is the state, and the 12th and 13th are times.
    fn parse(stat: &Text, ticks: u64) -> Option<Self> {
        let mut fields = stat.behind_the_name()?;
        let runs = fields.next()? == b"R";
        let (user, system): (u64, u64) = (number(fields.nth(10)?)?, number(fields.next()?)?);
        Some(Self {
            runs,
            used: Duration::from_millis((user + system).checked_mul(1000)?.checked_div(ticks)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_does() {
        let stat = Text::from(&b"77 (a) R) D 1 2 3 4 5 6 7 8 9 10 150 50 0 0\n"[..]);
        let found = Activity { runs: false, used: Duration::from_secs(2) };
        assert_eq!(Activity::parse(&stat, 100), Some(found));
        assert_eq!(Activity::parse(&Text::from(&b"77 (a) R 1 2 3"[..]), 100), None);
        let this = libc::pid_t::try_from(std::process::id()).expect("a number");
        assert!(Activity::of(this).is_some());
    }

    #[test]
    fn whoever_waits_gets_no_more() {
        let mut deadline = Deadline::for_process(Duration::from_millis(5), 1);
        while deadline.left().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Instant::now() >= deadline.until && deadline.until < deadline.last);
    }
}
