//! `cargo xtask bench churn`: a machine that starts processes and compiles, beside `live` and `record`.

use super::{
    child::Background,
    live::{self, Live, number},
    programs, record,
};
use crate::{
    run::Running,
    tables::{Limit, Target, print_targets, target},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// How long the processes come and go, each time
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
}

/// A line for each shell, which runs two programs.
const SHELLS: &str = "while sh -c '/bin/true; :'; do echo; done";
const COMPILER: &str = "while cc -O1 -o program program.c; do :; done";
const PROGRAM: &str = "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n";

/// How often it is looked how much memory there is.
const LOOK: Duration = Duration::from_millis(200);

/// The processes that come and go.
struct Load {
    _programs: [Running; 2],
    shells: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl Load {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("program.c"), PROGRAM)?;
        let start = |script| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::null());
            Ok::<_, anyhow::Error>(Running(shell.stdout(Stdio::piped()).spawn().context("cannot run sh")?))
        };
        let (mut shells, compiler) = (start(SHELLS)?, start(COMPILER)?);
        let lines =
            BufReader::new(shells.0.stdout.take().context("a child without standard output")?).lines();
        let count = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|_| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
        });
        Ok(Self { _programs: [shells, compiler], shells: count, _folder: folder })
    }
}

/// What it took to watch them.
struct Watched {
    shells: f64,
    /// Of one core.
    cpu: f64,
    /// The most bytes, with those of the processes that read files.
    resident: u64,
}

/// Runs the load for a time, and looks at who watches it.
#[expect(clippy::cast_precision_loss, reason = "counts of some minutes")]
fn watched(time: Duration, watcher: Option<&Background>) -> Result<Watched> {
    let cpu_time = || watcher.map_or(Ok(Duration::ZERO), Background::family_cpu_time);
    let load = Load::start()?;
    let (start, before) = (Instant::now(), cpu_time()?);
    let mut resident = 0;
    while start.elapsed() < time {
        thread::sleep(LOOK);
        resident = resident.max(watcher.map_or(Ok(0), Background::family_bytes)?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (cpu_time()? - before).as_secs_f64() / seconds;
    Ok(Watched { shells: load.shells.load(Ordering::Relaxed) as f64 / seconds, cpu, resident })
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (fdtrace, time) = (programs::fdtrace()?, Duration::from_secs(args.time));
    let alone = watched(time, None)?;
    println!("without fdtrace {:.0} shells are run in a second, beside a compiler", alone.shells);
    let traced = Live::start(&fdtrace, &[])?;
    let live = watched(time, Some(&traced.process))?;
    print_targets(&live_targets(&alone, &live, &traced.stop()?));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("trace");
    let recorder = Background::start(Command::new(&fdtrace).arg("record").arg("-o").arg(&file))?;
    record::wait_for(&file)?;
    let recorded = watched(time, Some(&recorder))?;
    recorder.interrupt()?;
    print_targets(&record_targets(&alone, &recorded, &report(&fdtrace, &file)?));
    Ok(())
}

fn report(fdtrace: &Path, file: &Path) -> Result<Value> {
    programs::result(Command::new(fdtrace).arg("report").arg(file).arg("--json"))
}

fn live_targets(alone: &Watched, live: &Watched, document: &Value) -> Vec<Target> {
    targets(alone, live, document, (8.0, 80.0))
}

fn record_targets(alone: &Watched, recorded: &Watched, document: &Value) -> Vec<Target> {
    targets(alone, recorded, document, (10.0, 90.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of some minutes")]
fn targets(alone: &Watched, with: &Watched, document: &Value, (cpu, memory): (f64, f64)) -> Vec<Target> {
    let lost: u64 = ["events", "handles", "stacks"].iter().map(|key| number(document, &["lost", key])).sum();
    let seconds = Duration::from_nanos(number(document, &["duration_ns"])).as_secs_f64();
    println!(
        "\n{:.0} handles were made in a second",
        number(document, &["events", "allocated"]) as f64 / seconds
    );
    if let Some(losses) = live::losses(document) {
        println!("lost: {losses}");
    }
    let at_most = |what, measured, limit, unit| target(what, measured, Limit::AtMost(limit), unit);
    let megabytes = with.resident as f64 / f64::from(1 << 20);
    vec![
        at_most("processor time, of one core", with.cpu * 100.0, cpu, " %"),
        at_most("resident memory at most", megabytes, memory, " MB"),
        at_most("shells that are not run", (1.0 - with.shells / alone.shells) * 100.0, 8.0, " %"),
        at_most("lost events, handles and stacks", lost as f64, 0.0, ""),
    ]
}
