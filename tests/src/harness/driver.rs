//! The workload from the outside.

use super::{
    NOBODY, binaries, kernel_release,
    process::{Killed, lines},
    say,
    scratch::Scratch,
};
use crate::{
    expected,
    truth::Truth,
    workload::{self, NotPossible},
};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::{
    fs,
    io::Write as _,
    os::unix::{fs::chown, process::CommandExt as _},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

/// How long the slowest machine may take for the largest load.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct Answer {
    truth: Truth,
}

/// What a workload says first.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ready {
    Ready { pid: u32 },
    NotPossible { not_possible: String },
}

/// Takes a refusal for an answer where the file of expected results says that it will come.
///
/// # Errors
/// Every other error; and the refusal, where it is not expected.
pub fn possible<T>(what: &str, result: Result<T>) -> Result<Option<T>> {
    let error = match result {
        Ok(it) => return Ok(Some(it)),
        Err(error) => error,
    };
    let Some(refusal) = error.chain().find_map(|cause| cause.downcast_ref::<NotPossible>()) else {
        return Err(error);
    };
    match expected::not_possible(&kernel_release(), what)? {
        Some(reason) => {
            say(&format!("{what}: {refusal}, which is expected: {reason}"));
            Ok(None)
        }
        None => Err(error).with_context(|| format!("{what}: expected.toml does not say that it is refused")),
    }
}

/// All steps of the workload that are possible on this kernel, `of_each` times each, as its arguments.
///
/// # Errors
/// When the kernel is not listed.
pub fn possible_steps(of_each: u32) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    for name in workload::names() {
        match expected::not_possible(&kernel_release(), name)? {
            None => steps.push(format!("{name}={of_each}")),
            Some(reason) => say(&format!("without {name}: {reason}")),
        }
    }
    Ok(steps)
}

/// A workload that makes no handle unless it is told to.
#[derive(Debug)]
pub struct Workload {
    // Dropped in this order: the end of its input lets the workload clean up, before it is killed and its files go.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pid: u32,
    child: Patient,
    _scratch: Scratch,
}

/// As [`Killed`], after a moment in which the process can end by itself.
#[derive(Debug)]
struct Patient(Killed);

impl Drop for Patient {
    fn drop(&mut self) {
        if let Err(error) = self.0.wait(Duration::from_secs(10)) {
            eprintln!("the workload is killed: {error:#}");
        }
    }
}

impl Workload {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let command = Command::new(binaries::workload()?);
        Self::start_command(command, Scratch::new()?, arguments)
    }

    /// As [`Self::start`], as a user without any rights.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_unprivileged<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let scratch = Scratch::new()?;
        chown(scratch.path(), Some(NOBODY), Some(NOBODY))?;
        let mut command = Command::new(scratch.copy(&binaries::workload()?)?);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        Self::start_command(command, scratch, arguments)
    }

    fn start_command<'a>(
        mut command: Command,
        scratch: Scratch,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        command.arg("--dir").arg(scratch.path()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let stdin = child.0.stdin.take();
        let lines = lines(child.0.stdout.take().context("no standard output")?);
        let ready =
            lines.recv_timeout(TIMEOUT).with_context(|| format!("{command:?} did not become ready"))?;
        match serde_json::from_str(&ready).with_context(|| ready.clone())? {
            Ready::Ready { pid } => Ok(Self { stdin, lines, pid, child: Patient(child), _scratch: scratch }),
            Ready::NotPossible { not_possible } => Err(NotPossible(not_possible).into()),
        }
    }

    /// Starts one, unless this machine refuses it and is known to: then that is said.
    ///
    /// `what` is the name under which the file of expected results has it.
    ///
    /// # Errors
    /// When it does not become ready, or is refused against expectation.
    pub fn start_if_possible<'a>(
        what: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Self>> {
        possible(what, Self::start(arguments))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The number that a process of the workload has here, from the one in its own PID namespace.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn outer_pid(&self, inner: u32) -> Result<u32> {
        let of_ours = |pid: &u32| {
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
            let last = |key| {
                let line = status.lines().find_map(|line| line.strip_prefix(key))?;
                line.split_whitespace().last()?.parse::<u32>().ok()
            };
            let ours = *pid == self.pid || last("PPid:") == Some(self.pid);
            ours && last("NSpid:") == Some(inner)
        };
        let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.into_iter().find(of_ours).with_context(|| format!("no process {inner} of the workload"))
    }

    /// Runs the steps (again).
    ///
    /// # Errors
    /// When the workload fails.
    pub fn go(&mut self) -> Result<Truth> {
        self.send("go")?;
        self.truth()
    }

    /// Begins to repeat the steps, until [`Self::stop`].
    ///
    /// # Errors
    /// When the workload has ended.
    pub fn repeat(&mut self) -> Result<()> {
        self.send("go")
    }

    /// Ends the repetition.
    ///
    /// # Errors
    /// When the workload failed.
    pub fn stop(&mut self) -> Result<Truth> {
        self.send("stop")?;
        self.truth()
    }

    /// Lets go of every handle.
    ///
    /// # Errors
    /// When the workload fails.
    pub fn close(&mut self) -> Result<Truth> {
        self.send("close")?;
        self.truth()
    }

    /// Lets the process exit with its handles open.
    ///
    /// # Errors
    /// When it fails or does not end.
    pub fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.0.wait(TIMEOUT)?;
        anyhow::ensure!(status.success(), "the workload ended with {status}");
        Ok(())
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the workload has been told to end")?;
        writeln!(stdin, "{line}").context("the workload has ended")
    }

    fn truth(&self) -> Result<Truth> {
        let line = self.lines.recv_timeout(TIMEOUT).context("no truth from the workload")?;
        let answer: Answer = serde_json::from_str(&line).with_context(|| line.clone())?;
        Ok(answer.truth)
    }
}
