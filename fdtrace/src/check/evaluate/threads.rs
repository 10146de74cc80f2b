//! What each thread did, and which were cut off.

use std::collections::HashMap;

use crate::stream::Cut;

/// Threads by their numbers.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    /// How many calls each has made. A number that is used again goes on.
    calls: HashMap<u32, u64>,
    cuts: HashMap<u32, Vec<Cut>>,
}

/// System calls that wait for something else to happen: whoever is in one has nothing in hand that it is about to put down.
const WAITS: [libc::c_long; 17] = [
    libc::SYS_futex,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_msgrcv,
    libc::SYS_semtimedop,
];

/// Those that only older architectures have.
#[cfg(target_arch = "x86_64")]
const OLD_WAITS: [libc::c_long; 4] =
    [libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pause];
#[cfg(not(target_arch = "x86_64"))]
const OLD_WAITS: [libc::c_long; 0] = [];

impl Threads {
    /// A thread makes a call, or gets one more handle from its last one; says which call of its own that is.
    pub(crate) fn call(&mut self, tid: u32, first: bool) -> u64 {
        let calls = self.calls.entry(tid).or_default();
        *calls += u64::from(first);
        *calls
    }

    /// How many calls a thread has made since this one.
    pub(crate) fn age(&self, (tid, number): (u32, u64)) -> u64 {
        self.calls.get(&tid).map_or(0, |calls| calls.saturating_sub(number))
    }

    pub(crate) fn cut(&mut self, cut: Cut) {
        self.cuts.entry(cut.tid).or_default().push(cut);
    }

    /// How the thread was cut off that made a handle at a moment; `None` for one that ended itself, or runs.
    pub(crate) fn cut_of(&self, tid: u32, generation: u64) -> Option<Cut> {
        let cuts = self.cuts.get(&tid)?;
        cuts.iter().find(|cut| (cut.began..=cut.time).contains(&generation)).copied()
    }
}

/// Whether a thread was waiting when it was cut off.
pub(crate) fn was_waiting(cut: &Cut) -> bool {
    let is = |number: &libc::c_long| cut.syscall.is_some_and(|known| libc::c_long::from(known) == *number);
    WAITS.iter().any(is) || OLD_WAITS.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_another_thread() {
        let mut threads = Threads::default();
        threads.cut(Cut { time: 50, tid: 7, began: 40, syscall: None });
        assert!(threads.cut_of(7, 45).is_some());
        assert_eq!(threads.cut_of(7, 30), None, "of the one before, which ended itself");
        assert_eq!(threads.cut_of(8, 45), None);
    }

    #[test]
    fn whoever_waits_puts_nothing_down() {
        let in_call =
            |number: libc::c_long| Cut { time: 2, tid: 1, began: 1, syscall: u16::try_from(number).ok() };
        assert!(was_waiting(&in_call(libc::SYS_futex)));
        assert!(!was_waiting(&in_call(libc::SYS_openat)));
        assert!(!was_waiting(&Cut { syscall: None, ..in_call(0) }));
    }
}
