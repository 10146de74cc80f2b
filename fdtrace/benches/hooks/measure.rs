//! How long a command takes, and how much memory.

use std::{
    ffi::OsString,
    mem,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kill it after so many seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// The command; its output is thrown away
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Serialize)]
pub(crate) struct Measured {
    /// By the wall's clock.
    seconds: f64,
    /// The most resident memory of it or of one of its children.
    peak_bytes: u64,
    /// It was killed.
    timed_out: bool,
    /// How it ended; not a number when a signal ended it.
    status: Option<i32>,
}

/// In a process of its own, since the kernel keeps only the maximum over all children.
pub(crate) fn run(args: &Args) -> anyhow::Result<Measured> {
    let (program, arguments) = args.command.split_first().context("no command")?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let pid = Pid::from_child(&child);
    let (done, ended) = channel::<()>();
    let patience = Duration::from_secs(args.timeout);
    let watchdog = thread::spawn(move || {
        let late = matches!(ended.recv_timeout(patience), Err(RecvTimeoutError::Timeout));
        // Nobody has waited for it yet, so the number is its own.
        late && kill_process(pid, Signal::KILL).is_ok()
    });
    let status = child.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(done);
    let Ok(timed_out) = watchdog.join() else { bail!("the watchdog panicked") };
    Ok(Measured { seconds, peak_bytes: peak_bytes()?, timed_out, status: status.code() })
}

/// Of all children that were waited for, the largest.
fn peak_bytes() -> anyhow::Result<u64> {
    // SAFETY: all bytes zero are a valid `rusage`: it holds integers only.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the call writes one `rusage`.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        bail!("getrusage: {}", std::io::Error::last_os_error());
    }
    Ok(u64::try_from(usage.ru_maxrss)? << 10)
}
