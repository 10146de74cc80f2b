//! `cargo xtask bench hooks` and `cargo xtask bench check`: how much slower loads get when they are traced in some way.

use super::{
    by_turns,
    live::{Live, losses},
    load::{self, LOADS, OPEN_CLOSE, PING_PONG, Sample, Turns},
    programs::{self, Bench},
};
use crate::{
    run,
    tables::{self, Limit, median, median_ratio, print, print_targets},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A way of tracing.
struct Way {
    name: String,
    tool: Tool,
}

enum Tool {
    None,
    /// `fdtrace live` beside the load.
    Live(&'static [&'static str]),
    /// A command that starts the load.
    Wrapper(Vec<String>),
    /// One that stops every system call, the other work's too.
    Stopper(Vec<String>),
}

/// What has been measured of one way.
#[derive(Default)]
struct Results {
    samples: BTreeMap<&'static str, Vec<Sample>>,
    /// Processor time of the tracer, in percent of one core, during the open+close loop.
    own_cpu: Vec<f64>,
    /// How long `true` takes, in seconds.
    nothing: Vec<f64>,
    losses: Vec<String>,
}

/// A user that no process runs as: the hooks look at every allocation and turn it away.
const REJECT: [&str; 2] = ["--uid", "4294967294"];
/// The ways that targets speak of.
const UNTRACED: usize = 0;
const REJECTING: usize = 1;
const STREAM: usize = 4;
const DEFAULT: usize = 5;
const CHECKED: usize = 1;

pub(super) fn hooks(args: &Turns) -> Result<()> {
    let (fdtrace, bench) = (programs::fdtrace()?, Bench::build()?);
    let turns = [("--rounds", args.rounds.to_string()), ("--time", args.time.to_string())];
    bench.show("costs", &turns.map(|(option, value)| format!("{option}={value}")))?;
    let own: [(&str, Tool); 6] = [
        ("untraced", Tool::None),
        ("hooks that reject everything", Tool::Live(&REJECT)),
        ("live --min-age 0s --stacks off", Tool::Live(&["--min-age", "0s", "--stacks", "off"])),
        ("live --min-age 0s --stacks user", Tool::Live(&["--min-age", "0s", "--stacks", "user"])),
        ("live --min-age 0s", Tool::Live(&["--min-age", "0s"])),
        ("live", Tool::Live(&[])),
    ];
    let mut ways: Vec<Way> =
        own.into_iter().map(|(name, tool)| Way { name: name.to_owned(), tool }).collect();
    ways.extend(strace());
    let results =
        by_turns(&ways, args.rounds, |_, way, results| way.take_turn(&fdtrace, &bench, args.time, results))?;
    print_slow_downs(&ways, &results);
    let target = |what, way: usize, load, base: usize, limit| {
        let measured = results[way].ratio(&results[base], load, |sample| sample.relative);
        tables::target(what, measured, Limit::AtMost(limit), "")
    };
    let stream = "open+close: live --min-age 0s to hooks that reject everything";
    print_targets(&[
        target("open+close: live to untraced", DEFAULT, OPEN_CLOSE, UNTRACED, 1.5),
        target("open+close: live to hooks that reject everything", DEFAULT, OPEN_CLOSE, REJECTING, 1.3),
        target("open+close: live --min-age 0s to untraced", STREAM, OPEN_CLOSE, UNTRACED, 1.5),
        target(stream, STREAM, OPEN_CLOSE, REJECTING, 1.3),
        target("ping-pong: live to untraced", DEFAULT, PING_PONG, UNTRACED, 1.03),
    ]);
    Ok(())
}

/// What a program pays for being checked.
pub(super) fn check(args: &Turns) -> Result<()> {
    let (fdtrace, bench) = (programs::fdtrace()?, Bench::build()?);
    let program = fdtrace.to_str().context("the checkout's path is not UTF-8")?;
    let mut ways = vec![Way { name: "alone".to_owned(), tool: Tool::None }];
    for name in ["check", "check --unwind fp", "check --stacks off"] {
        let words = [program].into_iter().chain(name.split(' ')).chain(["--"]);
        ways.push(Way { name: name.to_owned(), tool: Tool::Wrapper(words.map(str::to_owned).collect()) });
    }
    let results = by_turns(&ways, args.rounds, |_, way, results: &mut Results| {
        way.take_turn(&fdtrace, &bench, args.time, results)?;
        results.nothing.push(way.seconds()?);
        Ok(())
    })?;
    print_slow_downs(&ways, &results);
    let target = |what, measured, limit, unit| tables::target(what, measured, Limit::AtMost(limit), unit);
    let ratio = |load| results[CHECKED].ratio(&results[UNTRACED], load, |sample| sample.relative);
    let price = median(&results[CHECKED].nothing) - median(&results[UNTRACED].nothing);
    print_targets(&[
        target("open+close: check to alone", ratio(OPEN_CLOSE), 1.5, ""),
        target("ping-pong, which opens nothing", ratio(PING_PONG), 1.03, ""),
        target("a check of a program that does nothing", price, 1.0, " s"),
    ]);
    Ok(())
}

impl Way {
    fn take_turn(&self, fdtrace: &Path, bench: &Bench, time: u64, results: &mut Results) -> Result<()> {
        let nobody = || Ok(Duration::ZERO);
        match &self.tool {
            Tool::None => results.run_loads(bench, &[], time, &nobody),
            Tool::Wrapper(words) | Tool::Stopper(words) => results.run_loads(bench, words, time, &nobody),
            Tool::Live(arguments) => {
                let live = Live::start(fdtrace, arguments)?;
                results.run_loads(bench, &[], time, &|| live.process.cpu_time())?;
                results.losses.extend(losses(&live.stop()?));
                Ok(())
            }
        }
    }

    /// How long `true` takes, by the wall's clock.
    fn seconds(&self) -> Result<f64> {
        let wrapper: &[String] = if let Tool::Wrapper(words) = &self.tool { words } else { &[] };
        let words: Vec<&str> = wrapper.iter().map(String::as_str).chain(["true"]).collect();
        let began = Instant::now();
        let mut command = Command::new(words[0]);
        let status = command.args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "{} ended with {status}", words.join(" "));
        Ok(began.elapsed().as_secs_f64())
    }
}

impl Results {
    fn run_loads(
        &mut self,
        bench: &Bench,
        wrapper: &[String],
        time: u64,
        tracer_time: &dyn Fn() -> Result<Duration>,
    ) -> Result<()> {
        for load in LOADS {
            let (start, before) = (Instant::now(), tracer_time()?);
            let sample = load::run(load, bench, wrapper, time)?;
            if load == OPEN_CLOSE {
                let own = tracer_time()? - before;
                self.own_cpu.push(own.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0);
            }
            self.samples.entry(load).or_default().push(sample);
        }
        Ok(())
    }

    /// One number of each sample of a load.
    fn of(&self, load: &str, number: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.get(load).into_iter().flatten().map(number).collect()
    }

    /// How many times as long a turn took as one of `base`, by some clock: the median of the rounds.
    fn ratio(&self, base: &Self, load: &str, clock: fn(&Sample) -> f64) -> f64 {
        median_ratio(&self.of(load, clock), &base.of(load, clock))
    }
}

const SLOW_DOWNS: &str = "how much slower a load gets: first by its processor time, against work at the same moment that cannot be slowed down;
in brackets by its processor time alone, and by wall time, other load included; and how long `true` takes";
const HEADING: [&str; 12] =
    ["", "open+close", "", "(cpu", "wall)", "ping-pong", "", "(cpu", "wall)", "own cpu", "true", "lost"];

fn print_slow_downs(ways: &[Way], results: &[Results]) {
    println!("{SLOW_DOWNS}");
    let rows: Vec<_> = ways.iter().zip(results).map(|(way, own)| row(way, own, &results[UNTRACED])).collect();
    print(&HEADING, &rows);
}

fn row(way: &Way, results: &Results, base: &Results) -> Vec<String> {
    let mut row = vec![way.name.clone()];
    for load in LOADS {
        let relative = results.ratio(base, load, |sample| sample.relative);
        let stops = matches!(way.tool, Tool::Stopper(_));
        row.push(format!("{:.0} ns", median(&results.of(load, |sample| sample.cpu_ns))));
        row.push(if stops { "-".to_owned() } else { format!("{relative:.2}") });
        row.push(format!("({:.2}", results.ratio(base, load, |sample| sample.cpu_ns)));
        row.push(format!("{:.2})", results.ratio(base, load, |sample| sample.wall_ns)));
    }
    let beside = matches!(way.tool, Tool::Live(_));
    row.push(if beside { format!("{:.1} %", median(&results.own_cpu)) } else { String::new() });
    let nothing = &results.nothing;
    row.push(if nothing.is_empty() { String::new() } else { format!("{:.2} s", median(nothing)) });
    row.push(results.losses.join("; "));
    row
}

/// Writes each call down.
const STRACE: [&str; 7] = ["strace", "-f", "-qq", "-e", "trace=openat,close", "-o", "/dev/null"];

/// Another tool that can be asked where handles come from, if it works here.
fn strace() -> Option<Way> {
    let version = run::probe(Command::new(STRACE[0]).arg("--version"))?;
    run::succeed(Command::new(STRACE[0]).args(&STRACE[1..]).arg("true")).ok()?;
    let name = version.lines().next()?.replace("-- version ", "");
    Some(Way { name, tool: Tool::Stopper(STRACE.map(str::to_owned).to_vec()) })
}
