//! The table of ordinary programs, and the page that has it.

use super::{
    outcome::{Outcome, Seen},
    table::Program,
};
use crate::tables::{markdown, median, milliseconds};
use fdtrace_tests::corpus::Verdict;
use std::fmt::Write as _;

/// A program and what came of it.
pub(super) struct Row<'a> {
    pub(super) program: &'a Program,
    pub(super) outcome: Outcome,
}

impl Row<'_> {
    fn seen(&self) -> Option<&Seen> {
        match &self.outcome {
            Outcome::Ran(seen) => Some(seen),
            Outcome::Skipped(_) => None,
        }
    }

    /// Whether all was as expected.
    fn is_right(&self) -> bool {
        self.seen().is_none_or(|seen| seen.wrong.is_empty())
    }

    fn cells(&self, seen: &Seen) -> Vec<String> {
        let verdicts: Vec<_> =
            seen.verdicts.iter().map(|(verdict, times)| format!("{verdict} {times}")).collect();
        let time = |times: &Vec<_>| milliseconds(median(times.clone()));
        vec![
            // A bar would end the cell.
            self.program.name.replace('|', "\\|"),
            verdicts.join(", "),
            seen.status.to_string(),
            seen.programs.to_string(),
            seen.files.to_string(),
            time(&seen.alone),
            time(&seen.checked),
        ]
    }
}

/// Those that ran.
pub(super) fn table(rows: &[Row<'_>]) -> String {
    let header = ["program", "verdicts", "status", "programs run", "files opened", "alone", "checked"];
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().filter_map(|row| row.seen().map(|seen| row.cells(seen))));
    markdown(&cells)
}

/// What there is to say about all of them.
pub(super) fn summary(rows: &[Row<'_>], runs: u32) -> String {
    let ran = rows.iter().filter(|row| row.seen().is_some()).count();
    let leaks = rows.iter().filter(|row| row.seen().is_some() && row.program.expect == Verdict::Leak).count();
    let wrong = rows.iter().filter(|row| !row.is_right()).count();
    let mut text = format!(
        "{ran} programs, {runs} times each: {} are expected to be clean, {leaks} to leak; {wrong} differ from that.\n",
        ran - leaks
    );
    for row in rows {
        if let Outcome::Skipped(why) = &row.outcome {
            let _ = writeln!(text, "Left out: {} ({why}).", row.program.name);
        }
    }
    text
}

/// What is not as it should be.
pub(super) fn wrong(rows: &[Row<'_>]) -> Vec<String> {
    let of = |row: &Row<'_>| {
        let seen = row.seen()?;
        let lines =
            seen.wrong.iter().map(|(what, times)| format!("{}: {times} times: {what}", row.program.name));
        Some(lines.collect::<Vec<_>>())
    };
    rows.iter().filter_map(of).flatten().collect()
}

/// The page.
pub(super) fn whole(rows: &[Row<'_>], runs: u32) -> String {
    let mut text = String::from(
        "# Ordinary programs\n\n\
         A gate that is left on must be silent about programs that do not leak. These were written by others, and use files,\n\
         sockets, pipes and children in all the ways that shells, compilers and interpreters have. Each was run alone and\n\
         with `fdtrace check --`, with no other option, in a new directory each time.\n\n",
    );
    let _ = writeln!(
        text,
        "Written by `cargo xtask ordinary --write --runs {runs}`; not by hand. What is run, word by word, is in\n\
         [tests/ordinary.toml](../tests/ordinary.toml). The command fails when a verdict is not the expected one, when the exit\n\
         status is not the program's own, or when standard output differs from that of the program alone. `status` is the\n\
         program's; `programs run` counts each exec and each fork; times are medians. A check has its own price, the\n\
         same for `true` and for a compiler: the programs are loaded into the kernel before, and the call chains named after it.\n"
    );
    text.push_str(&table(rows));
    let _ = write!(text, "\n{}", summary(rows, runs));
    text.push_str(&leaking(rows));
    text.push_str(&differing(rows));
    text
}

/// What is not as expected: it is not hidden.
fn differing(rows: &[Row<'_>]) -> String {
    match wrong(rows) {
        wrong if wrong.is_empty() => String::new(),
        wrong => format!("\n## What differs\n\n```\n{}\n```\n", wrong.join("\n")),
    }
}

/// The leaks that are true, and why.
fn leaking(rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    for row in rows {
        let (Some(reason), Some(seen)) = (&row.program.reason, row.seen()) else { continue };
        let _ = write!(text, "\n## {} leaks\n\n{}\n\n```\n", row.program.name, reason.trim());
        seen.leaks.iter().for_each(|leak| text.push_str(&format!("{leak}\n")));
        text.push_str("```\n");
    }
    text
}
