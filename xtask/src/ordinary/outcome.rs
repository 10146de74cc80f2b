//! One program, alone and under the check, several times.

use super::{place::Place, report::Report, table::Program};
use anyhow::{Context as _, Result};
use fdtrace_tests::corpus::{Ended, Verdict, timed};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::Duration,
};

/// What the check itself may end with, besides the command's own status.
const LEAK: i32 = 23;
const INCONCLUSIVE: i32 = 24;

/// What came of a program.
pub(super) enum Outcome {
    /// It could not be run, and why.
    Skipped(String),
    Ran(Box<Seen>),
}

/// What was seen of a program.
#[derive(Default)]
pub(super) struct Seen {
    /// How often each verdict was given.
    pub(super) verdicts: BTreeMap<String, u32>,
    /// Call sites that leak.
    pub(super) leaks: BTreeSet<String>,
    /// What is not as it should be, and how often.
    pub(super) wrong: BTreeMap<String, u32>,
    /// The exit status of its own.
    pub(super) status: i32,
    /// The most of all runs.
    pub(super) programs: u64,
    pub(super) files: u64,
    pub(super) steady: usize,
    pub(super) alone: Vec<Duration>,
    pub(super) checked: Vec<Duration>,
}

/// What one run gave.
struct Once {
    alone: Ended,
    checked: Ended,
    report: Report,
}

pub(super) fn repeat(fdtrace: &Path, program: &Program, runs: u32) -> Outcome {
    let mut seen = Seen::default();
    for _ in 0..runs {
        let wrong = match once(fdtrace, program) {
            Ok(once) => seen.add(program, &once),
            Err(error) => vec![format!("{error:#}")],
        };
        wrong.into_iter().for_each(|what| *seen.wrong.entry(what).or_default() += 1);
    }
    Outcome::Ran(Box::new(seen))
}

fn once(fdtrace: &Path, program: &Program) -> Result<Once> {
    let place = Place::new()?;
    let alone = place.with(program, timed)?;
    let file = place.beside("check.json");
    let checked = place.with(program, |command| timed(&mut under_check(&place, fdtrace, &file, command)))?;
    let say = || format!("status {}, and on standard error: {}", checked.status, checked.stderr.trim());
    let text = fs::read_to_string(&file).with_context(say)?;
    let report = Report::parse(&text).context("what --json-out wrote")?;
    Ok(Once { alone, checked, report })
}

fn under_check(place: &Place, fdtrace: &Path, file: &Path, command: &Command) -> Command {
    let mut check = place.command(fdtrace);
    check
        .arg("check")
        .arg("--json-out")
        .arg(file)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    check
}

impl Seen {
    /// Takes a run, and says what is wrong with it.
    fn add(&mut self, program: &Program, once: &Once) -> Vec<String> {
        let Once { alone, checked, report } = once;
        *self.verdicts.entry(report.verdict.to_string()).or_default() += 1;
        self.leaks.extend(report.leaks());
        self.status = alone.status;
        self.programs = self.programs.max(report.programs);
        self.files = self.files.max(report.files());
        self.steady = self.steady.max(report.steady());
        self.alone.push(alone.time);
        self.checked.push(checked.time);
        wrong(program, once)
    }
}

fn wrong(program: &Program, Once { alone, checked, report }: &Once) -> Vec<String> {
    let mut wrong = Vec::new();
    if report.verdict != program.expect {
        let why: Vec<_> = report.leaks().into_iter().chain(report.doubts.iter().cloned()).collect();
        wrong.push(format!("{} and not {}: {}", report.verdict, program.expect, why.join("; ")));
    }
    if report.status() != Some(alone.status) {
        wrong.push(format!("its own status is {:?} and not {}", report.status(), alone.status));
    }
    let status = match report.verdict {
        Verdict::Clean => alone.status,
        Verdict::Leak => LEAK,
        Verdict::Inconclusive => INCONCLUSIVE,
    };
    if checked.status != status {
        wrong.push(format!("status {} and not {status}", checked.status));
    }
    if program.output && checked.stdout != alone.stdout {
        wrong.push(format!("its output differs: {}", first_difference(&alone.stdout, &checked.stdout)));
    }
    wrong
}

fn first_difference(alone: &str, checked: &str) -> String {
    let lines = alone.lines().zip(checked.lines()).enumerate();
    match lines.into_iter().find(|(_, (alone, checked))| alone != checked) {
        Some((index, (alone, checked))) => format!("line {}: {checked:?} and not {alone:?}", index + 1),
        None => format!("{} bytes and not {}", checked.len(), alone.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(first_difference("a\nb\nc", "a\nx\nd"), "line 2: \"x\" and not \"b\"");
        assert_eq!(first_difference("a\nb\n", "a\n"), "2 bytes and not 4");
    }
}
