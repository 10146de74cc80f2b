//! Child processes that are gone when the test is.

use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The number of a process that is gone.
pub fn gone_process() -> Result<String> {
    let mut child = Command::new("/proc/self/exe").arg("--list").stdout(Stdio::null()).spawn()?;
    let gone = child.id().to_string();
    child.wait()?;
    Ok(gone)
}

/// A child process that is killed, by its own number, when the test lets go of it, panicking or not.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it does not within this time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("still running after {patience:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The lines of a stream as they come; the channel ends with the stream.
pub fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Everything that a stream will ever hold.
pub(crate) fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or does not end in time (it is killed then).
pub fn finish(command: &mut Command, patience: Duration) -> Result<Finished> {
    finish_with(command, Stdio::null(), patience)
}

/// The same with something on its standard input.
///
/// # Errors
/// As above.
pub fn finish_with(command: &mut Command, stdin: Stdio, patience: Duration) -> Result<Finished> {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
    let stdout = collect(child.0.stdout.take().context("no standard output")?);
    let stderr = collect(child.0.stderr.take().context("no standard error")?);
    let status = child.wait(patience).with_context(|| format!("{command:?}"))?;
    Ok(Finished {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}
