//! `cargo xtask bench check`: what a program pays for being checked.

use super::{
    load::{Load, Sample, Turns},
    numbers::{median, median_ratio},
    programs::{self, Bench},
    table::{Limit, Target, print, print_targets},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// Ways to run a program; the first is alone.
const WAYS: [(&str, &[&str]); 4] = [
    ("alone", &[]),
    ("check", &["check", "--"]),
    ("check --unwind fp", &["check", "--unwind", "fp", "--"]),
    ("check --stacks off", &["check", "--stacks", "off", "--"]),
];
const ALONE: usize = 0;
const CHECKED: usize = 1;

pub(super) fn run(args: &Turns) -> Result<()> {
    let (fdtrace, bench) = (programs::fdtrace()?, Bench::build()?);
    let mut samples: [[Vec<Sample>; WAYS.len()]; Load::ALL.len()] = Default::default();
    let mut nothing: [Vec<f64>; WAYS.len()] = Default::default();
    for _ in 0..args.rounds {
        for (way, (_, arguments)) in WAYS.iter().enumerate() {
            let wrapper = wrapper(&fdtrace, arguments)?;
            for (load, samples) in Load::ALL.into_iter().zip(&mut samples) {
                samples[way].push(load.run(&bench, &wrapper, args.time)?);
            }
            nothing[way].push(seconds(&wrapper)?);
        }
    }
    print_ways(&samples, &nothing);
    let relative = |load: usize| ratio(&samples[load], CHECKED, |sample| sample.relative);
    print_targets(&[
        Target {
            what: "open+close: check to alone",
            measured: relative(0),
            limit: Limit::AtMost(1.5),
            unit: "",
        },
        Target {
            what: "ping-pong, which opens nothing",
            measured: relative(1),
            limit: Limit::AtMost(1.03),
            unit: "",
        },
        Target {
            what: "a check of a program that does nothing",
            measured: median(&nothing[CHECKED]) - median(&nothing[ALONE]),
            limit: Limit::AtMost(1.0),
            unit: " s",
        },
    ]);
    Ok(())
}

fn wrapper<'a>(fdtrace: &'a Path, arguments: &[&'a str]) -> Result<Vec<&'a str>> {
    if arguments.is_empty() {
        return Ok(Vec::new());
    }
    let fdtrace = fdtrace.to_str().context("the checkout's path is not UTF-8")?;
    Ok([&[fdtrace], arguments].concat())
}

/// How long `true` takes, by the wall's clock.
fn seconds(wrapper: &[&str]) -> Result<f64> {
    let words = [wrapper, &["true"]].concat();
    let began = Instant::now();
    let status =
        Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "{} ended with {status}", words.join(" "));
    Ok(began.elapsed().as_secs_f64())
}

fn ratio(samples: &[Vec<Sample>; WAYS.len()], way: usize, clock: fn(&Sample) -> f64) -> f64 {
    let of = |way: usize| samples[way].iter().map(clock).collect::<Vec<f64>>();
    median_ratio(&of(way), &of(ALONE))
}

const HEADING: &str = "how much slower a load gets: by its processor time, against work at the same moment that cannot be slowed
down; in brackets by its processor time alone, and by the wall's clock. And how long `true` takes.";

fn print_ways(samples: &[[Vec<Sample>; WAYS.len()]; Load::ALL.len()], nothing: &[Vec<f64>; WAYS.len()]) {
    println!("{HEADING}");
    let rows: Vec<Vec<String>> = WAYS
        .iter()
        .enumerate()
        .map(|(way, (name, _))| {
            let mut row = vec![(*name).to_owned()];
            for load in samples {
                let cpu: Vec<f64> = load[way].iter().map(|sample| sample.cpu_ns).collect();
                row.push(format!("{:.0} ns", median(&cpu)));
                row.push(format!("{:.2}", ratio(load, way, |sample| sample.relative)));
                row.push(format!("({:.2}", ratio(load, way, |sample| sample.cpu_ns)));
                row.push(format!("{:.2})", ratio(load, way, |sample| sample.wall_ns)));
            }
            row.push(format!("{:.2} s", median(&nothing[way])));
            row
        })
        .collect();
    print(&["", "open+close", "", "(cpu", "wall)", "ping-pong", "", "(cpu", "wall)", "true"], &rows);
}
