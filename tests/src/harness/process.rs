//! Child processes that are gone when the test is.

use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// A stream of a process that has ended is given up after so long without a byte.
const HELD_OPEN: Duration = Duration::from_secs(60);

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

/// What a stream of a process holds, read beside it.
#[derive(Debug)]
pub(crate) struct Collected {
    pieces: Receiver<Vec<u8>>,
}

/// Begins to read a stream to its end.
pub(crate) fn collect(mut stream: impl Read + Send + 'static) -> Collected {
    let (sender, pieces) = channel();
    thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        // What came before an error is still worth showing.
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    Collected { pieces }
}

impl Collected {
    /// All of it, when the process has ended. What a descendant holds open never ends: a test that waited for that would
    /// keep all others from running.
    pub(crate) fn text(self) -> String {
        let mut bytes = Vec::new();
        loop {
            match self.pieces.recv_timeout(HELD_OPEN) {
                Ok(piece) => bytes.extend(piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bytes.extend(b"\n(a descendant still holds this stream)\n");
                    break;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
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
    Ok(Finished { status, stdout: stdout.text(), stderr: stderr.text() })
}
