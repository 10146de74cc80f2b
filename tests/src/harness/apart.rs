//! Threads and programs that see the machine as a container does.

use crate::workload::NotPossible;
use anyhow::{Context as _, Result, anyhow};
use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{io, os::unix::process::CommandExt as _, process::Command, thread};

/// Runs `body` in a thread whose mounts nobody else sees: a file system that hangs must not hang others.
///
/// # Errors
/// Those of `body`; [`NotPossible`] when there are no such mounts.
pub fn with_own_mounts<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let work = || {
        unshare(UnshareFlags::NEWNS).map_err(|error| NotPossible(format!("namespaces: {error}")))?;
        body()
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
}

/// Makes system calls only.
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: no table of descriptors is unshared, which is what could make a descriptor somebody else's.
    unsafe { unshare_unsafe(flags) }?;
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Makes a command run as number 1 of a PID namespace, with the `/proc` that belongs to it. It cannot be started where
/// there is no such namespace.
pub fn in_own_processes(command: &mut Command) -> &mut Command {
    let enter = || {
        unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID)?;
        become_first()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(c"proc", c"/proc", c"proc", flags, None).map_err(Into::into)
    };
    // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(enter) }
}

/// Returns in the first child of this process, which waits for its end and ends in the same way.
fn become_first() -> io::Result<()> {
    // SAFETY: both processes make system calls only.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        child => {
            // Whoever waits for the end of an output must not wait for this process.
            // SAFETY: this process uses no descriptor any more.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
            let ended = waitpid(Pid::from_raw(child), WaitOptions::empty());
            let code = ended.ok().flatten().and_then(|(_, status)| status.exit_status());
            // SAFETY: ends the process without any clean-up of the runtime.
            unsafe { libc::_exit(code.unwrap_or(128)) }
        }
    }
}

/// Whether a command could not be started because the kernel refuses namespaces.
///
/// # Errors
/// Always: the same one, or [`NotPossible`].
pub fn unless_refused<T>(result: Result<T>) -> Result<T> {
    result
        .map_err(|error| {
            let number = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
            match number.map(Errno::from_raw_os_error) {
                Some(errno @ (Errno::PERM | Errno::NOSYS | Errno::INVAL | Errno::NOSPC)) => {
                    NotPossible(format!("namespaces: {errno}")).into()
                }
                _ => error,
            }
        })
        .context("in namespaces of its own")
}
