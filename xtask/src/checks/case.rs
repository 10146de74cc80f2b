//! The programs of tables, under the check.

use super::{
    place::Place,
    runner::{Case, Once, Runs},
    table::Program,
};
use crate::run;
use anyhow::{Context as _, Result};
use fdtrace_tests::corpus::{Ended, Report, Verdict, timed};
use std::{fs, path::Path, process::Command};

/// What the check itself may end with, besides the command's own status.
const LEAK: i32 = 23;
const INCONCLUSIVE: i32 = 24;

/// A program that runs under the check. One of several versions is not run alone: what it does is known.
struct Checked {
    program: Program,
    version: Option<String>,
    expect: Verdict,
}

/// The ways in which a program of a table is run: its steps, or each of its versions, or the one that is there.
pub(super) fn cases(program: &Program) -> Vec<Case> {
    if !program.steps.is_empty() {
        let example = program.clone();
        let once = move |fdtrace: &Path| follow(&example, fdtrace);
        return vec![case(program, program.name.clone(), "as the page says".to_owned(), Box::new(once))];
    }
    let versions = program.leaking.iter().map(|version| (Some(version.clone()), Verdict::Leak));
    let fixed = program.fixed.iter().map(|version| (Some(version.clone()), Verdict::Clean));
    let mut ways: Vec<_> = versions.chain(fixed).collect();
    if ways.is_empty() {
        ways.push((None, program.expect));
    }
    let way = |(version, expect)| {
        let checked = Checked { program: program.clone(), version, expect };
        let (name, expected) = (checked.name(), checked.expected());
        case(program, name, expected, Box::new(move |fdtrace: &Path| checked.once(fdtrace)))
    };
    ways.into_iter().map(way).collect()
}

fn case(program: &Program, name: String, expected: String, once: Runs) -> Case {
    let Program { packages, reason, .. } = program.clone();
    Case { name, expected, missing: program.missing(), packages, reason, once }
}

impl Checked {
    fn name(&self) -> String {
        let version = self.version.iter().map(|version| format!(" {version}"));
        std::iter::once(self.program.name.clone()).chain(version).collect()
    }

    fn expected(&self) -> String {
        match (self.expect, &self.program.leaked, &self.program.names) {
            (Verdict::Leak, Some(leaked), Some(names)) => format!("leak, {leaked} calls at {names}"),
            (expect, ..) => expect.to_string(),
        }
    }

    fn once(&self, fdtrace: &Path) -> Result<Once> {
        let place = match &self.version {
            Some(version) => Place::kept(fdtrace, &self.program, version)?,
            None => Place::temporary(fdtrace)?,
        };
        let alone = match self.version {
            Some(_) => None,
            None => Some(place.with(&self.program, timed)?),
        };
        let file = place.beside("check.json");
        let checked = place.with(&self.program, |command| timed(&mut under_check(&place, &file, command)))?;
        let say = || format!("status {}, and on standard error: {}", checked.status, checked.stderr.trim());
        let text = fs::read_to_string(&file).with_context(say)?;
        let report = Report::parse(&text).context("what --json-out wrote")?;
        let wrong = self.wrong(alone.as_ref(), &checked, &report);
        Ok(Once { alone, checked: vec![checked], report: Some(report), wrong })
    }

    /// Says what is not as it should be.
    fn wrong(&self, alone: Option<&Ended>, checked: &Ended, report: &Report) -> Vec<String> {
        let mut wrong = Vec::new();
        if report.verdict != self.expect {
            let why: Vec<_> =
                report.leaks().into_iter().chain(report.incomplete_reasons().iter().cloned()).collect();
            wrong.push(format!("{} and not {}: {}", report.verdict, self.expect, why.join("; ")));
        } else if self.expect == Verdict::Leak && !self.is_the_leak(report) {
            wrong.push(format!("{} calls: {}", report.leaked(), report.leaks().join("; ")));
        }
        let own = alone.map_or(report.status(), |alone| Some(alone.status));
        if report.status() != own {
            wrong.push(format!("its own status is {:?} and not {own:?}", report.status()));
        }
        let status = match report.verdict {
            Verdict::Clean => own,
            Verdict::Leak => Some(LEAK),
            Verdict::Inconclusive => Some(INCONCLUSIVE),
        };
        if Some(checked.status) != status {
            wrong.push(format!("status {} and not {status:?}", checked.status));
        }
        if let Some(alone) = alone.filter(|alone| self.program.output && checked.stdout != alone.stdout) {
            wrong.push(format!("its output differs: {}", first_difference(&alone.stdout, &checked.stdout)));
        }
        wrong
    }

    /// Whether so many calls leak, and all of them where the table says.
    fn is_the_leak(&self, report: &Report) -> bool {
        let Program { leaked, names, .. } = &self.program;
        let named = |names: &String| report.leaks().iter().all(|leak| leak.contains(names));
        leaked.is_none_or(|leaked| report.leaked() == leaked) && names.as_ref().is_none_or(named)
    }
}

fn under_check(place: &Place, file: &Path, command: &Command) -> Command {
    let mut check = place.command("fdtrace");
    check.arg("check").arg("--json-out").arg(file).arg("--");
    check.arg(command.get_program()).args(command.get_args());
    check
}

fn first_difference(alone: &str, checked: &str) -> String {
    let lines = alone.lines().zip(checked.lines()).enumerate();
    match lines.into_iter().find(|(_, (alone, checked))| alone != checked) {
        Some((index, (alone, checked))) => format!("line {}: {checked:?} and not {alone:?}", index + 1),
        None => format!("{} bytes and not {}", checked.len(), alone.len()),
    }
}

/// Runs the lines of a page one after the other in a project.
fn follow(example: &Program, fdtrace: &Path) -> Result<Once> {
    let place = Place::temporary(fdtrace)?;
    place.copy_project(example.project.as_deref().context("an example without a project")?)?;
    let mut once = Once::default();
    for step in &example.steps {
        // Colours are for terminals, and caches are for the next time.
        let mut command = place.command("bash");
        command.env("CARGO_TERM_COLOR", "never").env("PYTHONDONTWRITEBYTECODE", "1");
        let ended = timed(command.args(["-c", &step.run]).env("FDTRACE_SOURCE", run::checkout()?))?;
        once.wrong.extend(step.wrong(ended.status, &[&*ended.stdout, &ended.stderr].concat()));
        once.checked.push(place.as_told(&step.run, &ended));
    }
    Ok(once)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::table::sample;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn each_version_is_a_case() {
        let program = sample("name = 'x'\ncommand = ['true']\nleaking = ['1', '2']\nfixed = ['3']");
        let named = |program: &Program| cases(program).into_iter().map(|case| case.name).collect::<Vec<_>>();
        assert_eq!(named(&program), ["x 1", "x 2", "x 3"]);
        assert_eq!(named(&sample("name = 'x'\nsteps = [{ run = 'true' }]")), ["x"]);
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(first_difference("a\nb\nc", "a\nx\nd"), "line 2: \"x\" and not \"b\"");
        assert_eq!(first_difference("a\nb\n", "a\n"), "2 bytes and not 4");
    }

    fn report(leaked: u64, symbol: &str) -> Report {
        let frame = json!({"symbol": symbol, "module": "/lib/libc.so.6", "offset": 1, "line": null});
        let site = json!({"class": "leak", "leaked": leaked, "user_stack": [frame]});
        let document = json!({"schema": "fdtrace.check/1", "verdict": "leak", "command": {"exit_status": 0}, "sites": [site]});
        Report::parse(&document.to_string()).expect("a document")
    }

    #[test]
    fn a_leak_is_one_at_the_right_place() {
        let program = sample("name = 'x'\ncommand = ['x']\nleaking = ['1']\nleaked = 120\nnames = 'pipe2'");
        let ended =
            |status| Ended { status, stdout: String::new(), stderr: String::new(), time: Duration::ZERO };
        let wrong = |expect, report: &Report| {
            let case = Checked { program: program.clone(), version: Some("1".into()), expect };
            case.wrong(None, &ended(LEAK), report)
        };
        assert_eq!(wrong(Verdict::Leak, &report(120, "pipe2")), Vec::<String>::new());
        assert_eq!(wrong(Verdict::Leak, &report(119, "pipe2")).len(), 1);
        assert_eq!(wrong(Verdict::Leak, &report(120, "socket")).len(), 1);
        assert_eq!(wrong(Verdict::Clean, &report(120, "pipe2")).len(), 1);
    }

    #[test]
    fn what_the_check_does_to_a_program_is_said() {
        let case =
            Checked { program: sample("name = 'x'\ncommand = ['x']"), version: None, expect: Verdict::Leak };
        let ended = |status, stdout: &str| Ended {
            status,
            stdout: stdout.into(),
            stderr: String::new(),
            time: Duration::ZERO,
        };
        let wrong = case.wrong(Some(&ended(3, "a")), &ended(0, "b"), &report(2, "open"));
        let expected = [
            "its own status is Some(0) and not Some(3)",
            "status 0 and not Some(23)",
            "its output differs: line 1: \"b\" and not \"a\"",
        ];
        assert_eq!(wrong, expected);
    }
}
