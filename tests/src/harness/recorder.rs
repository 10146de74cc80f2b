//! `fdtrace record` and `fdtrace report` from the outside.

use super::{
    TIMEOUT, binaries,
    document::Document,
    process::{Collected, Finished, Killed, collect, finish},
    tracer::{backend, unwind},
};
use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A recorder whose programs are attached.
#[derive(Debug)]
pub struct Recorder {
    child: Killed,
    /// The standard input, which a command that it runs shares.
    pub stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    file: PathBuf,
}

impl Recorder {
    /// Starts it with the backend of `FDTRACE_BACKEND`, and waits for its file: it is created after the programs are
    /// attached, and what happens from then on waits in the ring.
    ///
    /// # Errors
    /// When it does not begin to record; with what it wrote to standard error.
    pub fn start<A: AsRef<OsStr>>(file: &Path, arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut command = record(file)?;
        let arguments: Vec<_> = arguments.into_iter().collect();
        command.args(unwind(arguments.iter().map(AsRef::as_ref)));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let stdin = child.0.stdin.take();
        let stdout = collect(child.0.stdout.take().context("no standard output")?);
        let stderr = collect(child.0.stderr.take().context("no standard error")?);
        let mut recorder = Self { child, stdin, stdout, stderr, file: file.to_owned() };
        if recorder.begins()? { Ok(recorder) } else { Err(recorder.failure(&command)) }
    }

    fn begins(&mut self) -> Result<bool> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if fs::metadata(&self.file).is_ok_and(|found| found.len() > 0) {
                return Ok(true);
            }
            if self.child.0.try_wait()?.is_some() {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }

    fn failure(self, command: &Command) -> anyhow::Error {
        drop(self.child);
        let stderr = self.stderr.text();
        anyhow!("{command:?} did not begin to record: {}", stderr.trim())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// The file that it writes.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child.0), signal).context("cannot signal fdtrace")
    }

    /// Reads the file again and again until what is in it is as it should be, or patience ends; then gives the last
    /// report, whatever it says.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn wait_for(&self, patience: Duration, good: impl Fn(&Document) -> bool) -> Result<Report> {
        let deadline = Instant::now() + patience;
        loop {
            let report = report(&self.file)?;
            if good(&report.document) || Instant::now() > deadline {
                return Ok(report);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Interrupts it, as a person does with Ctrl-C, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn interrupt(self) -> Result<Finished> {
        self.signal(Signal::INT)?;
        self.end().context("fdtrace does not end on SIGINT")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<Finished> {
        drop(self.stdin.take());
        let status = self.child.wait(TIMEOUT)?;
        Ok(Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text() })
    }

    /// Kills it without a chance to clean up.
    pub fn kill(self) {
        drop(self.child);
    }
}

/// `fdtrace record` into a file, with the backend of `FDTRACE_BACKEND`.
///
/// # Errors
/// When there is no fdtrace.
pub fn record(file: &Path) -> Result<Command> {
    let mut command = Command::new(binaries::fdtrace()?);
    command.args(["record", "-o"]).arg(file);
    match backend().as_str() {
        "auto" => {}
        backend => drop(command.args(["--backend", backend])),
    }
    Ok(command)
}

/// What `fdtrace report --json` says of a file.
#[derive(Debug)]
pub struct Report {
    /// The document, as far as the tests read it.
    pub document: Document,
    /// All of it.
    pub json: Value,
    /// What is said of the file beside it.
    pub stderr: String,
}

/// Reads a trace.
///
/// # Errors
/// When that fails, or the document is malformed.
pub fn report(file: &Path) -> Result<Report> {
    let Finished { status, stdout, stderr } =
        finish(Command::new(binaries::fdtrace()?).args(["report", "--json"]).arg(file), TIMEOUT)?;
    ensure!(status.code() == Some(0), "report: {status}: {stderr}");
    let document = Document::parse(&stdout).with_context(|| stdout.chars().take(600).collect::<String>())?;
    Ok(Report { document, json: serde_json::from_str(&stdout)?, stderr })
}
