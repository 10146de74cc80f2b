//! Namespaces as a container has them.

use super::{NotPossible, bring_up_loopback};
use anyhow::{Context as _, Result};
use rustix::{
    process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{fs, io, process::ExitCode};

/// On which side of the border a process has come out.
#[derive(Debug)]
pub enum Side {
    /// The one that stayed outside has waited for the other's end.
    Outside(ExitCode),
    /// The other, with the number that it has outside.
    Inside(u32),
}

/// Forks a child into PID, network, IPC, mount and UTS namespaces of its own, and waits for its end.
///
/// # Errors
/// When they cannot be had ([`NotPossible`]), or the child cannot find out who it is.
pub fn enter_namespaces() -> Result<Side> {
    let all = UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS;
    // SAFETY: no table of descriptors is unshared, which is what could make a descriptor somebody else's.
    unsafe { unshare_unsafe(all) }.map_err(|error| NotPossible(format!("namespaces: {error}")))?;
    // SAFETY: this process has one thread, so the child may do whatever it could.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("fork"),
        0 => inside().map(Side::Inside),
        child => outside(child).map(Side::Outside),
    }
}

fn inside() -> Result<u32> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    bring_up_loopback().context("no loopback interface")?;
    // `/proc` was mounted outside, and counts as they do there.
    let link = fs::read_link("/proc/self").context("/proc/self")?;
    link.to_string_lossy().parse().context("/proc/self leads nowhere")
}

fn outside(child: libc::pid_t) -> Result<ExitCode> {
    let waited = waitpid(Pid::from_raw(child), WaitOptions::empty()).context("waitpid")?;
    let code = waited.and_then(|(_, status)| status.exit_status()).and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
