//! A process at the other end of something.

use super::{binaries, process::Killed, scratch::Scratch};
use anyhow::{Context as _, Result};
use std::{
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

/// A process that reads from its standard input, and does nothing else until it is killed.
#[derive(Debug)]
pub struct AtInput {
    child: Killed,
    _scratch: Scratch,
}

impl AtInput {
    /// Starts one with this standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(input: OwnedFd) -> Result<Self> {
        Self::with_output(input, Stdio::null())
    }

    /// Starts one that has this standard output as well.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn with_output(input: OwnedFd, output: impl Into<Stdio>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut command = Command::new(binaries::workload()?);
        command.arg("--dir").arg(scratch.path()).arg("kept=1").stdin(input).stdout(output);
        let child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        Ok(Self { child, _scratch: scratch })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }
}
