//! Programs that run beside the measurement.

use crate::run::Running;
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// How long a program may take to say its first word, or to end when it is told to.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A program whose standard output is read line by line. It does not outlive its owner.
pub(super) struct Background {
    child: Running,
    lines: Receiver<String>,
}

impl Background {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let output = BufReader::new(child.stdout.take().context("a child without standard output")?);
        let (sender, lines) = channel();
        // Somebody has to read all the time, or the program would wait for room in the pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child: Running(child), lines })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// The next line.
    pub(super) fn line(&self) -> Result<String> {
        self.lines.recv_timeout(TIMEOUT).context("a program ended or hung before it said that it was ready")
    }

    /// Interrupts the program as a person would, waits for its end, and gives the last line that nobody has read.
    pub(super) fn interrupt(mut self) -> Result<Option<String>> {
        kill_process(Pid::from_child(&self.child.0), Signal::INT)?;
        let deadline = Instant::now() + TIMEOUT;
        let mut last = None;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => last = Some(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("a program did not end when it was interrupted"),
            }
        }
        self.child.0.wait()?;
        Ok(last)
    }

    /// Processor time of all its threads.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.id())
    }

    /// The same with that of its children and theirs, as far as they run.
    pub(super) fn family_cpu_time(&self) -> Result<Duration> {
        let others = family(self.id()).into_iter().filter_map(|pid| cpu_time(pid).ok());
        Ok(others.fold(self.cpu_time()?, |sum, time| sum + time))
    }

    /// Resident memory in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        memory(self.id(), "VmRSS:").context("no VmRSS")
    }

    /// The same with what its children and theirs have for themselves: their code is the same.
    pub(super) fn family_bytes(&self) -> Result<u64> {
        let others = family(self.id()).into_iter().filter_map(|pid| memory(pid, "RssAnon:"));
        Ok(others.fold(self.resident_bytes()?, |sum, bytes| sum + bytes))
    }
}

fn cpu_time(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended has no file any more.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        sum += Duration::from_nanos(nanoseconds);
    }
    Ok(sum)
}

fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = status.lines().find_map(|found| found.strip_prefix(line))?;
    kilobytes.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// The children of a process and theirs.
fn family(pid: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = all.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let children = |of: u32| parents.iter().filter(move |(_, parent)| *parent == of).map(|(pid, _)| *pid);
    children(pid).flat_map(|child| std::iter::once(child).chain(children(child))).collect()
}
