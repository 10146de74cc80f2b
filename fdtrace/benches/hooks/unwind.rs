//! What stacks by unwind tables cost, against those by frame pointers.
//!
//! The loads keep frame pointers and have tables, so both walks see the same functions; how many frames each finds is
//! printed, since a walk that stops early is a cheap one.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    programs::{Costs, Hooks, Measurement, measure},
    table::{median, median_ratio, print, print_targets, target},
};

#[derive(clap::Args)]
pub(crate) struct Args {
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

const LOADS: [&str; 3] = ["sites-1", "sites-8", "sites-64"];
const HOOKS: [Hooks; 5] = [Hooks::Off, Hooks::User, Hooks::UserTables, Hooks::Both, Hooks::BothTables];
const OFF: usize = 0;
/// Chains by frame pointers and by tables: the user's half alone, and both.
const USER: [usize; 2] = [1, 2];
const BOTH: [usize; 2] = [3, 4];

/// By then the tables of the load have been read, and each call site has been met.
const WARM_UP: Option<u64> = Some(1000);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut results: Vec<Results> = LOADS.iter().map(|load| Results { load, ..Results::default() }).collect();
    for _ in 0..args.rounds {
        for load in &mut results {
            load.take_turns(args)?;
        }
    }
    let cold: Vec<Cold> = LOADS.iter().map(|load| args.cold(load)).collect::<anyhow::Result<_>>()?;
    let spawn = measure(&args.alone(Hooks::UserTables, "spawn"))?;
    print_times(&results);
    print_traffic(&results, &cold);
    print_spawn(&spawn)?;
    print_targets(&targets(&results, &cold, &spawn));
    Ok(())
}

/// A load from its start on, by tables; and how many frames frame pointers and tables find.
struct Cold {
    costs: Costs,
    frames: [String; 2],
}

impl Args {
    fn warm(&self, hooks: Hooks, load: &'static str, untimed: bool) -> Measurement<'_> {
        let object = self.object.as_deref();
        Measurement { hooks, load, time: self.time, untimed, warm_up: WARM_UP, alone: false, object }
    }

    /// Nobody else is traced: for what is counted.
    fn alone(&self, hooks: Hooks, load: &'static str) -> Measurement<'_> {
        Measurement { warm_up: None, alone: true, ..self.warm(hooks, load, true) }
    }

    fn cold(&self, load: &'static str) -> anyhow::Result<Cold> {
        let frames = |costs: &Costs| {
            format!("{}{}", costs.depth.frames, if costs.depth.complete { " complete" } else { "" })
        };
        let pointers = measure(&self.alone(Hooks::User, load))?;
        let costs = measure(&self.alone(Hooks::UserTables, load))?;
        Ok(Cold { frames: [frames(&pointers), frames(&costs)], costs })
    }
}

/// What has been measured of one load, for each of [`HOOKS`].
#[derive(Default)]
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
    fn take_turns(&mut self, args: &Args) -> anyhow::Result<()> {
        for (index, hooks) in HOOKS.into_iter().enumerate() {
            let timed = measure(&args.warm(hooks, self.load, false))?;
            self.program_ns[index].push(timed.allocation_ns());
            if index != OFF {
                let untimed = measure(&args.warm(hooks, self.load, true))?;
                self.relative[index].push(untimed.sample()?.relative);
            }
            if index == USER[1] {
                self.chain_bytes.push(timed.for_each(timed.measured.chain_bytes()));
                self.bytes.push(timed.for_each(timed.measured.bytes));
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

const TIMES: &str =
    "allocation program, ns for an open, by how chains are taken: not, by frame pointers (fp), by tables;
tables to fp of the program, in brackets of what chains add to it, and of open+close by the load's own clock";
const TIMES_HEADING: [&str; 12] = [
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

fn print_times(results: &[Results]) {
    println!("{TIMES}");
    print(&TIMES_HEADING, &results.iter().map(Results::row).collect::<Vec<_>>());
}

const TRAFFIC_HEADING: [&str; 11] = [
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

fn print_traffic(results: &[Results], cold: &[Cold]) {
    println!(
        "frames of a chain; windows and other bytes from the start until no more windows came; bytes for an open"
    );
    let row = |(results, Cold { costs, frames }): (&Results, &Cold)| {
        let bytes = costs.measured.chain_bytes();
        vec![
            results.load.to_owned(),
            frames[0].clone(),
            frames[1].clone(),
            costs.measured.windows.to_string(),
            format!("{} ms", costs.last_window_ms),
            costs.lost_events.to_string(),
            costs.lost_chains.to_string(),
            bytes.to_string(),
            format!("{:.2}", costs.for_each(bytes)),
            format!("{:.2}", median(&results.chain_bytes)),
            format!("{:.1}", median(&results.bytes)),
        ]
    };
    print(&TRAFFIC_HEADING, &results.iter().zip(cold).map(row).collect::<Vec<_>>());
}

fn print_spawn(costs: &Costs) -> anyhow::Result<()> {
    let processes = costs.count().context("a load without a result")?;
    let traffic = costs.measured;
    println!(
        "spawn: {processes:.0} processes, {} handles; {} windows ({:.3} for a process), the last after {} ms; {} events and \
         {} chains lost; for a process {:.0} bytes, {:.0} of them records of handles; for an open {:.0}\n",
        costs.handles,
        traffic.windows,
        f64::from(traffic.windows) / processes,
        costs.last_window_ms,
        costs.lost_events,
        costs.lost_chains,
        traffic.bytes as f64 / processes,
        traffic.handle_bytes as f64 / processes,
        costs.for_each(traffic.bytes)
    );
    Ok(())
}

/// The worst of the loads counts.
fn targets(results: &[Results], cold: &[Cold], spawn: &Costs) -> [Vec<String>; 6] {
    let worst = |number: &dyn Fn(&Results) -> f64| results.iter().map(number).fold(f64::NAN, f64::max);
    let from_start = |costs: &Costs| costs.for_each(costs.measured.bytes);
    let most = cold.iter().map(|cold| from_start(&cold.costs)).fold(f64::NAN, f64::max);
    let ratio = |what, measured| target(what, measured, 1.5, "");
    let bytes = |what, measured| target(what, measured, 1024.0, " bytes");
    [
        ratio("allocation program, user stacks: tables to frame pointers", worst(&|r| r.program_ratio(USER))),
        ratio("allocation program, both stacks: tables to frame pointers", worst(&|r| r.program_ratio(BOTH))),
        ratio("open+close, user stacks: tables to frame pointers", worst(&|r| r.relative_ratio(USER))),
        ratio("open+close, both stacks: tables to frame pointers", worst(&|r| r.relative_ratio(BOTH))),
        bytes("through the ring for an open, from the start of a load", most),
        bytes("through the ring for an open of short processes", from_start(spawn)),
    ]
}
