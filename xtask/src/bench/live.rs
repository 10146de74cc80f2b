//! A running `fdtrace live`; and `cargo xtask bench quiet`, where nothing happens.

use super::{child::Background, programs};
use crate::tables::{self, Limit, print_targets};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A number of the `trace` of a document of `live` or `report`; 0 when it is not there.
pub(super) fn number(document: &Value, path: &[&str]) -> u64 {
    path.iter().fold(&document["trace"], |value, key| &value[*key]).as_u64().unwrap_or(0)
}

/// In words, what was lost; `None` when nothing was.
pub(super) fn losses(document: &Value) -> Option<String> {
    let lost = document["trace"]["lost"].as_object().into_iter().flatten();
    let words: Vec<String> = lost
        .filter(|(_, count)| count.as_u64() > Some(0))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

pub(super) struct Live {
    pub(super) process: Background,
    /// From its start to its first document.
    pub(super) start_up: Duration,
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
    pub(super) fn stop(self) -> Result<Value> {
        let line = self.process.interrupt()?.context("fdtrace wrote no last document")?;
        serde_json::from_str(&line).context("fdtrace wrote no document")
    }
}

const QUIET: Duration = Duration::from_secs(10);
/// What comes right behind the start is not looked at.
const SETTLING: Duration = Duration::from_secs(1);

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of ten seconds")]
pub(super) fn quiet() -> Result<()> {
    let live = Live::start(&programs::fdtrace()?, &[])?;
    let start_up = live.start_up.as_secs_f64();
    thread::sleep(SETTLING);
    let (start, start_cpu) = (Instant::now(), live.process.family_cpu_time()?);
    thread::sleep(QUIET);
    let cpu = (live.process.family_cpu_time()? - start_cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = live.process.family_bytes()?;
    let document = live.stop()?;
    let seconds = Duration::from_nanos(number(&document, &["duration_ns"])).as_secs_f64();
    let per_second = number(&document, &["events", "allocated"]) as f64 / seconds;
    println!(
        "the machine allocated {per_second:.0} handles a second; starting took {start_cpu:.2?} of processor time"
    );
    let target = |what, measured, limit, unit| tables::target(what, measured, Limit::AtMost(limit), unit);
    print_targets(&[
        target("processor time, of one core", cpu * 100.0, 0.3, " %"),
        target("resident memory", resident as f64 / f64::from(1 << 20), 35.0, " MB"),
        target("time to the first output", start_up, 0.2, " s"),
    ]);
    Ok(())
}
