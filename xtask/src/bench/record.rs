//! `cargo xtask bench record`

use super::{
    child::Background,
    load::Sample,
    programs::{self, Bench},
    table::{Limit, Target, print, print_targets},
};
use anyhow::{Result, bail};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
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

/// What the example says of synthetic traces.
#[derive(Deserialize)]
struct Synthetic {
    storm: Figures,
    build: Figures,
}

#[derive(Deserialize)]
struct Figures {
    bytes_per_event: f64,
    write_ns: f64,
    read_ns: f64,
    read_and_fold_ns: f64,
}

/// What a report says of a recording.
#[derive(Deserialize)]
struct Report {
    trace: Trace,
}

#[derive(Deserialize)]
struct Trace {
    events: Events,
    lost: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Events {
    allocated: u64,
    released: u64,
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
    print_synthetic(&bench.run(&["trace"])?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("trace");
    let recorded = record(&fdtrace, &bench, &file, args)?;
    let start = Instant::now();
    let report: Report = programs::result(Command::new(&fdtrace).arg("report").arg(&file).arg("--json"))?;
    print_targets(&targets(&recorded, &report.trace, start.elapsed()));
    Ok(())
}

fn print_synthetic(synthetic: &Synthetic) {
    let row = |name: &str, figures: &Figures| {
        let ns = [figures.write_ns, figures.read_ns, figures.read_and_fold_ns];
        let mut row = vec![name.to_owned(), format!("{:.2}", figures.bytes_per_event)];
        row.extend(ns.map(|ns| format!("{ns:.1}")));
        row
    };
    print(
        &["20 million synthetic events", "bytes each", "write ns", "read ns", "and fold ns"],
        &[row("open/close storm", &synthetic.storm), row("build", &synthetic.build)],
    );
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
fn wait_for(file: &Path) -> Result<()> {
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
fn targets(recorded: &Recorded, trace: &Trace, replay: Duration) -> Vec<Target> {
    let events = (trace.events.allocated + trace.events.released) as f64;
    let lost = ["events", "handles"].iter().filter_map(|key| trace.lost.get(*key)).sum::<u64>();
    vec![
        Target {
            what: "storm: files opened and closed in a second",
            measured: 1e6 / recorded.sample.wall_ns,
            limit: Limit::AtLeast(180.0),
            unit: " thousand",
        },
        Target {
            what: "lost events and handles",
            measured: lost as f64,
            limit: Limit::AtMost(0.0),
            unit: "",
        },
        Target {
            what: "processor time of the recorder, of one core",
            measured: recorded.cpu * 100.0,
            limit: Limit::AtMost(50.0),
            unit: " %",
        },
        Target {
            what: "resident memory of the recorder",
            measured: recorded.resident as f64 / f64::from(1 << 20),
            limit: Limit::AtMost(100.0),
            unit: " MB",
        },
        Target {
            what: "size of an event in the file",
            measured: recorded.bytes as f64 / events,
            limit: Limit::AtMost(3.0),
            unit: " bytes",
        },
        Target {
            what: "replay: events in a second",
            measured: events / replay.as_secs_f64() / 1e6,
            limit: Limit::AtLeast(5.0),
            unit: " million",
        },
    ]
}
