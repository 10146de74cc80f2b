//! Child processes that do one thing and exit, without any of the runtime's own handles.

use anyhow::{Result, anyhow, ensure};
use std::{ffi::CStr, io, ptr};

/// Runs `body` in a child process, one after the other, and waits until it has exited: its handles are gone then.
///
/// `body` runs between fork and exit of a program that may have had threads, so it makes system calls and nothing else.
pub(super) fn in_children(count: u64, body: impl Fn() -> bool) -> Result<()> {
    for _ in 0..count {
        wait(fork(&body)?)?;
    }
    Ok(())
}

/// As [`in_children`], with something that the parent does while the child waits for it (in [`pause`]).
pub(super) fn beside_child(body: impl Fn() -> bool, parent: impl FnOnce()) -> Result<()> {
    let child = fork(&body)?;
    // SAFETY: a null pointer for the status is allowed, and nothing else is passed by address.
    let stopped = unsafe { libc::waitpid(child, ptr::null_mut(), libc::WUNTRACED) };
    parent();
    // SAFETY: kill takes no pointers; the child has not been waited for, so its number is still its own.
    unsafe { libc::kill(child, libc::SIGCONT) };
    ensure!(stopped == child, "waitpid: {}", io::Error::last_os_error());
    wait(child)
}

/// A child that runs another program until it is dropped.
#[derive(Debug)]
pub(super) struct Running(libc::pid_t);

impl Running {
    /// Starts a program that stops itself, and waits until it has.
    pub(super) fn start(program: &CStr) -> Result<Self> {
        let child = fork(&|| {
            // Should this process be killed, its children must not stay.
            // SAFETY: PR_SET_PDEATHSIG takes a number.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            execute(program)
        })?;
        let running = Self(child);
        // SAFETY: a null pointer for the status is allowed, and nothing else is passed by address.
        let stopped = unsafe { libc::waitpid(child, ptr::null_mut(), libc::WUNTRACED) };
        ensure!(stopped == child, "waitpid: {}", io::Error::last_os_error());
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so its number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: a null pointer for the status is allowed.
        if unsafe { libc::waitpid(self.0, ptr::null_mut(), 0) } != self.0 {
            eprintln!("workload: waitpid: {}", io::Error::last_os_error());
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

fn fork(body: &impl Fn() -> bool) -> Result<libc::pid_t> {
    // SAFETY: the child makes system calls only (see `in_children`) and leaves by _exit.
    match unsafe { libc::fork() } {
        -1 => Err(anyhow!("fork: {}", io::Error::last_os_error())),
        0 => {
            let status = i32::from(!body());
            // SAFETY: _exit takes no pointers. No exit handlers and no destructors: the kernel closes what is open.
            unsafe { libc::_exit(status) }
        }
        child => Ok(child),
    }
}

fn wait(child: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: `status` is an integer that outlives the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(waited == child, "waitpid: {}", io::Error::last_os_error());
    ensure!(status == 0, "a child failed, wait status {status:#x}");
    Ok(())
}
