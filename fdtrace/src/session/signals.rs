//! Signals. One thread takes them, so they are heard whatever fdtrace is doing; what they do depends on how far it is.
//!
//! | stage | the first that asks to stop | the second |
//! |---|---|---|
//! | nothing runs yet | ends fdtrace | |
//! | a command runs (a service is evaluated first) | is the command's, as all others are | is the command's; what is left of it soon after is killed |
//! | something is watched | ends the watching | ends fdtrace |
//! | the command has ended | ends fdtrace if the work in hand takes long | ends fdtrace |
//!
//! fdtrace then ends with 128 and the signal's number.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::{process::Child, sync::Notify};

use super::command::is_ignored;
use crate::kernel::Capabilities;

/// What whoever started fdtrace may send to it for a command.
pub(crate) const FOR_A_COMMAND: &[Signal] =
    &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// What ends a trace that runs no command.
pub(crate) const TO_STOP: &[Signal] = &[Signal::SIGINT, Signal::SIGTERM];

/// Names of signals for `--signal`.
const NAMES: [(&str, i32); 8] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("TERM", libc::SIGTERM),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("KILL", libc::SIGKILL),
    ("ABRT", libc::SIGABRT),
];

/// So long a command may go on that was told to stop twice.
const GRACE: Duration = Duration::from_millis(500);
/// So long the work in hand may take that somebody wants to end: to evaluate a service before it is reported, or to finish.
const REPEAT_TIMEOUT: Duration = Duration::from_millis(1200);
/// How often the time is looked at while something is timed.
const TICK: Duration = Duration::from_millis(50);

/// A signal by its name, with or without `SIG`, or by its number.
pub(crate) fn parse(text: &str) -> Result<i32, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = || name.parse().ok().filter(|number| (1..64).contains(number));
    named.or_else(number).ok_or_else(|| format!("{text} is no signal; TERM, INT and HUP are some"))
}

/// The signals that are sent to fdtrace.
pub(crate) struct Signals(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    stopped: Notify,
}

struct State {
    stage: Stage,
    /// How many have asked to stop.
    stops: u32,
    /// What a service gets when it has been evaluated.
    held: Option<i32>,
    timed: Option<(Instant, Then)>,
}

enum Stage {
    /// Nothing has been started.
    Starting,
    /// A command runs, by this handle of it: its number may become another's. A service is evaluated before it is told to end.
    Command { process: OwnedFd, is_service: bool },
    /// Something is watched that is not ours.
    Watching,
    /// It is over, and somebody waits for the status.
    Finishing,
}

/// What happens when the time is up.
#[derive(Clone, Copy)]
enum Then {
    PassOn,
    KillCommand,
    End(i32),
}

impl Signals {
    /// Takes these, from now on, in this thread and all that it starts.
    pub(crate) fn take(signals: &[Signal]) -> io::Result<Self> {
        // What the command ignores it need not be sent.
        let heard: SigSet = signals.iter().filter(|signal| !is_ignored(**signal as i32)).copied().collect();
        heard.thread_block()?;
        let state = State { stage: Stage::Starting, stops: 0, held: None, timed: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), stopped: Notify::new() });
        let hears = Arc::clone(&shared);
        std::thread::Builder::new().name("fdtrace-signals".to_owned()).spawn(move || hears.hear(&heard))?;
        Ok(Self(shared))
    }

    /// Starts a command, to which signals are passed on from its first moment.
    pub(crate) fn start<E>(
        &self,
        is_service: bool,
        start: impl FnOnce() -> Result<Child, E>,
    ) -> io::Result<Result<Child, E>> {
        // A signal that comes meanwhile waits, and is the command's.
        let mut state = self.0.lock();
        let mut child = match start() {
            Ok(child) => child,
            Err(reason) => return Ok(Err(reason)),
        };
        let handle = handle(child.id().unwrap_or(0)).inspect_err(|_| drop(child.start_kill()))?;
        state.stage = Stage::Command { process: handle, is_service };
        Ok(Ok(child))
    }

    /// Sends a signal to the command; one that is gone needs none.
    pub(crate) fn send(&self, signal: i32) {
        self.0.lock().send(signal);
    }

    /// Sends the command what was held back until it was evaluated.
    pub(crate) fn pass_on(&self) {
        self.0.lock().pass_on();
    }

    /// From now on the first signal ends the watching.
    pub(crate) fn watch(&self) {
        self.0.lock().stage = Stage::Watching;
    }

    /// Ends when the watching is to end, or a service.
    pub(crate) async fn stopped(&self) {
        self.0.stopped.notified().await;
    }

    /// What there was to watch is over.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock();
        state.stage = Stage::Finishing;
        // Whoever had to ask twice does not wait for long now.
        state.timed = (state.stops > 1).then(|| (Instant::now() + REPEAT_TIMEOUT, Then::End(libc::SIGKILL)));
    }

    /// Whether somebody wants it to end.
    pub(crate) fn is_hurried(&self) -> bool {
        self.0.lock().stops > 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, signals: &SigSet) {
        // The others give up theirs when all is attached. Without the right to give up there is none to keep.
        let _ = Capabilities::to_signal().keep_only();
        loop {
            let patience = self.lock().timed.map(|_| TICK);
            match next(signals, patience) {
                Some(signal) => self.take(signal),
                None => self.check_time(),
            }
        }
    }

    fn take(&self, signal: i32) {
        let mut state = self.lock();
        let stops = asks_to_stop(signal, &state.stage);
        match &state.stage {
            Stage::Command { is_service, .. } if is_from_terminal(signal) => {
                if *is_service {
                    self.stopped.notify_one();
                }
                return;
            }
            Stage::Command { is_service: true, .. } if stops && state.stops == 0 => {
                state.held = Some(signal);
                self.stopped.notify_one();
            }
            Stage::Command { .. } => {
                state.pass_on();
                state.send(signal);
            }
            Stage::Starting => end(signal),
            Stage::Watching | Stage::Finishing => {}
        }
        if stops {
            state.stops += 1;
            self.stop(&mut state, signal);
        }
    }

    fn stop(&self, state: &mut State, signal: i32) {
        match (&state.stage, state.stops) {
            (Stage::Watching, 1) => self.stopped.notify_one(),
            (Stage::Command { .. }, 1) if state.held.is_some() => state.time(REPEAT_TIMEOUT, Then::PassOn),
            (Stage::Command { .. }, 1) => {}
            (Stage::Command { .. }, _) => state.time(GRACE, Then::KillCommand),
            (Stage::Finishing, 1) => state.time(REPEAT_TIMEOUT, Then::End(signal)),
            _ => end(signal),
        }
    }

    fn check_time(&self) {
        let mut state = self.lock();
        let Some((moment, then)) = state.timed else { return };
        if Instant::now() < moment {
            return;
        }
        state.timed = None;
        match then {
            Then::PassOn => state.pass_on(),
            Then::KillCommand => state.send(libc::SIGKILL),
            Then::End(signal) => end(signal),
        }
    }
}

impl State {
    fn time(&mut self, patience: Duration, then: Then) {
        self.timed = Some((Instant::now() + patience, then));
    }

    fn send(&self, signal: i32) {
        if let Stage::Command { process, .. } = &self.stage {
            send(process, signal);
        }
    }

    fn pass_on(&mut self) {
        if let Some(signal) = self.held.take() {
            self.send(signal);
        }
    }
}

/// Signals that a command may use for what it likes stop nothing but the watching of others.
const fn asks_to_stop(signal: i32, stage: &Stage) -> bool {
    match stage {
        Stage::Command { .. } => matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGQUIT),
        Stage::Finishing => !matches!(signal, libc::SIGUSR1 | libc::SIGUSR2),
        Stage::Starting | Stage::Watching => true,
    }
}

/// Ends fdtrace, whatever else it is doing: the kernel detaches what is attached.
fn end(signal: i32) -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(128 + signal) }
}

/// The next signal; nothing when none comes in time.
fn next(signals: &SigSet, patience: Option<Duration>) -> Option<i32> {
    let time = patience.map(|patience| libc::timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut about = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: a set that is filled in, room for what is reported, and a time or none.
    let signal = unsafe { libc::sigtimedwait(signals.as_ref(), about.as_mut_ptr(), time) };
    (signal > 0).then_some(signal)
}

/// A handle of a child that has not been waited for.
fn handle(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    match i32::try_from(handle) {
        // SAFETY: the kernel has just made it for us.
        Ok(handle) if handle >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(handle) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn send(process: &OwnedFd, signal: i32) {
    let process = libc::c_long::from(process.as_raw_fd());
    let signal = libc::c_long::from(signal);
    // SAFETY: a handle of a process, a number, and no further information.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, ptr::null::<u8>(), 0) };
}

/// Whether the terminal has sent a signal to the command as well: it sends to all that run in its foreground.
fn is_from_terminal(signal: i32) -> bool {
    if signal != libc::SIGINT && signal != libc::SIGQUIT {
        return false;
    }
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    // SAFETY: a valid descriptor.
    let foreground = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    // SAFETY: takes nothing.
    foreground == unsafe { libc::getpgrp() }
}

/// A file that has reached RLIMIT_FSIZE kills its writer, unless it handles the signal; then writing is an error. A handler
/// is nothing that a command would inherit.
pub(crate) fn survive_large_files() {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &action) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!(parse("TERM"), Ok(15));
        assert_eq!(parse("SIGINT"), Ok(2));
        assert_eq!(parse("9"), Ok(9));
        assert!(parse("NOW").is_err() && parse("0").is_err() && parse("99").is_err());
    }

    #[test]
    fn what_stops_depends_on_the_stage() {
        let stops = |signal| {
            [Stage::Starting, Stage::Watching, Stage::Finishing].map(|stage| asks_to_stop(signal, &stage))
        };
        assert_eq!(stops(libc::SIGTERM), [true; 3]);
        assert_eq!(stops(libc::SIGUSR1), [true, true, false]);
    }
}
