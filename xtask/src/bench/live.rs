//! A running `fdtrace live`; and `cargo xtask bench quiet`, where nothing happens.

use super::{child::Background, programs};
use crate::tables::{Limit, Target, print_targets};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What is read of the documents of `live` and `report`.
#[derive(Deserialize)]
pub(super) struct Document {
    pub(super) trace: Trace,
}

#[derive(Deserialize)]
pub(super) struct Trace {
    duration_ns: u64,
    pub(super) events: Events,
    pub(super) lost: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(super) struct Events {
    pub(super) allocated: u64,
    pub(super) released: u64,
}

impl Trace {
    /// In words, what was lost; `None` when nothing was.
    pub(super) fn losses(&self) -> Option<String> {
        let lost = self.lost.iter().filter(|(_, count)| **count > 0);
        let words: Vec<String> = lost.map(|(name, count)| format!("{name} {count}")).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

pub(super) struct Live {
    pub(super) process: Background,
    /// From its start to its first document.
    start_up: Duration,
}

impl Live {
    /// Starts it, and waits until it has begun to trace.
    pub(super) fn start(fdtrace: &Path, arguments: &[&str]) -> Result<Self> {
        let start = Instant::now();
        let process = Background::start(Command::new(fdtrace).args(["live", "--json"]).args(arguments))?;
        process.line()?;
        Ok(Self { process, start_up: start.elapsed() })
    }

    /// Ends it; its last document covers all of the trace.
    pub(super) fn stop(self) -> Result<Document> {
        let line = self.process.interrupt()?.context("fdtrace wrote no last document")?;
        serde_json::from_str(&line).context("fdtrace wrote no document")
    }
}

const QUIET: Duration = Duration::from_secs(10);

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of ten seconds")]
pub(super) fn quiet() -> Result<()> {
    let live = Live::start(&programs::fdtrace()?, &[])?;
    let start_up = live.start_up.as_secs_f64();
    let (start, start_cpu) = (Instant::now(), live.process.cpu_time()?);
    thread::sleep(QUIET);
    let cpu = (live.process.cpu_time()? - start_cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = live.process.resident_bytes()?;
    let trace = live.stop()?.trace;
    let per_second = trace.events.allocated as f64 / Duration::from_nanos(trace.duration_ns).as_secs_f64();
    println!(
        "the machine allocated {per_second:.0} handles a second; starting took {start_cpu:.2?} of processor time"
    );
    let target = |what, measured, limit, unit| Target { what, measured, limit: Limit::AtMost(limit), unit };
    print_targets(&[
        target("processor time, of one core", cpu * 100.0, 1.0, " %"),
        target("resident memory", resident as f64 / f64::from(1 << 20), 60.0, " MB"),
        target("time to the first output", start_up, 1.0, " s"),
    ]);
    Ok(())
}
