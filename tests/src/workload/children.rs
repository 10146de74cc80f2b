//! Child processes that do one thing and exit or stop, without any of the runtime's own handles.

use super::ledger::Ledger;
use anyhow::{Result, anyhow, ensure};
use rustix::{
    io,
    process::{Signal, getpid, kill_process, set_parent_process_death_signal},
};
use std::{ffi::CStr, mem::forget, os::fd::RawFd, ptr};

/// Runs `body` in a child process, one after the other, and waits until it has exited: its handles are gone then.
///
/// `body` runs between fork and exit of a program that may have had threads, so it makes system calls and nothing else.
pub(super) fn in_children(count: u64, body: impl Fn() -> bool) -> Result<()> {
    for _ in 0..count {
        wait(fork(&|| i32::from(!body()))?)?;
    }
    Ok(())
}

/// As [`in_children`], with something that the parent does while the child waits for it (in [`pause`]).
pub(super) fn beside_child(body: impl Fn() -> bool, parent: impl FnOnce()) -> Result<()> {
    let child = fork(&|| i32::from(!body()))?;
    // SAFETY: a null pointer for the status is allowed, and nothing else is passed by address.
    let stopped = unsafe { libc::waitpid(child, ptr::null_mut(), libc::WUNTRACED) };
    parent();
    // SAFETY: kill takes no pointers; the child has not been waited for, so its number is still its own.
    unsafe { libc::kill(child, libc::SIGCONT) };
    ensure!(stopped == child, "waitpid: {}", std::io::Error::last_os_error());
    wait(child)
}

/// A child that holds something until it is dropped.
#[derive(Debug)]
pub(super) struct Running(libc::pid_t);

impl Running {
    /// Starts a program that stops itself, and waits until it has.
    pub(super) fn start(program: &CStr, ledger: &Ledger) -> Result<Self> {
        Self::fork(ledger, &[], || replace(program))
    }

    /// Forks a child that runs `body` and stops, and waits until it has. It inherits nothing from the parent but these
    /// descriptors: what a child has by accident would be held twice.
    ///
    /// `body` makes system calls and nothing else; it may end by becoming a program that stops itself.
    pub(super) fn fork(ledger: &Ledger, kept: &[RawFd], body: impl Fn() -> io::Result<()>) -> Result<Self> {
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        let child = fork(&|| match inherit_only(ledger, &kept).and_then(|()| body()) {
            Ok(()) => stop_for_good(),
            Err(error) => error.raw_os_error(),
        })?;
        let running = Self(child);
        match wait_for(child, libc::WUNTRACED)? {
            status if libc::WIFSTOPPED(status) => Ok(running),
            status => {
                // It has been waited for; its number is not ours any more.
                forget(running);
                Err(ended(status))
            }
        }
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.0.cast_unsigned()
    }
}

/// What is known of a child that ended instead of stopping.
fn ended(status: i32) -> anyhow::Error {
    if libc::WIFEXITED(status) {
        // Zero says that it had nothing to complain about, and no reason to end.
        let error = std::io::Error::from_raw_os_error(libc::WEXITSTATUS(status));
        return anyhow::Error::new(error).context("a child failed");
    }
    anyhow!("a child ended with wait status {status:#x}")
}

fn inherit_only(ledger: &Ledger, kept: &[RawFd]) -> io::Result<()> {
    // Should the parent be killed, its children must not stay.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    ledger.leave();
    let mut first = 0;
    for descriptor in kept.iter().map(|descriptor| descriptor.cast_unsigned()) {
        if first < descriptor {
            close_range(first, descriptor - 1)?;
        }
        first = descriptor + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: close_range takes numbers. This process is a child that uses none of these descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Stops the calling process, whatever wakes it up.
pub(super) fn stop_for_good() -> ! {
    loop {
        // Fails for nobody who signals himself.
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

/// As [`execute`], and says what went wrong.
pub(super) fn replace(program: &CStr) -> io::Result<()> {
    execute(program);
    Err(last_error())
}

fn last_error() -> io::Errno {
    io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::INVAL)
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so its number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: a null pointer for the status is allowed.
        if unsafe { libc::waitpid(self.0, ptr::null_mut(), 0) } != self.0 {
            eprintln!("workload: waitpid: {}", std::io::Error::last_os_error());
        }
    }
}

/// Stops the calling child until its parent has done its part.
pub(super) fn pause() {
    // SAFETY: raise takes no pointers, and SIGSTOP runs no code of ours.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Replaces the program; returns only when that failed.
pub(super) fn execute(program: &CStr) -> bool {
    let arguments = [program.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    // SAFETY: three zero-terminated strings or lists of them, alive for the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    false
}

fn fork(body: &impl Fn() -> i32) -> Result<libc::pid_t> {
    // SAFETY: the child makes system calls only (see `in_children`) and leaves by _exit.
    match unsafe { libc::fork() } {
        -1 => Err(anyhow!("fork: {}", std::io::Error::last_os_error())),
        0 => {
            let status = body();
            // SAFETY: _exit takes no pointers. No exit handlers and no destructors: the kernel closes what is open.
            unsafe { libc::_exit(status) }
        }
        child => Ok(child),
    }
}

fn wait(child: libc::pid_t) -> Result<()> {
    let status = wait_for(child, 0)?;
    ensure!(status == 0, "a child failed, wait status {status:#x}");
    Ok(())
}

fn wait_for(child: libc::pid_t, options: i32) -> Result<i32> {
    let mut status = 0;
    // SAFETY: `status` is an integer that outlives the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, options) };
    ensure!(waited == child, "waitpid: {}", std::io::Error::last_os_error());
    Ok(status)
}
