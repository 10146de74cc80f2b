//! Each program many times under the check: the verdict must be the same each time, and right.

use crate::tables::{markdown, median, milliseconds};
use anyhow::{Context as _, Result};
use fdtrace_tests::corpus::{Place, Program, Run, Verdict, checked, judge, plain};
use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

/// What came of one way to run a program.
#[derive(Default)]
struct Outcome {
    /// How often each verdict was given.
    verdicts: BTreeMap<String, u32>,
    /// What differed, and how often.
    wrong: BTreeMap<String, u32>,
    alone: Vec<Duration>,
    traced: Vec<Duration>,
}

/// Runs everything, prints the table, and what was wrong after it. The status says whether something was.
pub(super) fn print(fdtrace: &Path, places: &[(Program, Place)], runs: u32) -> Result<ExitCode> {
    let header = ["program", "language", "expected", "verdicts", "alone", "checked"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (program, place) in places {
        for run in &program.runs {
            let name = program.name_of(run);
            eprintln!("{name}");
            let outcome = repeat(fdtrace, (program, run, place), runs);
            wrong.extend(
                outcome.wrong.iter().map(|(what, times)| format!("{name}: {times} of {runs}: {what}")),
            );
            count += 1;
            rows.push(row(program, run, &outcome, runs));
        }
    }
    print!("{}", markdown(&rows));
    let with = |verdict| {
        let runs = places.iter().flat_map(|(program, _)| &program.runs);
        runs.filter(|run| run.verdict == verdict).count()
    };
    println!(
        "\n{} programs, run in {count} ways, {runs} times each: {} leak, {} are clean. {} differ.",
        places.len(),
        with(Verdict::Leak),
        with(Verdict::Clean),
        wrong.len()
    );
    wrong.iter().for_each(|line| println!("{line}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs everything without the check, and compares the exit statuses.
pub(super) fn alone(places: &[(Program, Place)]) -> Result<ExitCode> {
    let mut rows = vec![["program", "language", "status", "time"].map(str::to_owned).to_vec()];
    let mut wrong = 0;
    for (program, place) in places {
        for run in &program.runs {
            let name = program.name_of(run);
            let ended = plain(place, run).with_context(|| name.clone())?;
            let good = ended.status == run.exit;
            wrong += u32::from(!good);
            let status =
                if good { run.exit.to_string() } else { format!("{} and not {}", ended.status, run.exit) };
            rows.push(vec![name, program.language().to_string(), status, milliseconds(ended.time)]);
        }
    }
    print!("{}", markdown(&rows));
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repeat(fdtrace: &Path, what: (&Program, &Run, &Place), runs: u32) -> Outcome {
    let mut outcome = Outcome::default();
    for _ in 0..runs {
        match once(fdtrace, what, &mut outcome) {
            Ok(wrong) => wrong.into_iter().for_each(|what| *outcome.wrong.entry(what).or_default() += 1),
            Err(error) => {
                *outcome.verdicts.entry("none".to_owned()).or_default() += 1;
                *outcome.wrong.entry(format!("{error:#}")).or_default() += 1;
            }
        }
    }
    outcome
}

fn once(fdtrace: &Path, what: (&Program, &Run, &Place), outcome: &mut Outcome) -> Result<Vec<String>> {
    let (_, run, place) = what;
    let alone = plain(place, run)?;
    let (ended, report) = checked(fdtrace, place, run)?;
    *outcome.verdicts.entry(report.verdict.to_string()).or_default() += 1;
    outcome.alone.push(alone.time);
    outcome.traced.push(ended.time);
    Ok(judge(what, &alone, &ended, &report, true))
}

fn row(program: &Program, run: &Run, outcome: &Outcome, runs: u32) -> Vec<String> {
    let seen: Vec<_> =
        outcome.verdicts.iter().map(|(verdict, times)| format!("{verdict} {times}/{runs}")).collect();
    let time = |times: &Vec<_>| milliseconds(median(times.clone()));
    vec![
        program.name_of(run),
        program.language().to_string(),
        run.verdict.to_string(),
        seen.join(", "),
        time(&outcome.alone),
        time(&outcome.traced),
    ]
}
