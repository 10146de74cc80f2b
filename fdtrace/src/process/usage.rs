//! What a process uses of the machine.

use std::time::Duration;

use super::procfs::{Text, fields, number};

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// It runs, or would if there were a processor.
    pub(crate) runs: bool,
    /// For how long it has run, to the next hundredth of a second below.
    pub(crate) time: Duration,
    /// Its memory.
    pub(crate) resident_bytes: u64,
}

impl Usage {
    /// `None` when it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let setting = |name| {
            // SAFETY: takes a number and returns one.
            u64::try_from(unsafe { libc::sysconf(name) }).ok()
        };
        Self::parse(&Text::of(pid, "stat").ok()?, setting(libc::_SC_CLK_TCK)?, setting(libc::_SC_PAGESIZE)?)
    }

    /// Of the fields behind the name the first is the state, the 12th and 13th are times, and the 22nd is pages of memory.
    fn parse(stat: &Text, ticks: u64, page: u64) -> Option<Self> {
        let mut fields = stat.behind_the_name()?;
        let runs = fields.next()? == b"R";
        let (user, system): (u64, u64) = (number(fields.nth(10)?)?, number(fields.next()?)?);
        let pages: u64 = number(fields.nth(8)?)?;
        let time = user.checked_add(system)?.checked_mul(1000)?.checked_div(ticks)?;
        Some(Self { runs, time: Duration::from_millis(time), resident_bytes: pages.checked_mul(page)? })
    }
}

/// The children of a process's first thread; none where the kernel does not say.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = Text::or_empty(format!("/proc/{pid}/task/{pid}/children"));
    fields(&text).filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_does() {
        let stat = Text::from(&b"77 (a) R) D 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 9 8192 3 0\n"[..]);
        let found = Usage { runs: false, time: Duration::from_secs(2), resident_bytes: 12_288 };
        assert_eq!(Usage::parse(&stat, 100, 4096), Some(found));
        assert_eq!(Usage::parse(&Text::from(&b"77 (a) R 1 2 3"[..]), 100, 4096), None);
        assert!(Usage::of(std::process::id()).is_some_and(|usage| usage.resident_bytes > 0));
        assert_eq!(Usage::of(0), None);
    }
}
