//! The programs one by one, and what the min-age filter costs beyond the same hooks without a ring.

use crate::{
    programs::{Costs, Hooks, Measurement, measure},
    table::{median_ratio, print, print_targets, target},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each way has its turn
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// How long a load runs in each turn
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 700)]
    time: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { rounds: 8, time: 700 }
    }
}

const HOOKS: [Hooks; 6] =
    [Hooks::Reject, Hooks::Off, Hooks::User, Hooks::Both, Hooks::Survivors, Hooks::Nothing];
const HEADING: [&str; 8] =
    ["", "rejecting", "off", "user", "both", "min-age", "both, no ring", "verified instructions"];

/// Runs below this number tell more about the first run than about the others.
const ENOUGH_RUNS: u64 = 100;

/// Of the idle machine.
const IDLE_SECONDS: u64 = 10;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let of = |hooks, load, untimed, time| Measurement {
        hooks,
        load,
        time,
        untimed,
        warm_up: None,
        alone: false,
        object: None,
    };
    let mut rows = Vec::new();
    let mut backend = "";
    for load in ["open-close", "ping-pong", "spawn"] {
        let costs = HOOKS.iter().map(|hooks| measure(&of(*hooks, load, false, args.time)));
        let costs: Vec<Costs> = costs.collect::<anyhow::Result<_>>()?;
        backend = costs[0].backend;
        rows.extend((0..costs[0].programs.len()).filter_map(|index| row(load, index, &costs)));
    }
    println!("BPF programs of the {backend} backend, ns for a run, by the stacks that are taken");
    print(&HEADING, &rows);
    let relative = |hooks| anyhow::Ok(measure(&of(hooks, "open-close", true, args.time))?.sample()?.relative);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        with.push(relative(Hooks::Survivors)?);
        without.push(relative(Hooks::Nothing)?);
    }
    let idle = measure(&of(Hooks::Survivors, "idle", true, IDLE_SECONDS * 1000))?;
    let each_second = idle.ring_bytes as f64 / IDLE_SECONDS as f64;
    print_targets(&[
        target(
            "open+close: the min-age filter to the same hooks without a ring",
            median_ratio(&with, &without),
            1.05,
            "",
        ),
        target(
            "the min-age filter: through the ring in a second on an idle machine",
            each_second,
            1024.0,
            " bytes",
        ),
    ]);
    Ok(())
}

/// One program under one load; `None` when the load does not run it.
fn row(load: &str, index: usize, costs: &[Costs]) -> Option<Vec<String>> {
    let programs: Vec<_> = costs.iter().map(|costs| &costs.programs[index]).collect();
    if programs.iter().any(|program| program.runs < ENOUGH_RUNS) {
        return None;
    }
    let mut row = vec![format!("{}, {load}", programs[0].program)];
    row.extend(programs.iter().map(|program| format!("{:.0}", program.time_ns as f64 / program.runs as f64)));
    row.push(programs[programs.len() - 1].verified.to_string());
    Some(row)
}
