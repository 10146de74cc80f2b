//! The shell command of `--until`: it is run again until it succeeds, and never outlives the check.

use std::{
    cell::Cell,
    io,
    process::{Stdio, id},
    time::Duration,
};

use nix::{
    sys::{
        signal::{SigSet, Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getpgrp},
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::super::command::{Passed, die_with};

/// More descriptors than fdtrace has.
const MAX_OPEN: i32 = 4096;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// Ends when a shell command has succeeded; never without one. `process` is the shell's number while one runs.
pub(crate) async fn holds(command: Option<&str>, passed: Passed, process: &Cell<u32>) {
    let Some(command) = command else { return std::future::pending().await };
    loop {
        let Ok(shell) = start(command, passed) else { return std::future::pending().await };
        let mut shell = Shell(shell);
        process.set(shell.0.id().unwrap_or(0));
        let holds = shell.0.wait().await.is_ok_and(|status| status.success());
        process.set(0);
        if holds {
            return;
        }
        // A service needs a while before anybody can ask it something.
        sleep(RETRY).await;
    }
}

fn start(command: &str, passed: Passed) -> io::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    // What is read and written is the service's alone.
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let ours = id();
    // SAFETY: between fork and exec, and in the guard, there are only system calls: nothing is allocated, no lock is taken.
    unsafe { shell.pre_exec(move || guard(ours, passed)) };
    shell.spawn()
}

/// Forks once more: the new process becomes the shell, and the one that fdtrace waits for stays, to kill the whole group
/// when fdtrace dies. A signal to the shell alone would leave what it has started.
fn guard(parent: u32, passed: Passed) -> io::Result<()> {
    let heard: SigSet = [Signal::SIGTERM, Signal::SIGCHLD].into_iter().collect();
    heard.thread_block()?;
    die_with(parent, Signal::SIGTERM)?;
    // SAFETY: the child execs, and the parent makes system calls only.
    match unsafe { fork() }? {
        ForkResult::Child => {
            passed.unblock();
            Ok(())
        }
        ForkResult::Parent { child } => watch(child, &heard),
    }
}

/// Ends as the shell does.
fn watch(shell: Pid, heard: &SigSet) -> ! {
    close_all();
    loop {
        if heard.wait() == Ok(Signal::SIGTERM) {
            // Itself as well.
            let _ = killpg(getpgrp(), Signal::SIGKILL);
        }
        let status = match waitpid(shell, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, status)) => status,
            Ok(WaitStatus::StillAlive) => continue,
            _ => 1,
        };
        // SAFETY: ends the process without running anything of fdtrace's.
        unsafe { libc::_exit(status) };
    }
}

/// What fdtrace has attached stays so while anybody has it open.
fn close_all() {
    // SAFETY: nothing is read or written any more.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) } != 0 {
        // Linux 5.8
        (0..MAX_OPEN).for_each(|number| {
            // SAFETY: as above.
            let _ = unsafe { libc::close(number) };
        });
    }
}

/// A shell whose programs are killed with it when nobody waits for it any more.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // One that has been waited for has no number any more.
        if let Some(group) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}
