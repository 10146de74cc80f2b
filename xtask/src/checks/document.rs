//! The table of what was run, and the page that has it.

use super::{runner::Outcome, table::Page};
use crate::tables::{markdown, median, milliseconds};
use std::fmt::Write as _;

const HEADER: [&str; 8] =
    ["program", "expected", "verdicts", "status", "programs run", "files opened", "alone", "checked"];

/// Those that ran; without the columns in which nothing is.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
    rows.extend(outcomes.iter().filter(|outcome| outcome.skipped.is_none()).map(cells));
    let is_used = |column: usize| rows.iter().skip(1).any(|row| !row[column].is_empty());
    let used: Vec<usize> = (0..HEADER.len()).filter(|column| is_used(*column)).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| used.iter().map(|column| row[*column].clone()).collect()).collect();
    markdown(&rows)
}

fn cells(outcome: &Outcome) -> Vec<String> {
    let verdicts: Vec<_> =
        outcome.verdicts.iter().map(|(verdict, times)| format!("{verdict} {times}")).collect();
    let time = |times: &[f64]| if times.is_empty() { String::new() } else { milliseconds(median(times)) };
    let some = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    vec![
        // A bar would end the cell.
        outcome.name.replace('|', "\\|"),
        outcome.expected.clone(),
        verdicts.join(", "),
        outcome.status.map(|status| status.to_string()).unwrap_or_default(),
        some(outcome.programs),
        some(outcome.files),
        time(&outcome.alone),
        time(&outcome.checked),
    ]
}

/// What there is to say about all of them.
pub(super) fn summary(outcomes: &[Outcome], runs: u32) -> String {
    let ran: Vec<_> = outcomes.iter().filter(|outcome| outcome.skipped.is_none()).collect();
    let leaks = ran.iter().filter(|outcome| outcome.expected.starts_with("leak")).count();
    let wrong = ran.iter().filter(|outcome| outcome.is_wrong()).count();
    let times = if runs == 1 { "once".to_owned() } else { format!("{runs} times") };
    let mut text = format!(
        "{} ran, {times} each: {leaks} are expected to leak; {wrong} differ from what is expected.\n",
        ran.len()
    );
    for (outcome, why) in outcomes.iter().filter_map(|outcome| Some((outcome, outcome.skipped.as_ref()?))) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Left out: {} ({why}).", outcome.name);
    }
    text
}

/// What is not as it should be.
pub(super) fn wrong(outcomes: &[Outcome]) -> Vec<String> {
    let of = |outcome: &Outcome| -> Vec<_> {
        outcome.wrong.iter().map(|(what, times)| format!("{}: {times} times: {what}", outcome.name)).collect()
    };
    outcomes.iter().flat_map(of).collect()
}

/// The page.
pub(super) fn page(page: &Page, outcomes: &[Outcome], runs: u32) -> String {
    let mut text = format!("{}\n{}\n{}", page.head, table(outcomes), summary(outcomes, runs));
    for outcome in outcomes {
        let Some(reason) = &outcome.reason else { continue };
        let leaks: String = outcome.leaks.iter().map(|leak| format!("{leak}\n")).collect();
        let _ = write!(text, "\n## {} leaks\n\n{}\n\n```\n{leaks}```\n", outcome.name, reason.trim());
    }
    // It is not hidden.
    let wrong = wrong(outcomes);
    if !wrong.is_empty() {
        let _ = write!(text, "\n## What differs\n\n```\n{}\n```\n", wrong.join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str) -> Outcome {
        let verdicts = [("clean".to_owned(), 2)].into();
        Outcome { name: name.into(), expected: "clean".into(), verdicts, ..Outcome::default() }
    }

    #[test]
    fn only_columns_with_something_are_shown() {
        let text = table(&[outcome("a|b"), Outcome { skipped: Some("no x here".into()), ..outcome("c") }]);
        assert_eq!(
            text,
            "| program | expected | verdicts |\n| ------- | -------- | -------- |\n| a\\|b    | clean    | clean 2  |\n"
        );
    }

    #[test]
    fn a_page_hides_nothing() {
        let wrong = Outcome { wrong: [("it differs".to_owned(), 1)].into(), ..outcome("a") };
        let skipped = Outcome { skipped: Some("no x here".into()), ..outcome("b") };
        let leaks =
            Outcome { reason: Some("It leaks.".into()), leaks: ["a: 3 calls".into()].into(), ..outcome("c") };
        let head = Page { file: String::new(), head: "# Title\n".into() };
        let text = page(&head, &[wrong, skipped, leaks], 2);
        for part in [
            "# Title\n\n| program",
            "2 ran, 2 times each: 0 are expected to leak; 1 differ from what is expected.\nLeft out: b (no x here).\n",
            "\n## c leaks\n\nIt leaks.\n\n```\na: 3 calls\n```\n",
            "\n## What differs\n\n```\na: 1 times: it differs\n```\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
