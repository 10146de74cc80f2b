//! `cargo xtask bench record`

use super::{
    child::Background,
    live::number,
    load::Sample,
    programs::{self, Bench},
};
use crate::tables::{Limit, Target, print_targets, target};
use anyhow::{Result, bail};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Files that are opened and closed in a second
    #[arg(long, default_value_t = 200_000)]
    rate: u32,
    /// How long the storm lasts
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    time: u64,
}

/// What recording a storm took.
struct Recorded {
    /// Of one core.
    cpu: f64,
    resident: u64,
    bytes: u64,
    sample: Sample,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (fdtrace, bench) = (programs::fdtrace()?, Bench::build()?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("trace");
    let recorded = record(&fdtrace, &bench, &file, args)?;
    let start = Instant::now();
    let report: Value = programs::result(Command::new(&fdtrace).arg("report").arg(&file).arg("--json"))?;
    print_targets(&targets(&recorded, &report, start.elapsed()));
    Ok(())
}

fn record(fdtrace: &Path, bench: &Bench, file: &Path, args: &Args) -> Result<Recorded> {
    let recorder = Background::start(Command::new(fdtrace).arg("record").arg("-o").arg(file))?;
    wait_for(file)?;
    let (start, before) = (Instant::now(), recorder.cpu_time()?);
    let (time, rate) = (args.time.to_string(), args.rate.to_string());
    let sample = bench.run(&["open-close", "--time", &time, "--rate", &rate])?;
    let cpu = (recorder.cpu_time()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = recorder.resident_bytes()?;
    recorder.interrupt()?;
    Ok(Recorded { cpu, resident, bytes: fs::metadata(file)?.len(), sample })
}

/// The file is there before tracing begins, and grows when it has begun.
pub(super) fn wait_for(file: &Path) -> Result<()> {
    let mut first = None;
    for _ in 0..200 {
        let size = fs::metadata(file).map_or(0, |found| found.len());
        if size > 0 && *first.get_or_insert(size) < size {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("nothing was recorded")
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of some seconds")]
fn targets(recorded: &Recorded, report: &Value, replay: Duration) -> Vec<Target> {
    let of = |kind, keys: [&str; 2]| keys.iter().map(|key| number(report, &[kind, key])).sum::<u64>() as f64;
    let (events, lost) = (of("events", ["allocated", "released"]), of("lost", ["events", "handles"]));
    let megabytes = recorded.resident as f64 / f64::from(1 << 20);
    vec![
        target(
            "storm: files opened and closed in a second",
            1e6 / recorded.sample.wall_ns,
            Limit::AtLeast(180.0),
            " thousand",
        ),
        target("lost events and handles", lost, Limit::AtMost(0.0), ""),
        target(
            "processor time of the recorder, of one core",
            recorded.cpu * 100.0,
            Limit::AtMost(50.0),
            " %",
        ),
        target("resident memory of the recorder", megabytes, Limit::AtMost(100.0), " MB"),
        target("size of an event in the file", recorded.bytes as f64 / events, Limit::AtMost(3.0), " bytes"),
        target(
            "replay: events in a second",
            events / replay.as_secs_f64() / 1e6,
            Limit::AtLeast(5.0),
            " million",
        ),
    ]
}
