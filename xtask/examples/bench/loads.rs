//! Loads for a tracer to look at.

use std::{
    env,
    fs::File,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::sample::{Sample, at_depth, repeat};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run, after the warm-up
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 700)]
    time: u64,
    /// Frames of the call chain above the system calls
    #[arg(long, default_value_t = 12)]
    depth: u32,
}

impl Args {
    fn time(&self) -> Duration {
        Duration::from_millis(self.time)
    }
}

/// Each turn opens and closes a regular file.
pub(crate) fn open_close(args: &Args) -> anyhow::Result<Sample> {
    stay_on_one_cpu()?;
    let file = tempfile::NamedTempFile::new()?;
    let mut turn = || {
        drop(File::open(file.path())?);
        Ok(())
    };
    at_depth(args.depth, &mut || repeat(args.time(), 200, &mut turn))
}

/// Each turn is a byte there and a byte back.
pub(crate) fn ping_pong(args: &Args) -> anyhow::Result<Sample> {
    stay_on_one_cpu()?;
    let (mut here, there) = UnixStream::pair()?;
    let echo = thread::spawn(move || echo(there));
    let mut turn = || {
        here.write_all(b"x")?;
        here.read_exact(&mut [0])?;
        Ok(())
    };
    let sample = at_depth(args.depth, &mut || repeat(args.time(), 200, &mut turn));
    drop(here);
    // A panic of the thread has been printed, and has closed its end.
    let _ = echo.join();
    sample
}

/// Sends back what comes, until the other end is closed.
fn echo(mut end: UnixStream) {
    let mut byte = [0];
    while end.read_exact(&mut byte).is_ok() && end.write_all(&byte).is_ok() {}
}

/// Each turn is one process.
pub(crate) fn spawn(args: &Args) -> anyhow::Result<Sample> {
    let program = env::current_exe()?;
    let mut command = Command::new(program);
    command.arg("nothing").stdin(Stdio::null());
    let mut turn = || {
        command.status()?;
        Ok(())
    };
    repeat(args.time(), 10, &mut turn)
}

/// Two threads on one CPU hand over by a context switch; on two they would measure how fast an idle CPU wakes up.
fn stay_on_one_cpu() -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &cpus)?;
    Ok(())
}
