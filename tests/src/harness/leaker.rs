//! A program of the call site tests from the outside.

use super::{
    TIMEOUT,
    process::{Killed, lines},
};
use anyhow::{Context as _, Result};
use std::{
    io::Write as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
};

/// A program that leaks when it is told to, and then waits.
#[derive(Debug)]
pub struct Leaker {
    child: Killed,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Leaker {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let stdin = child.0.stdin.take();
        let lines = lines(child.0.stdout.take().context("no standard output")?);
        Ok(Self { child, stdin, lines })
    }

    /// Waits until it can be told to leak.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.expect("ready")
    }

    /// Tells it to leak, ready or not.
    ///
    /// # Errors
    /// When it has ended.
    pub fn leak(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("no standard input")?;
        writeln!(stdin).context("the program has ended")
    }

    /// Waits until it has leaked its first handles, and has to be told to go on.
    ///
    /// # Errors
    /// When it ends or hangs before.
    pub fn wait_until_begun(&self) -> Result<()> {
        self.expect("begun")
    }

    /// Waits until everything is leaked.
    ///
    /// # Errors
    /// When it ends or hangs before.
    pub fn wait_until_leaked(&self) -> Result<()> {
        self.expect("leaked")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    fn expect(&self, word: &str) -> Result<()> {
        // Whoever waits for a later word has not waited for the earlier ones.
        while self.lines.recv_timeout(TIMEOUT).with_context(|| format!("it never said {word:?}"))? != word {}
        Ok(())
    }
}
