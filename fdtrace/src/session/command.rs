//! The command, started as whoever started fdtrace would have started it.

use std::{
    ffi::{OsStr, OsString},
    io, mem,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::getppid,
};
use tokio::process::{Child, Command};

use super::user::Credentials;
use crate::model::check::Ended;

/// It cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// It is not found.
const NOT_FOUND: u8 = 127;

/// Signals that were ignored when fdtrace was started, a bit for each. Rust's start-up ignores SIGPIPE itself, and who
/// catches a signal forgets that it was ignored; `nohup` and shells want it to stay so for the command.
static IGNORED: AtomicU64 = AtomicU64::new(0);

/// Standard streams that were closed then. Rust's start-up opens `/dev/null` for each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before Rust's start-up.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note_start;

extern "C" fn note_start() {
    let ignored = (1..64).filter(|signal| asks_to_ignore(*signal)).map(bit);
    IGNORED.store(ignored.sum(), Ordering::Relaxed);
    // SAFETY: takes numbers.
    let closed = (0..3).filter(|stream| unsafe { libc::fcntl(*stream, libc::F_GETFD) } == -1);
    CLOSED.store(closed.map(|stream| 1 << stream).sum(), Ordering::Relaxed);
}

fn asks_to_ignore(signal: libc::c_int) -> bool {
    // SAFETY: all zeros are a valid structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: a valid structure, which the kernel fills.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } == 0;
    asked && action.sa_sigaction == libc::SIG_IGN
}

const fn bit(signal: libc::c_int) -> u64 {
    1 << signal
}

/// Whether whoever started fdtrace wants a signal ignored.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    IGNORED.load(Ordering::Relaxed) & bit(signal) != 0
}

/// What a process passes on to what it starts, and fdtrace changes for itself.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    mask: libc::sigset_t,
    locked_memory: libc::rlimit,
}

impl Passed {
    /// As it is now, before anything is changed.
    pub(crate) fn read() -> io::Result<Self> {
        // SAFETY: all zeros are valid structures.
        let mut passed: Self = unsafe { mem::zeroed() };
        // SAFETY: a valid structure, which is filled.
        let failed =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut passed.mask) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        // SAFETY: as above.
        if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut passed.locked_memory) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Where it is ignored, nobody can be asked how the command ended.
        // SAFETY: the default needs no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        Ok(passed)
    }

    /// Puts it back, in the process that is about to become the command: only calls that are safe after a fork.
    fn restore(&self) -> io::Result<()> {
        // SAFETY: a valid structure.
        if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const self.locked_memory) } != 0 {
            return Err(io::Error::last_os_error());
        }
        for signal in (1..64).filter(|signal| is_ignored(*signal)) {
            // SAFETY: ignoring a signal needs no handler.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        for stream in (0..3).filter(|stream| CLOSED.load(Ordering::Relaxed) & 1 << stream != 0) {
            // SAFETY: nothing is written or read from here on by this process before it becomes the command.
            unsafe { libc::close(stream) };
        }
        self.unblock();
        Ok(())
    }

    /// Lets the signals in that fdtrace keeps for a thread of its own: safe after a fork, as above.
    pub(crate) fn unblock(&self) {
        // SAFETY: a valid structure.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut()) };
    }
}

/// Makes a child that has just been forked get a signal when fdtrace dies, be it by SIGKILL: only calls that are safe
/// after a fork. The thread that forked must be fdtrace's first.
///
/// # Errors
/// When fdtrace is gone already.
pub(crate) fn die_with(parent: u32, signal: Signal) -> io::Result<()> {
    set_pdeathsig(signal)?;
    if u32::try_from(getppid().as_raw()) == Ok(parent) { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Where a command announces its scopes.
pub(crate) const SCOPE: &str = "FDTRACE_SCOPE";

/// What a command is reported that.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// A socket.
    As(&'a Path),
    /// There is none, although there might be one in the environment.
    None,
    /// What fdtrace itself was reported.
    Inherited,
}

/// Starts the command; or says the exit status that `env` has for why it cannot be started, and a sentence. With `last` it
/// gets that signal when fdtrace dies.
pub(crate) fn start(
    command: &[OsString],
    passed: Passed,
    credentials: Option<Credentials>,
    last: Option<Signal>,
    scope: Scope<'_>,
) -> Result<Child, (u8, String)> {
    let Some((program, arguments)) = command.split_first() else { return Err((2, "no command".to_owned())) };
    let mut starting = Command::new(program);
    starting.args(arguments);
    match scope {
        Scope::As(path) => drop(starting.env(SCOPE, path)),
        Scope::None => drop(starting.env_remove(SCOPE)),
        Scope::Inherited => {}
    }
    let user = credentials.as_ref().map_or(String::new(), |credentials| format!(" as {credentials}"));
    let ours = std::process::id();
    // SAFETY: between fork and exec there are only system calls: nothing is allocated, and no lock is taken.
    unsafe {
        starting.pre_exec(move || {
            credentials.as_ref().map_or(Ok(()), Credentials::become_it)?;
            // Becoming somebody else would forget it.
            last.map_or(Ok(()), |last| die_with(ours, last))?;
            passed.restore()
        });
    }
    starting.spawn().map_err(|error| not_started(&error, program, &user))
}

/// Becomes the command: why it cannot, as [`start`] says it.
pub(crate) fn replace(command: &[OsString], passed: Passed) -> (u8, String) {
    let Some((program, arguments)) = command.split_first() else { return (2, "no command".to_owned()) };
    let mut replacing = std::process::Command::new(program);
    // SAFETY: there are only system calls, as before.
    unsafe { replacing.args(arguments).pre_exec(move || passed.restore()) };
    not_started(&replacing.exec(), program, "")
}

fn not_started(error: &io::Error, program: &OsStr, user: &str) -> (u8, String) {
    let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
    (status, format!("cannot run {}{user}: {error}", program.to_string_lossy()))
}

/// The file that a command names, where it is found.
pub(crate) fn file_of(command: &[OsString]) -> Option<PathBuf> {
    let program = Path::new(command.first()?);
    if program.components().count() > 1 || program.is_absolute() {
        return Some(program.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// How it ended.
pub(crate) fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Status(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }
}

/// Takes in processes that have lost their parent, when fdtrace is the first process of a container; but not those that
/// somebody here waits for.
pub(crate) fn reap(others: &[u32]) {
    if std::process::id() != 1 {
        return;
    }
    loop {
        // SAFETY: all zeros are a valid structure.
        let mut found: libc::siginfo_t = unsafe { mem::zeroed() };
        // Look before taking: some are waited for elsewhere.
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: a valid structure, which the kernel fills.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut found, options) } != 0 {
            return;
        }
        // SAFETY: filled for a process that has ended, zeros otherwise.
        let pid = unsafe { found.si_pid() };
        if pid == 0 || u32::try_from(pid).is_ok_and(|pid| others.contains(&pid)) {
            return;
        }
        // SAFETY: takes numbers; the status is not wanted.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    }
}
