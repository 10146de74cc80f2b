//! `cargo xtask bench hooks`

use super::{
    child::Background,
    costs::{Cost, Costs},
    load::{Load, Sample, Turns},
    numbers::{median, median_ratio},
    peers,
    programs::{self, Bench},
    table::{Limit, Target, print, print_targets},
    tracer::Tracer,
};
use anyhow::{Context as _, Result};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

pub(super) fn run(args: &Turns) -> Result<()> {
    let (fdtrace, bench) = (programs::fdtrace()?, Bench::build()?);
    print_programs(&bench)?;
    let survivors = survivors(&bench, args)?;
    let ways = ways();
    let mut results: Vec<Results> = ways.iter().map(|_| Results::default()).collect();
    for _ in 0..args.rounds {
        for (way, results) in ways.iter().zip(&mut results) {
            way.take_turn(&fdtrace, &bench, args.time, results)?;
        }
    }
    print_slow_downs(&ways, &results);
    let mut targets = targets(&results).to_vec();
    targets.extend(survivors);
    print_targets(&targets);
    Ok(())
}

/// What survivors mode costs beyond the same hooks without a ring, and what it sends.
fn survivors(bench: &Bench, args: &Turns) -> Result<[Target; 2]> {
    let time = args.time.to_string();
    let relative = |hooks| -> Result<f64> {
        let costs = Costs::measure(bench, hooks, "open-close", &["--untimed", "--time", &time])?;
        Ok(costs.sample().context("a load without a result")?.relative)
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        with.push(relative("survivors")?);
        without.push(relative("nothing")?);
    }
    let idle = Costs::measure(bench, "survivors", "idle", &["--untimed", "--time", "10000"])?;
    Ok([
        Target {
            what: "open+close: survivors mode to the same hooks without a ring",
            measured: median_ratio(&with, &without),
            limit: Limit::AtMost(1.05),
            unit: "",
        },
        Target {
            what: "survivors mode: through the ring in a second on an idle machine",
            measured: f64::from(idle.ring_bytes) / 10.0,
            limit: Limit::AtMost(1024.0),
            unit: " bytes",
        },
    ])
}

/// What the hooks of a measurement do, as the example `bench` names it.
const HOOKS: [&str; 6] = ["reject", "off", "user", "both", "survivors", "nothing"];

/// Runs below this number tell more about the first run than about the others.
const ENOUGH_RUNS: u64 = 100;

/// The programs one by one, by the kernel's own clock.
fn print_programs(bench: &Bench) -> Result<()> {
    let mut rows = Vec::new();
    let mut backend = String::new();
    for load in ["open-close", "ping-pong", "spawn"] {
        let costs: Vec<Costs> =
            HOOKS.iter().map(|hooks| Costs::measure(bench, hooks, load, &[])).collect::<Result<_>>()?;
        rows.extend((0..costs[0].programs.len()).filter_map(|index| program_row(load, index, &costs)));
        backend.clone_from(&costs[0].backend);
    }
    println!("BPF programs of the {backend} backend, ns for a run, by the stacks that are taken");
    let heading =
        ["", "rejecting", "off", "user", "both", "survivors", "both, no ring", "verified instructions"];
    print(&heading, &rows);
    Ok(())
}

/// One program under one load; `None` when the load does not run it.
#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
fn program_row(load: &str, index: usize, costs: &[Costs]) -> Option<Vec<String>> {
    let costs: Vec<&Cost> = costs.iter().map(|costs| &costs.programs[index]).collect();
    if costs.iter().any(|cost| cost.runs < ENOUGH_RUNS) {
        return None;
    }
    let mut row = vec![format!("{}, {load}", costs[0].program)];
    row.extend(costs.iter().map(|cost| format!("{:.0}", cost.time_ns as f64 / cost.runs as f64)));
    row.push(costs[costs.len() - 1].verified.to_string());
    Some(row)
}

/// A way of tracing.
struct Way {
    name: String,
    tool: Tool,
}

enum Tool {
    None,
    Fdtrace(&'static [&'static str]),
    Bpftrace,
    Strace,
}

impl Tool {
    /// A peer may be there and not be able to trace: bpftrace needs a mounted tracefs.
    fn try_out(&self) -> Result<()> {
        match self {
            Self::None | Self::Fdtrace(_) => Ok(()),
            Self::Bpftrace => peers::bpftrace()?.interrupt().map(drop),
            Self::Strace => peers::try_strace(),
        }
    }
}

/// A user that no process runs as: the hooks look at every allocation and turn it away.
const REJECT: [&str; 2] = ["--uid", "4294967294"];

const UNTRACED: usize = 0;
const REJECTING: usize = 1;
const STREAM: usize = 4;
const DEFAULT: usize = 5;

/// All ways that this machine has. Those that targets speak of come first.
fn ways() -> Vec<Way> {
    let own: [(&str, Tool); 6] = [
        ("untraced", Tool::None),
        ("hooks that reject everything", Tool::Fdtrace(&REJECT)),
        ("live --min-age 0s --stacks off", Tool::Fdtrace(&["--min-age", "0s", "--stacks", "off"])),
        ("live --min-age 0s --stacks user", Tool::Fdtrace(&["--min-age", "0s", "--stacks", "user"])),
        ("live --min-age 0s", Tool::Fdtrace(&["--min-age", "0s"])),
        ("live", Tool::Fdtrace(&[])),
    ];
    let mut ways: Vec<Way> =
        own.into_iter().map(|(name, tool)| Way { name: name.to_owned(), tool }).collect();
    for (program, tool) in [("bpftrace", Tool::Bpftrace), ("strace", Tool::Strace)] {
        let Some(name) = peers::version(program) else {
            println!("{program} is not installed");
            continue;
        };
        match tool.try_out() {
            Ok(()) => ways.push(Way { name, tool }),
            Err(error) => println!("{name} does not work here: {error:#}"),
        }
    }
    ways
}

/// What has been measured of one way.
#[derive(Default)]
struct Results {
    samples: BTreeMap<Load, Vec<Sample>>,
    /// Processor time of the tracer, in percent of one core, during the open+close loop.
    own_cpu: Vec<f64>,
    losses: Vec<String>,
}

impl Results {
    /// One number of each sample of a load.
    fn of(&self, load: Load, number: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.get(&load).into_iter().flatten().map(number).collect()
    }

    /// How many times as long a turn took as one of `base`, by some clock: the median of the rounds.
    fn ratio(&self, base: &Self, load: Load, clock: fn(&Sample) -> f64) -> f64 {
        median_ratio(&self.of(load, clock), &base.of(load, clock))
    }
}

impl Way {
    fn take_turn(&self, fdtrace: &Path, bench: &Bench, time: u64, results: &mut Results) -> Result<()> {
        match &self.tool {
            Tool::None => run_loads(bench, &[], time, results, &|| Ok(Duration::ZERO)),
            Tool::Strace => run_loads(bench, &peers::STRACE, time, results, &|| Ok(Duration::ZERO)),
            Tool::Bpftrace => {
                let bpftrace: Background = peers::bpftrace()?;
                run_loads(bench, &[], time, results, &|| bpftrace.cpu_time())?;
                bpftrace.interrupt().map(drop)
            }
            Tool::Fdtrace(arguments) => {
                let tracer = Tracer::start(fdtrace, arguments)?;
                run_loads(bench, &[], time, results, &|| tracer.cpu_time())?;
                results.losses.extend(tracer.stop()?.trace.losses());
                Ok(())
            }
        }
    }
}

fn run_loads(
    bench: &Bench,
    wrapper: &[&str],
    time: u64,
    results: &mut Results,
    tracer_time: &dyn Fn() -> Result<Duration>,
) -> Result<()> {
    for load in Load::ALL {
        let (start, before) = (Instant::now(), tracer_time()?);
        let sample = load.run(bench, wrapper, time)?;
        if load == Load::OpenClose {
            let own = tracer_time()? - before;
            results.own_cpu.push(own.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0);
        }
        results.samples.entry(load).or_default().push(sample);
    }
    Ok(())
}

const SLOW_DOWNS: &str = "
how much slower a load gets: first by its processor time, against work at the same moment that cannot be slowed down;
in brackets by its processor time alone, and by the wall's clock, on which all others weigh";

fn print_slow_downs(ways: &[Way], results: &[Results]) {
    println!("{SLOW_DOWNS}");
    let base = &results[UNTRACED];
    let rows: Vec<Vec<String>> =
        ways.iter().zip(results).map(|(way, results)| slow_down_row(way, results, base)).collect();
    let heading =
        ["", "open+close", "", "(cpu", "wall)", "ping-pong", "", "(cpu", "wall)", "own cpu", "lost"];
    print(&heading, &rows);
}

fn slow_down_row(way: &Way, results: &Results, base: &Results) -> Vec<String> {
    let mut row = vec![way.name.clone()];
    for load in Load::ALL {
        row.push(format!("{:.0} ns", median(&results.of(load, |sample| sample.cpu_ns))));
        row.push(match way.tool {
            // They stop every system call, the other work's too.
            Tool::Bpftrace | Tool::Strace => "-".to_owned(),
            Tool::None | Tool::Fdtrace(_) => {
                format!("{:.2}", results.ratio(base, load, |sample| sample.relative))
            }
        });
        row.push(format!("({:.2}", results.ratio(base, load, |sample| sample.cpu_ns)));
        row.push(format!("{:.2})", results.ratio(base, load, |sample| sample.wall_ns)));
    }
    row.push(format!("{:.1} %", median(&results.own_cpu)));
    row.push(results.losses.join("; "));
    row
}

fn targets(results: &[Results]) -> [Target; 5] {
    let target = |what, way: usize, load, base: usize, limit| {
        let measured = results[way].ratio(&results[base], load, |sample| sample.relative);
        Target { what, measured, limit: Limit::AtMost(limit), unit: "" }
    };
    [
        target("open+close: live to untraced", DEFAULT, Load::OpenClose, UNTRACED, 1.5),
        target("open+close: live to hooks that reject everything", DEFAULT, Load::OpenClose, REJECTING, 1.3),
        target("open+close: live --min-age 0s to untraced", STREAM, Load::OpenClose, UNTRACED, 1.5),
        target(
            "open+close: live --min-age 0s to hooks that reject everything",
            STREAM,
            Load::OpenClose,
            REJECTING,
            1.3,
        ),
        target("ping-pong: live to untraced", DEFAULT, Load::PingPong, UNTRACED, 1.03),
    ]
}
