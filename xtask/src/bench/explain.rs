//! `cargo xtask bench explain`: one look at all handles, beside those who have looked before.

use super::{
    by_turns,
    child::Background,
    programs::{self, Bench},
};
use crate::{
    run,
    tables::{Limit, Target, median, median_ratio, print, print_targets},
};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, getrlimit};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each program looks at the smaller number
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Leave out the million
    #[arg(long)]
    small: bool,
    /// The program to measure, instead of the one of this checkout
    #[arg(long, value_name = "PROGRAM")]
    fdtrace: Option<PathBuf>,
}

const SMALL: u64 = 20_000;
const LARGE: u64 = 1_000_000;

/// How often fdtrace looks at the larger number; the others need minutes and look once.
const LARGE_ROUNDS: usize = 3;

/// Nobody waits longer than that.
const TIMEOUT: u64 = 300;

/// Descriptors that a process needs for itself.
const SPARE: u64 = 100;

/// What the kernel needs for a handle of this mix, generously.
const BYTES_EACH: u64 = 4096;

/// A program that looks at all handles.
struct Tool {
    name: &'static str,
    command: Vec<String>,
    /// It has to be waited for only once.
    slow: bool,
}

/// What one run took.
#[derive(Deserialize)]
struct Measured {
    seconds: f64,
    peak_bytes: u64,
    timed_out: bool,
    status: Option<i32>,
}

/// All runs of a program.
#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    peak_bytes: u64,
    timed_out: bool,
}

impl Runs {
    fn enter(&mut self, measured: &Measured) {
        self.seconds.push(measured.seconds);
        self.peak_bytes = self.peak_bytes.max(measured.peak_bytes);
        self.timed_out |= measured.timed_out;
    }

    /// How many times as long it took, within each round as far as both ran in it.
    fn ratio(&self, base: &Self) -> f64 {
        match self.seconds.len() == base.seconds.len() {
            true => median_ratio(&self.seconds, &base.seconds),
            false => median(&self.seconds) / median(&base.seconds),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a size in megabytes")]
    fn peak_mb(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let bench = Bench::build()?;
    let fdtrace = args.fdtrace.clone().map_or_else(programs::fdtrace, Ok)?;
    let tools = tools(&fdtrace)?;
    let small = look(&bench, &tools, SMALL, args.rounds, args.rounds)?;
    print_table(SMALL, &tools, &small);
    let mut targets = targets_small(&tools, &small);
    if !args.small {
        match obstacle(LARGE)? {
            Some(reason) => println!("\nnot with {LARGE} handles: {reason}"),
            None => {
                let large = look(&bench, &tools, LARGE, LARGE_ROUNDS, 1)?;
                println!();
                print_table(LARGE, &tools, &large);
                targets.extend(targets_large(&tools, &large));
            }
        }
    }
    print_targets(&targets);
    Ok(())
}

/// fdtrace first: the others are compared with it.
fn tools(fdtrace: &Path) -> Result<Vec<Tool>> {
    let fdtrace = fdtrace.to_str().context("a path that is no text")?;
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let mut tools = vec![
        Tool { name: "fdtrace explain", command: words(&[fdtrace, "explain"]), slow: false },
        Tool { name: "fdtrace explain --json", command: words(&[fdtrace, "explain", "--json"]), slow: false },
    ];
    let others: [(_, &[&str], _); 2] =
        [("lsof -n -P", &["lsof", "-n", "-P"], "-v"), ("lsfd", &["lsfd"], "--version")];
    for (name, command, version) in others {
        match run::probe(Command::new(command[0]).arg(version)) {
            Some(_) => tools.push(Tool { name, command: words(command), slow: true }),
            None => println!("{name}: not installed"),
        }
    }
    Ok(tools)
}

/// Why there cannot be so many handles.
fn obstacle(count: u64) -> Result<Option<String>> {
    let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    let limit = number(&fs::read_to_string("/proc/sys/fs/file-max")?).context("no file-max")?;
    let used = number(&fs::read_to_string("/proc/sys/fs/file-nr")?).context("no file-nr")?;
    if limit.saturating_sub(used) < count {
        return Ok(Some(format!("file-max is {limit}")));
    }
    let memory = fs::read_to_string("/proc/meminfo")?;
    let line =
        memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    let available = number(line).context("no MemAvailable")? << 10;
    let needed = count * BYTES_EACH;
    Ok((available < needed).then(|| format!("{} MB of memory would be needed", needed >> 20)))
}

/// Opens so many handles in as many processes as it takes.
fn hold(bench: &Bench, count: u64, folder: &Path) -> Result<Vec<Background>> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let each = limit.saturating_sub(SPARE).min(count).max(1);
    let processes = count.div_ceil(each);
    let mut holders = Vec::new();
    for index in 0..processes {
        let share = count / processes + u64::from(index < count % processes);
        let mut command = Command::new(&bench.0);
        command.args(["hold", "--count", &share.to_string(), "--folder"]).arg(folder);
        holders.push(Background::start(&mut command)?);
    }
    for holder in &holders {
        holder.line()?;
    }
    println!("{count} handles in {processes} processes");
    Ok(holders)
}

/// Each program in turn.
fn look(bench: &Bench, tools: &[Tool], count: u64, rounds: usize, slow_rounds: usize) -> Result<Vec<Runs>> {
    let folder = tempfile::tempdir()?;
    let _holders = hold(bench, count, folder.path())?;
    by_turns(tools, rounds, |round, tool, runs: &mut Runs| {
        if !tool.slow || round < slow_rounds {
            runs.enter(&measure(bench, tool)?);
        }
        Ok(())
    })
}

fn measure(bench: &Bench, tool: &Tool) -> Result<Measured> {
    let timeout = TIMEOUT.to_string();
    let command: Vec<&str> = ["measure", "--timeout", &timeout, "--"]
        .into_iter()
        .chain(tool.command.iter().map(String::as_str))
        .collect();
    let measured: Measured = bench.run(&command)?;
    // lsof ends with 1 when there was something that it could not look at.
    if !tool.slow && !measured.timed_out && measured.status != Some(0) {
        bail!("{} failed with status {:?}", tool.name, measured.status);
    }
    Ok(measured)
}

fn print_table(count: u64, tools: &[Tool], all: &[Runs]) {
    let heading = format!("{count} handles");
    let rows: Vec<_> = tools
        .iter()
        .zip(all)
        .map(|(tool, runs)| {
            let more = if runs.timed_out { "> " } else { "" };
            let ratio = all.first().map_or(f64::NAN, |base| runs.ratio(base));
            vec![
                tool.name.to_owned(),
                format!("{more}{:.1}", median(&runs.seconds) * 1e3),
                format!("{more}{ratio:.1}"),
                format!("{:.1}", runs.peak_mb()),
                runs.seconds.len().to_string(),
            ]
        })
        .collect();
    print(&[&heading, "median ms", "times explain", "peak MB", "runs"], &rows);
}

/// How many times as long the fastest of the others takes; no number where there is no other.
fn fastest_other(tools: &[Tool], all: &[Runs]) -> f64 {
    let others = tools.iter().zip(all).filter(|(tool, _)| tool.slow);
    let ratios = others.filter_map(|(_, runs)| all.first().map(|base| runs.ratio(base)));
    ratios.reduce(f64::min).unwrap_or(f64::NAN)
}

fn targets_small(tools: &[Tool], all: &[Runs]) -> Vec<Target> {
    vec![Target {
        what: "20,000 handles: times as fast as lsof and lsfd",
        measured: fastest_other(tools, all),
        limit: Limit::AtLeast(5.0),
        unit: "",
    }]
}

/// The text and the document: the slower and the larger one counts.
fn targets_large(tools: &[Tool], all: &[Runs]) -> Vec<Target> {
    let ours = || tools.iter().zip(all).filter(|(tool, _)| !tool.slow).map(|(_, runs)| runs);
    vec![
        Target {
            what: "1,000,000 handles: times as fast as lsof and lsfd",
            measured: fastest_other(tools, all),
            limit: Limit::AtLeast(50.0),
            unit: "",
        },
        Target {
            what: "1,000,000 handles: time",
            measured: ours().map(|runs| median(&runs.seconds)).fold(f64::NAN, f64::max),
            limit: Limit::AtMost(2.0),
            unit: " s",
        },
        Target {
            what: "1,000,000 handles: resident memory at most",
            measured: ours().map(Runs::peak_mb).fold(f64::NAN, f64::max),
            limit: Limit::AtMost(300.0),
            unit: " MB",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(seconds: &[f64]) -> Runs {
        Runs { seconds: seconds.to_vec(), ..Default::default() }
    }

    #[test]
    fn who_ran_once_is_compared_with_the_median() {
        assert_eq!(runs(&[30.0]).ratio(&runs(&[1.0, 3.0, 100.0])), 10.0);
        assert_eq!(runs(&[2.0, 40.0]).ratio(&runs(&[1.0, 20.0])), 2.0);
    }

    #[test]
    fn the_fastest_of_the_others_counts() {
        let tool = |slow| Tool { name: "", command: vec![], slow };
        let tools = [tool(false), tool(true), tool(true)];
        assert_eq!(fastest_other(&tools, &[runs(&[1.0]), runs(&[9.0]), runs(&[6.0])]), 6.0);
        assert!(fastest_other(&tools[..1], &[runs(&[1.0])]).is_nan());
    }
}
