//! Runs cases, each several times, and gathers what came of them.

use anyhow::Result;
use fdtrace_tests::corpus::{Ended, Report};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Runs something once, with an fdtrace.
pub(super) type Runs = Box<dyn Fn(&Path) -> Result<Once>>;

/// A program in one way to run it, and what has to come of that.
pub(super) struct Case {
    pub(super) name: String,
    /// What has to be found, in a word or two.
    pub(super) expected: String,
    /// What is not on this machine and would have to be.
    pub(super) missing: Option<String>,
    /// What would bring it.
    pub(super) packages: Vec<String>,
    /// Why it leaks, where a program of others does.
    pub(super) reason: Option<String>,
    pub(super) once: Runs,
}

/// What one run gave.
#[derive(Default)]
pub(super) struct Once {
    /// The program alone, if it was run alone.
    pub(super) alone: Option<Ended>,
    /// All that ran under the check, one after the other.
    pub(super) checked: Vec<Ended>,
    pub(super) report: Option<Report>,
    /// What is not as it should be.
    pub(super) wrong: Vec<String>,
}

/// What came of a case, over all runs.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) reason: Option<String>,
    /// Why it could not be run.
    pub(super) skipped: Option<String>,
    /// How often each verdict was given.
    pub(super) verdicts: BTreeMap<String, u32>,
    /// What was not as it should be, and how often.
    pub(super) wrong: BTreeMap<String, u32>,
    /// Call sites that leak.
    pub(super) leaks: BTreeSet<String>,
    /// The exit status of the program's own.
    pub(super) status: Option<i32>,
    /// The most of all runs.
    pub(super) programs: u64,
    pub(super) files: u64,
    /// Seconds.
    pub(super) alone: Vec<f64>,
    pub(super) checked: Vec<f64>,
}

/// Runs a case so many times. `show` prints what it says, as pages have it.
pub(super) fn repeat(case: &Case, fdtrace: &Path, runs: u32, show: bool) -> Outcome {
    let mut outcome = Outcome {
        name: case.name.clone(),
        expected: case.expected.clone(),
        reason: case.reason.clone(),
        skipped: case.missing.as_ref().map(|name| format!("no {name} here")),
        ..Outcome::default()
    };
    eprintln!("{}", outcome.name);
    for _ in 0..if outcome.skipped.is_none() { runs } else { 0 } {
        let failed = |error| Once { wrong: vec![format!("{error:#}")], ..Once::default() };
        let once = (case.once)(fdtrace).unwrap_or_else(failed);
        if show {
            once.checked.iter().for_each(print);
        }
        outcome.add(once);
    }
    outcome
}

fn print(Ended { status, stdout, stderr, .. }: &Ended) {
    println!("{stdout}{stderr}-- status {status}\n");
}

impl Outcome {
    fn add(&mut self, once: Once) {
        let verdict = match (&once.report, once.wrong.is_empty()) {
            (Some(report), _) => report.verdict.to_string(),
            (None, true) => self.expected.clone(),
            (None, false) => "none".to_owned(),
        };
        *self.verdicts.entry(verdict).or_default() += 1;
        once.wrong.into_iter().for_each(|what| *self.wrong.entry(what).or_default() += 1);
        if let Some(report) = &once.report {
            self.leaks.extend(report.leaks());
            self.programs = self.programs.max(report.programs);
            self.files = self.files.max(report.files());
        }
        if let Some(alone) = once.alone {
            self.status = Some(alone.status);
            self.alone.push(alone.time.as_secs_f64());
        }
        if !once.checked.is_empty() {
            self.checked.push(once.checked.iter().map(|ended| ended.time.as_secs_f64()).sum());
        }
    }

    pub(super) fn is_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrong in one way at first.
    fn case(missing: Option<&str>) -> Case {
        let first = std::cell::Cell::new(true);
        let once = move |_: &Path| {
            let wrong = if first.replace(false) { vec!["it differs".to_owned()] } else { vec![] };
            Ok(Once { wrong, ..Once::default() })
        };
        let (name, expected) = ("x".to_owned(), "right".to_owned());
        let missing = missing.map(str::to_owned);
        Case { name, expected, missing, packages: vec![], reason: None, once: Box::new(once) }
    }

    #[test]
    fn what_differs_is_counted() {
        let outcome = repeat(&case(None), Path::new(""), 3, false);
        assert_eq!(outcome.wrong, BTreeMap::from([("it differs".to_owned(), 1)]));
        assert_eq!(outcome.verdicts, BTreeMap::from([("right".to_owned(), 2), ("none".to_owned(), 1)]));
    }

    #[test]
    fn what_is_not_there_is_not_run() {
        let outcome = repeat(&case(Some("python4")), Path::new(""), 3, false);
        assert_eq!((outcome.skipped.as_deref(), outcome.is_wrong()), (Some("no python4 here"), false));
        assert!(outcome.verdicts.is_empty());
    }
}
