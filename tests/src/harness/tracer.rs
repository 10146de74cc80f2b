//! `fdtrace live` from the outside.

use super::{
    binaries,
    document::Document,
    process::{Collected, Killed, collect, lines},
};
use anyhow::{Context as _, Result, anyhow};
use std::{
    env,
    ffi::OsStr,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

/// How long the slowest machine may take to attach, or to show what has happened.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The backend of `FDTRACE_BACKEND`.
#[must_use]
pub fn backend() -> String {
    env::var("FDTRACE_BACKEND").unwrap_or_else(|_| "auto".to_owned())
}

/// `--unwind` as `FDTRACE_UNWIND` has it, unless the arguments say. Emulated machines need seconds to verify the walk by
/// unwind tables, and only the tests of call sites are about it.
pub fn unwind<'a>(mut arguments: impl Iterator<Item = &'a OsStr>) -> Vec<String> {
    match env::var("FDTRACE_UNWIND") {
        Ok(unwind) if arguments.all(|argument| argument != "--unwind") => vec!["--unwind".to_owned(), unwind],
        _ => Vec::new(),
    }
}

/// A tracer that has begun to trace.
#[derive(Debug)]
pub struct Tracer {
    child: Killed,
    documents: Receiver<String>,
    stderr: Collected,
    /// What it printed first: tracing has begun.
    pub first: Document,
}

/// How a tracer ended.
#[derive(Debug)]
pub struct Ended {
    /// Its last document, if it printed one after it was told to end.
    pub last: Option<Document>,
    /// The same, word for word.
    pub line: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard error.
    pub stderr: String,
}

impl Tracer {
    /// Starts it with the backend of `FDTRACE_BACKEND`, by default the tracer's own choice.
    ///
    /// # Errors
    /// When it does not begin to trace; with what it wrote to standard error.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        Self::start_with(&backend(), arguments)
    }

    /// Starts it with a backend.
    ///
    /// # Errors
    /// When it does not begin to trace; with what it wrote to standard error.
    pub fn start_with<'a>(backend: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut command = Command::new(binaries::fdtrace()?);
        command.args(["live", "--json"]);
        let arguments: Vec<_> = arguments.into_iter().collect();
        if !arguments.contains(&"--interval") {
            command.args(["--interval", "500ms"]);
        }
        // Most tests ask for every handle at once.
        if !arguments.contains(&"--min-age") {
            command.args(["--min-age", "0s"]);
        }
        if backend != "auto" {
            command.args(["--backend", backend]);
        }
        command.args(unwind(arguments.iter().map(OsStr::new)));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let documents = lines(child.0.stdout.take().context("no standard output")?);
        let stderr = collect(child.0.stderr.take().context("no standard error")?);
        match documents.recv_timeout(TIMEOUT) {
            Ok(line) => Ok(Self { child, documents, stderr, first: Document::parse(&line)? }),
            Err(_) => {
                drop(child);
                let stderr = stderr.text();
                Err(anyhow!("{command:?} did not begin to trace: {}", stderr.trim()))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// The next document.
    ///
    /// # Errors
    /// When none comes, or it is malformed.
    pub fn next(&self) -> Result<Document> {
        let line = self.documents.recv_timeout(TIMEOUT).context("no further document")?;
        Document::parse(&line).with_context(|| line.chars().take(600).collect::<String>())
    }

    /// Reads documents until one is as it should be, or patience ends; then gives the last one, whatever it says.
    ///
    /// # Errors
    /// When no document comes, or one is malformed.
    pub fn wait_for(&self, patience: Duration, good: impl Fn(&Document) -> bool) -> Result<Document> {
        let deadline = Instant::now() + patience;
        loop {
            let document = self.next()?;
            if good(&document) || Instant::now() > deadline {
                return Ok(document);
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, signal).context("cannot signal fdtrace")
    }

    /// Interrupts it, as a person does with Ctrl-C, and takes its last words.
    ///
    /// # Errors
    /// When it does not end, or its last document is malformed.
    pub fn interrupt(mut self) -> Result<Ended> {
        // Documents of intervals that have passed are no answer to the interruption.
        while self.documents.try_recv().is_ok() {}
        self.signal(rustix::process::Signal::INT)?;
        let status = self.child.wait(TIMEOUT).context("fdtrace does not end on SIGINT")?;
        let line = self.documents.iter().last();
        let last = line.as_deref().map(Document::parse).transpose()?;
        Ok(Ended { last, line: line.unwrap_or_default(), status, stderr: self.stderr.text() })
    }

    /// Kills it without a chance to clean up.
    pub fn kill(self) {
        drop(self.child);
    }
}
