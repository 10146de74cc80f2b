//! A running `fdtrace live`.

use super::child::Background;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// What is read of its documents.
#[derive(Deserialize)]
pub(super) struct Document {
    pub(super) trace: Trace,
}

#[derive(Deserialize)]
pub(super) struct Trace {
    pub(super) duration_ns: u64,
    pub(super) events: Events,
    lost: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(super) struct Events {
    pub(super) allocated: u64,
}

impl Trace {
    /// In words, what was lost; `None` when nothing was.
    pub(super) fn losses(&self) -> Option<String> {
        let lost = self.lost.iter().filter(|(_, count)| **count > 0);
        let words: Vec<String> = lost.map(|(name, count)| format!("{name} {count}")).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

pub(super) struct Tracer {
    process: Background,
    /// From its start to its first document.
    pub(super) start_up: Duration,
}

impl Tracer {
    /// Starts it, and waits until it has begun to trace.
    pub(super) fn start(fdtrace: &Path, arguments: &[&str]) -> Result<Self> {
        let start = Instant::now();
        let process = Background::start(Command::new(fdtrace).args(["live", "--json"]).args(arguments))?;
        process.line()?;
        Ok(Self { process, start_up: start.elapsed() })
    }

    /// Processor time so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        self.process.cpu_time()
    }

    pub(super) fn resident_bytes(&self) -> Result<u64> {
        self.process.resident_bytes()
    }

    /// Ends it; its last document covers all of the trace.
    pub(super) fn stop(self) -> Result<Document> {
        match self.process.interrupt()? {
            Some(line) => serde_json::from_str(&line).context("fdtrace wrote no document"),
            None => bail!("fdtrace wrote no last document"),
        }
    }
}
