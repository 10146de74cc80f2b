//! The leaks of the programs with frame pointers and with unwind tables, side by side.

use crate::{build::Suite, run};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

/// The test that prints the lines that the table is made of.
const TEST: &str = "callsites::side_by_side";
const LINE: &str = "CALLSITE ";

/// One program, walked in one way.
#[derive(Deserialize)]
struct Line {
    program: String,
    unwind: String,
    leaks: u64,
    named: u64,
}

/// Runs the test, and prints the table. Its status is the test's.
pub(super) fn print(suite: Suite, directory: &Path, only: &[String]) -> Result<ExitCode> {
    let Suite { fdtrace, workload, e2e } = suite;
    let mut test = Command::new(e2e);
    test.current_dir(run::checkout()?)
        .args(["--test-threads=1", TEST])
        .env("FDTRACE_BIN", fdtrace)
        .env("WORKLOAD_BIN", workload)
        .env("CALLSITES_DIR", directory)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !only.is_empty() {
        test.env("CALLSITES_ONLY", only.join(","));
    }
    let output = test.output().context("cannot run the tests")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Line> = text
        .lines()
        .filter_map(|line| line.strip_prefix(LINE))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    text.lines()
        .filter(|line| !line.starts_with(LINE) && !line.is_empty())
        .for_each(|line| eprintln!("{line}"));
    print!("{}", markdown(&lines));
    Ok(if output.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn markdown(lines: &[Line]) -> String {
    let mut rows: BTreeMap<&str, BTreeMap<&str, &Line>> = BTreeMap::new();
    for line in lines {
        rows.entry(&line.program).or_default().insert(&line.unwind, line);
    }
    let mut text =
        String::from("| program | leaked | whole chain, frame pointers | whole chain, unwind tables |\n");
    text.push_str("|---|---:|---:|---:|\n");
    for (program, ways) in rows {
        let leaks = ways.values().map(|line| line.leaks).max().unwrap_or_default();
        let cell = |way: &str| ways.get(way).map_or("-".to_owned(), |line| percent(line));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {program} | {leaks} | {} | {} |", cell("fp"), cell("dwarf"));
    }
    text
}

fn percent(line: &Line) -> String {
    format!("{} %", 100 * line.named / line.leaks.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_a_row_and_each_way_a_column() {
        let line = |unwind: &str, named| Line { program: "c".into(), unwind: unwind.into(), leaks: 5, named };
        let text = markdown(&[line("fp", 1), line("dwarf", 5)]);
        assert!(text.ends_with("| c | 5 | 20 % | 100 % |\n"), "{text}");
        assert!(markdown(&[line("fp", 1)]).ends_with("| 20 % | - |\n"));
    }
}
