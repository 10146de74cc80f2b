//! `cargo xtask bench explain`: one look at all handles, beside those who have looked before.

use super::{
    by_turns,
    child::Background,
    programs::{self, Bench},
};
use crate::{
    run,
    tables::{Limit, Target, median, median_ratio, print, print_targets, target},
};
use anyhow::{Context as _, Result, bail};
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

/// Nobody waits longer than so many seconds.
const TIMEOUT: &str = "--timeout=300";

/// What the kernel needs for a handle of this mix, generously.
const BYTES_EACH: u64 = 4096;

/// A program that looks at all handles.
struct Tool {
    /// Instead of its words.
    name: &'static str,
    words: Vec<String>,
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
    let tools = tools(&args.fdtrace.clone().map_or_else(programs::fdtrace, Ok)?);
    let small = look(&bench, &tools, SMALL, args.rounds, args.rounds)?;
    let what = "20,000 handles: times as fast as lsof and lsfd";
    let mut targets = vec![target(what, fastest_other(&tools, &small), Limit::AtLeast(5.0), "")];
    if !args.small {
        match obstacle(LARGE)? {
            Some(reason) => println!("\nnot with {LARGE} handles: {reason}"),
            None => targets.extend(targets_large(&tools, &look(&bench, &tools, LARGE, LARGE_ROUNDS, 1)?)),
        }
    }
    print_targets(&targets);
    Ok(())
}

/// fdtrace first: the others are compared with it.
fn tools(fdtrace: &Path) -> Vec<Tool> {
    let fdtrace = fdtrace.display().to_string();
    let tool = |name, words: &[&str], slow| Tool {
        name,
        words: words.iter().map(|&word| word.to_owned()).collect(),
        slow,
    };
    let mut tools = vec![
        tool("fdtrace explain", &[&fdtrace, "explain"], false),
        tool("fdtrace explain --json", &[&fdtrace, "explain", "--json"], false),
    ];
    let others: [(_, &[&str], _); 2] =
        [("lsof -n -P", &["lsof", "-n", "-P"], "-v"), ("lsfd", &["lsfd"], "--version")];
    for (name, words, version) in others {
        match run::probe(Command::new(words[0]).arg(version)) {
            Some(_) => tools.push(tool(name, words, true)),
            None => println!("{name}: not installed"),
        }
    }
    tools
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

/// Each program in turn, while somebody holds so many handles; and the table of it.
fn look(bench: &Bench, tools: &[Tool], count: u64, rounds: usize, slow_rounds: usize) -> Result<Vec<Runs>> {
    let folder = tempfile::tempdir()?;
    let mut hold = Command::new(&bench.0);
    let holder =
        Background::start(hold.args(["hold", "--count", &count.to_string(), "--folder"]).arg(folder.path()))?;
    println!("{}", holder.line()?);
    let all = by_turns(tools, rounds, |round, tool, runs: &mut Runs| {
        if !tool.slow || round < slow_rounds {
            runs.enter(&measure(bench, tool)?);
        }
        Ok(())
    })?;
    let row = |(tool, runs): (&Tool, &Runs)| {
        let more = if runs.timed_out { "> " } else { "" };
        vec![
            tool.name.to_owned(),
            format!("{more}{:.1}", median(&runs.seconds) * 1e3),
            format!("{more}{:.1}", runs.ratio(&all[0])),
            format!("{:.1}", runs.peak_mb()),
            runs.seconds.len().to_string(),
        ]
    };
    let rows: Vec<_> = tools.iter().zip(&all).map(row).collect();
    print(&["", "median ms", "times explain", "peak MB", "runs"], &rows);
    Ok(all)
}

fn measure(bench: &Bench, tool: &Tool) -> Result<Measured> {
    let words = tool.words.iter().map(String::as_str);
    let measured: Measured =
        bench.run(&["measure", TIMEOUT, "--"].into_iter().chain(words).collect::<Vec<_>>())?;
    // lsof ends with 1 when there was something that it could not look at.
    if !tool.slow && !measured.timed_out && measured.status != Some(0) {
        bail!("{} failed with status {:?}", tool.name, measured.status);
    }
    Ok(measured)
}

/// How many times as long the fastest of the others takes; no number where there is no other.
fn fastest_other(tools: &[Tool], all: &[Runs]) -> f64 {
    let others = tools.iter().zip(all).filter(|(tool, _)| tool.slow);
    let ratios = others.filter_map(|(_, runs)| all.first().map(|base| runs.ratio(base)));
    ratios.reduce(f64::min).unwrap_or(f64::NAN)
}

/// The text and the document: the slower and the larger one counts.
fn targets_large(tools: &[Tool], all: &[Runs]) -> [Target; 3] {
    let ours = || tools.iter().zip(all).filter(|(tool, _)| !tool.slow).map(|(_, runs)| runs);
    let seconds = ours().map(|runs| median(&runs.seconds)).fold(f64::NAN, f64::max);
    let megabytes = ours().map(Runs::peak_mb).fold(f64::NAN, f64::max);
    let fastest = fastest_other(tools, all);
    [
        target("1,000,000 handles: times as fast as lsof and lsfd", fastest, Limit::AtLeast(50.0), ""),
        target("1,000,000 handles: time", seconds, Limit::AtMost(2.0), " s"),
        target("1,000,000 handles: resident memory at most", megabytes, Limit::AtMost(300.0), " MB"),
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
        let tool = |slow| Tool { name: "", words: vec![], slow };
        let tools = [tool(false), tool(true), tool(true)];
        assert_eq!(fastest_other(&tools, &[runs(&[1.0]), runs(&[9.0]), runs(&[6.0])]), 6.0);
        assert!(fastest_other(&tools[..1], &[runs(&[1.0])]).is_nan());
    }
}
