//! Loads for a tracer to look at.

use std::{
    env,
    ffi::CString,
    io::{Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    thread::{CpuSet, sched_setaffinity},
};

use crate::{
    sample::{Sample, repeat},
    sites,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run, after the warm-up
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 700)]
    time: u64,
    /// How long the warm-up is; a tenth of that if it is not said
    #[arg(long, value_name = "MILLISECONDS")]
    warm_up: Option<u64>,
    /// No more turns than this a second
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
}

impl Args {
    fn time(&self) -> Duration {
        Duration::from_millis(self.time)
    }

    fn repeat(&self, turn: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<Sample> {
        let warm_up = self.warm_up.map_or(self.time() / 10, Duration::from_millis);
        repeat(warm_up, self.time(), turn)
    }
}

/// Each turn opens and closes a regular file, below a dozen frames. Not by the standard library, which is built without
/// frame pointers: the stack would end there.
pub(crate) fn open_close(args: &Args) -> anyhow::Result<Sample> {
    stay_on_one_cpu()?;
    let file = tempfile::NamedTempFile::new()?;
    let path = CString::new(file.path().as_os_str().as_bytes())?;
    let mut pace = args.rate.map(Pace::new);
    let mut turn = || {
        drop(open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        if let Some(pace) = &mut pace {
            pace.keep();
        }
        Ok(())
    };
    args.repeat(&mut turn)
}

/// Each turn opens and closes a regular file, from the next of so many sites.
pub(crate) fn sites(count: usize, args: &Args) -> anyhow::Result<Sample> {
    stay_on_one_cpu()?;
    let file = tempfile::NamedTempFile::new()?;
    let path = CString::new(file.path().as_os_str().as_bytes())?;
    let mut sites = sites::sites(count).iter().cycle();
    let mut turn = || {
        if let Some(open) = sites.next() {
            drop(open(&path)?);
        }
        Ok(())
    };
    args.repeat(&mut turn)
}

/// So many turns a second: after each thousand it waits for the moment at which they are due.
struct Pace {
    start: Instant,
    turns: u32,
    rate: u32,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { start: Instant::now(), turns: 0, rate: rate.max(1) }
    }

    fn keep(&mut self) {
        self.turns += 1;
        if self.turns.is_multiple_of(1000) {
            let due = self.start + Duration::from_secs_f64(f64::from(self.turns) / f64::from(self.rate));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// Nothing, for a while: what the rest of the machine does then is what a tracer sees of an idle one.
pub(crate) fn idle(args: &Args) -> u64 {
    thread::sleep(args.time());
    args.time
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
    let sample = args.repeat(&mut turn);
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

/// Starts processes one after the other; says how many.
pub(crate) fn spawn(args: &Args) -> anyhow::Result<u64> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("nothing").stdin(Stdio::null());
    let start = Instant::now();
    let mut processes = 0;
    while start.elapsed() < args.time() {
        command.status()?;
        processes += 1;
    }
    Ok(processes)
}

/// Two threads on one CPU hand over by a context switch; on two they would measure how fast an idle CPU wakes up.
fn stay_on_one_cpu() -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &cpus)?;
    Ok(())
}
