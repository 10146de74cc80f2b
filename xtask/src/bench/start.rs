//! `cargo xtask bench start`: how long it takes until something is traced.

use super::{live::Live, programs};
use crate::tables::{Limit, median, print_targets, target};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each is started
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

/// How often it is looked how much memory there is.
const LOOK: Duration = Duration::from_millis(1);

/// Nanoseconds of a tick in `/proc/PID/stat` (`USER_HZ`, the same on all machines that run fdtrace).
const TICK: Duration = Duration::from_millis(10);

pub(super) fn run(args: &Args) -> Result<()> {
    let fdtrace = programs::fdtrace()?;
    let before = children_time()?;
    let (mut wall, mut memory, mut first) = (Vec::new(), 0.0_f64, Vec::new());
    for _ in 0..args.rounds.max(1) {
        let (took, peak) = check(&fdtrace)?;
        wall.push(took);
        memory = memory.max(peak);
    }
    let rounds = u32::try_from(args.rounds.max(1))?;
    let cpu = ((children_time()? - before) / rounds).as_secs_f64();
    for _ in 0..rounds {
        let live = Live::start(&fdtrace, &[])?;
        first.push(live.start_up.as_secs_f64());
        live.stop()?;
    }
    let at_most = |what, measured, limit, unit| target(what, measured, Limit::AtMost(limit), unit);
    print_targets(&[
        at_most("check -- true", median(&wall), 0.15, " s"),
        at_most("its processor time", cpu, 0.12, " s"),
        at_most("its memory at most", memory, 60.0, " MB"),
        at_most("live: time to the first output", median(&first), 0.2, " s"),
    ]);
    Ok(())
}

/// Checks a program that does nothing: how long that took, and the most memory that it had, in MB.
fn check(fdtrace: &Path) -> Result<(f64, f64)> {
    let start = Instant::now();
    let mut check = Command::new(fdtrace)
        .args(["check", "--", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run fdtrace")?;
    let mut peak = 0.0;
    loop {
        // It has no memory any more at its end.
        peak = peak_megabytes(&check).unwrap_or(peak);
        if let Some(status) = check.try_wait()? {
            if !status.success() {
                bail!("fdtrace check -- true: {status}");
            }
            return Ok((start.elapsed().as_secs_f64(), peak));
        }
        thread::sleep(LOOK);
    }
}

fn peak_megabytes(process: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = kilobytes.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// Processor time of all children that have ended, and of theirs that they have waited for.
fn children_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("no fields")?.1.split_whitespace();
    // The 16th and the 17th field of all, of which two are gone.
    let ticks: u32 = fields.skip(13).take(2).map_while(|field| field.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}
