//! `cargo xtask bench unwind`: what call chains by unwind tables cost, against those by frame pointers.
//!
//! The loads keep frame pointers and have tables, so both walks see the same functions; how many frames each finds is
//! printed, since a walk that stops early is a cheap one.

use super::{
    costs::Costs,
    numbers::{median, median_ratio},
    programs::Bench,
    table::{Limit, Target, print, print_targets},
};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each way of taking chains has its turn
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// How long a load is measured in each turn, after its warm-up
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    time: u64,
    /// A BPF object to measure in place of the built-in one
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let bench = Bench::build()?;
    let turns = Turns::new(&bench, args);
    let mut results: Vec<Results> = LOADS.iter().map(|load| Results::new(load)).collect();
    for _ in 0..args.rounds {
        for load in &mut results {
            load.take_turns(&turns)?;
        }
    }
    print_times(&results);
    let cold: Vec<Cold> = LOADS.iter().map(|load| turns.cold(load)).collect::<Result<_>>()?;
    let spawn = turns.alone("spawn")?;
    print_traffic(&results, &cold);
    print_spawn(&spawn)?;
    print_targets(&targets(&results, &cold, &spawn));
    Ok(())
}

const LOADS: [&str; 3] = ["sites-1", "sites-8", "sites-64"];

/// What the hooks of a measurement do, as the example `bench` names it.
const HOOKS: [&str; 5] = ["off", "user", "user-tables", "both", "both-tables"];
const OFF: usize = 0;
/// Chains by frame pointers and by tables: the user's half alone, and both.
const USER: [usize; 2] = [1, 2];
const BOTH: [usize; 2] = [3, 4];

/// By then the tables of the load have been read, and each call site has been met.
const WARM_UP: &str = "1000";

/// How turns are taken.
struct Turns<'a> {
    bench: &'a Bench,
    time: String,
    object: Option<&'a str>,
}

/// A load from its start on, by tables.
struct Cold {
    costs: Costs,
    frames: [String; 2],
}

impl<'a> Turns<'a> {
    fn new(bench: &'a Bench, args: &'a Args) -> Self {
        let object = args.object.as_deref().and_then(|path| path.to_str());
        Self { bench, time: args.time.to_string(), object }
    }

    fn measure(&self, hooks: &str, load: &str, options: &[&str]) -> Result<Costs> {
        let mut options = [&["--time", &self.time], options].concat();
        options.extend(self.object.iter().flat_map(|object| ["--object", object]));
        Costs::measure(self.bench, hooks, load, &options)
    }

    /// By tables, and nobody else is traced: for what is counted.
    fn alone(&self, load: &str) -> Result<Costs> {
        self.measure("user-tables", load, &["--alone", "--untimed"])
    }

    fn cold(&self, load: &str) -> Result<Cold> {
        let (pointers, tables) = (self.measure("user", load, &["--alone", "--untimed"])?, self.alone(load)?);
        Ok(Cold { frames: [frames(&pointers), frames(&tables)], costs: tables })
    }
}

fn frames(costs: &Costs) -> String {
    let mark = if costs.depth.complete { " complete" } else { "" };
    format!("{}{mark}", costs.depth.frames)
}

/// What has been measured of one load, for each of [`HOOKS`].
struct Results {
    load: &'static str,
    /// Nanoseconds of the allocation program for an open.
    program_ns: [Vec<f64>; HOOKS.len()],
    /// What the load's own clock says of an open and a close, without the kernel's statistics; not where no chain is taken.
    relative: [Vec<f64>; HOOKS.len()],
    /// Bytes through the ring for an open, without and with the records of handles.
    chain_bytes: Vec<f64>,
    bytes: Vec<f64>,
}

impl Results {
    fn new(load: &'static str) -> Self {
        let none = || std::array::from_fn(|_| Vec::new());
        Self { load, program_ns: none(), relative: none(), chain_bytes: Vec::new(), bytes: Vec::new() }
    }

    fn take_turns(&mut self, turns: &Turns<'_>) -> Result<()> {
        for (index, hooks) in HOOKS.into_iter().enumerate() {
            let timed = turns.measure(hooks, self.load, &["--warm-up", WARM_UP])?;
            self.program_ns[index].push(timed.allocation_ns());
            if index != OFF {
                let untimed = turns.measure(hooks, self.load, &["--warm-up", WARM_UP, "--untimed"])?;
                let sample = untimed.sample().context("a load without a result")?;
                self.relative[index].push(sample.relative);
            }
            if index == USER[1] {
                self.chain_bytes.push(per_open(&timed, timed.measured.chain_bytes()));
                self.bytes.push(per_open(&timed, timed.measured.bytes));
            }
        }
        Ok(())
    }

    fn program_ratio(&self, [pointers, tables]: [usize; 2]) -> f64 {
        median_ratio(&self.program_ns[tables], &self.program_ns[pointers])
    }

    fn relative_ratio(&self, [pointers, tables]: [usize; 2]) -> f64 {
        median_ratio(&self.relative[tables], &self.relative[pointers])
    }

    /// What the chains alone take, without the rest of the program.
    fn chain_ratio(&self, [pointers, tables]: [usize; 2]) -> f64 {
        let beyond_off = |index: usize| -> Vec<f64> {
            let pairs = self.program_ns[index].iter().zip(&self.program_ns[OFF]);
            pairs.map(|(with, without)| with - without).collect()
        };
        median_ratio(&beyond_off(tables), &beyond_off(pointers))
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.load.to_owned(), format!("{:.0}", median(&self.program_ns[OFF]))];
        for pair in [USER, BOTH] {
            row.extend(pair.map(|index| format!("{:.0}", median(&self.program_ns[index]))));
            row.push(format!("{:.2}", self.program_ratio(pair)));
            row.push(format!("({:.2})", self.chain_ratio(pair)));
            row.push(format!("{:.2}", self.relative_ratio(pair)));
        }
        row
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
fn per_open(costs: &Costs, bytes: u32) -> f64 {
    f64::from(bytes) / costs.handles as f64
}

const TIMES: &str =
    "allocation program, ns for an open, by how chains are taken: not, by frame pointers (fp), by tables;
tables to fp of the program, in brackets of what chains add to it, and of open+close by the load's own clock";

fn print_times(results: &[Results]) {
    println!("{TIMES}");
    let rows: Vec<Vec<String>> = results.iter().map(Results::row).collect();
    let heading = [
        "",
        "off",
        "user: fp",
        "tables",
        "ratio",
        "(chain)",
        "open+close",
        "both: fp",
        "tables",
        "ratio",
        "(chain)",
        "open+close",
    ];
    print(&heading, &rows);
}

fn print_traffic(results: &[Results], cold: &[Cold]) {
    println!(
        "\nframes of a chain; windows and other bytes from the start until no more windows came; bytes for an open"
    );
    let rows: Vec<Vec<String>> =
        results.iter().zip(cold).map(|(results, cold)| traffic_row(results, cold)).collect();
    let heading = [
        "",
        "fp frames",
        "tables",
        "windows",
        "their time",
        "lost events",
        "lost chains",
        "chain bytes",
        "for an open",
        "warm",
        "with handles",
    ];
    print(&heading, &rows);
}

fn traffic_row(results: &Results, cold: &Cold) -> Vec<String> {
    let (costs, [pointers, tables]) = (&cold.costs, cold.frames.clone());
    let bytes = costs.measured.chain_bytes();
    vec![
        results.load.to_owned(),
        pointers,
        tables,
        costs.measured.windows.to_string(),
        format!("{} ms", costs.last_window_ms),
        costs.lost_events.to_string(),
        costs.lost_chains.to_string(),
        bytes.to_string(),
        format!("{:.2}", per_open(costs, bytes)),
        format!("{:.2}", median(&results.chain_bytes)),
        format!("{:.1}", median(&results.bytes)),
    ]
}

fn print_spawn(costs: &Costs) -> Result<()> {
    let processes = costs.count().context("a load without a result")?;
    let (traffic, per_process) = (costs.measured, |count: u32| f64::from(count) / processes);
    println!(
        "\nspawn: {processes:.0} processes, {} handles; {} windows ({:.3} for a process), the last after {} ms; {} events and {} chains lost",
        costs.handles,
        traffic.windows,
        per_process(traffic.windows),
        costs.last_window_ms,
        costs.lost_events,
        costs.lost_chains
    );
    println!(
        "spawn: for a process {:.0} bytes, {:.0} of them records of handles; for an open {:.0}",
        per_process(traffic.bytes),
        per_process(traffic.handle_bytes),
        per_open(costs, traffic.bytes)
    );
    Ok(())
}

/// The worst of the loads counts.
fn targets(results: &[Results], cold: &[Cold], spawn: &Costs) -> [Target; 6] {
    let worst = |number: &dyn Fn(&Results) -> f64| results.iter().map(number).fold(f64::NAN, f64::max);
    let ratio = |what, measured| Target { what, measured, limit: Limit::AtMost(1.5), unit: "" };
    let bytes = |what, measured| Target { what, measured, limit: Limit::AtMost(1024.0), unit: " bytes" };
    let from_start = |costs: &Costs| per_open(costs, costs.measured.bytes);
    [
        ratio("allocation program, user stacks: tables to frame pointers", worst(&|r| r.program_ratio(USER))),
        ratio("allocation program, both stacks: tables to frame pointers", worst(&|r| r.program_ratio(BOTH))),
        ratio("open+close, user stacks: tables to frame pointers", worst(&|r| r.relative_ratio(USER))),
        ratio("open+close, both stacks: tables to frame pointers", worst(&|r| r.relative_ratio(BOTH))),
        bytes(
            "through the ring for an open, from the start of a load",
            cold.iter().map(|cold| from_start(&cold.costs)).fold(f64::NAN, f64::max),
        ),
        bytes("through the ring for an open of short processes", from_start(spawn)),
    ]
}
