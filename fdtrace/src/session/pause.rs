//! Waits between two samples, for a verb that forks and may have one thread only: a runtime would have more.

use std::{
    io,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

/// SIGINT and SIGTERM, which end a wait. The work in hand is finished after the first one; the second one ends the
/// process, whatever it does.
pub(crate) struct Pause {
    signals: libc::sigset_t,
}

impl Pause {
    pub(crate) fn new() -> io::Result<Self> {
        let mut signals = MaybeUninit::uninit();
        // SAFETY: fills in the set.
        unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
        // SAFETY: was just filled in.
        let mut signals = unsafe { signals.assume_init() };
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: a set that is filled in.
            unsafe { libc::sigaddset(&raw mut signals, signal) };
            handle(signal)?;
        }
        Ok(Self { signals })
    }

    /// Waits; false when a signal has come, before or meanwhile.
    pub(crate) fn wait(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        let mut before = MaybeUninit::uninit();
        // A signal that comes between the question and the sleep would be slept through, so it is let in by the sleep.
        // SAFETY: two sets, of which the second is filled in.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const self.signals, before.as_mut_ptr()) };
        // SAFETY: was just filled in.
        let before = unsafe { before.assume_init() };
        while !STOPPED.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sleep(left, &before);
        }
        // SAFETY: the set that was there before.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
        !STOPPED.load(Ordering::Relaxed)
    }
}

fn handle(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: all zeros is a valid structure, without flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = stop as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the handler does nothing but set a flag.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sleeps, with these signals blocked and no others; ends early when one comes.
fn sleep(duration: Duration, blocked: &libc::sigset_t) {
    let time = libc::timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    };
    // SAFETY: no descriptors, a valid time and a valid set.
    unsafe { libc::ppoll(ptr::null_mut(), 0, &raw const time, blocked) };
}
