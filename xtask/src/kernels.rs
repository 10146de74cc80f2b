//! `cargo xtask kernels`: writes docs/kernels.md from what the tests found out about each kernel.

use crate::run;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::ExitCode,
};

/// The fields of the counting tests, in the order of the table.
const FIELDS: [&str; 8] =
    ["allocated", "released", "never_opened", "live", "origin", "kind", "cause", "errors"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files with the `RESULT` lines of the end-to-end tests, or with those that `cargo xtask vm --results-out` wrote
    #[arg(required = true)]
    results: Vec<PathBuf>,
}

/// What was seen on one kernel with one backend.
#[derive(Default)]
struct Seen {
    /// `attached`, or why not.
    attach: String,
    /// What each field was found to be, over all tests.
    fields: BTreeMap<String, BTreeSet<String>>,
    tests: BTreeSet<String>,
    failed: usize,
    skipped: u64,
    /// Verdicts of the corpus: as expected, and all.
    verdicts: Option<(u64, u64)>,
}

/// By kernel and backend; kernels in the order of their numbers.
type Table = BTreeMap<(Vec<u64>, String, String), Seen>;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut table = Table::new();
    for path in &args.results {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        text.lines().filter_map(result).for_each(|result| add(&mut table, &result));
    }
    let path = run::checkout()?.join("docs/kernels.md");
    fs::write(&path, document(&table)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote docs/kernels.md: {} kernels with a backend each", table.len());
    Ok(ExitCode::SUCCESS)
}

/// A line of either kind; anything else is not ours.
fn result(line: &str) -> Option<Value> {
    let line = line.strip_prefix("RESULT ").unwrap_or(line);
    let value: Value = serde_json::from_str(line).ok()?;
    Some(value.get("result").cloned().unwrap_or(value))
}

fn add(table: &mut Table, result: &Value) {
    let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
    let (kernel, backend, test) = (text("kernel"), text("backend"), text("test"));
    let seen = table.entry((numbers(&kernel), kernel, backend)).or_default();
    if test == "attach" {
        // The tool's own words, without the command that got them.
        seen.attach = text("seen").rsplit("fdtrace: ").next().unwrap_or_default().to_owned();
        return;
    }
    if test == "corpus" {
        let number = |index: usize| result["verdicts"][index].as_u64();
        seen.verdicts = number(0).zip(number(1));
        return;
    }
    seen.tests.insert(test);
    seen.skipped += result["lost"]["skipped"].as_u64().unwrap_or(0);
    for (field, found) in result["fields"].as_object().into_iter().flatten() {
        seen.fields.entry(field.clone()).or_default().insert(word(found));
        seen.failed += usize::from(found["verdict"] != "pass");
    }
}

/// What a field was found to be. What differs in a way that is expected is called what was expected.
fn word(found: &Value) -> String {
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    match (word("found").as_str(), found["verdict"] == "pass") {
        ("different", true) => word("expected"),
        ("different", false) => "WRONG".to_owned(),
        (other, _) => other.to_owned(),
    }
}

/// `6.1.0-50-cloud-amd64` comes before `6.12.107`.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn document(table: &Table) -> String {
    let mut text = String::from(
        "# Kernels\n\n\
         Written by `cargo xtask kernels` from what the end-to-end tests found; not by hand. Each field is what the counting\n\
         tests saw of it, compared with what the workload did: `exact`, `counted loss` (short by no more than the losses\n\
         that fdtrace shows, and `complete` is false or the loss is healed), or `not seen`. What is expected, with the reasons,\n\
         is in [tests/expected.toml](../tests/expected.toml); a difference fails the tests. The last column is how many verdicts\n\
         of `fdtrace check` about the programs of [tests/corpus](../tests/corpus/expected.toml) are as expected; all of them are\n\
         run where no virtual machine is, and those with a meaning for the kernel in one.\n\n",
    );
    let _ =
        writeln!(text, "| kernel | backend | comparisons | {} | missed probes | check |", FIELDS.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}---|---|", "---|".repeat(FIELDS.len()));
    for ((_, kernel, backend), seen) in table {
        let _ = writeln!(text, "| {kernel} | {backend} | {} |", row(seen));
    }
    text.push_str(
        "\nKernels 5.10, 6.1, 6.12 and 7.x are Debian's cloud kernels, emulated by QEMU without hardware support, two processors\n\
         each. Counting tests run with one thread and with eight.\n",
    );
    text
}

fn row(seen: &Seen) -> String {
    if seen.fields.is_empty() {
        return format!("{} |{} - | -", seen.attach, " - |".repeat(FIELDS.len()));
    }
    let tests = match seen.failed {
        0 => format!("{} agree", seen.tests.len()),
        failed => format!("{failed} fields FAILED"),
    };
    let fields = FIELDS.map(|field| {
        // Where a field is not always exact, how it is not is what matters.
        let found = seen.fields.get(field).into_iter().flatten();
        let others: Vec<_> = found.filter(|word| *word != "exact").cloned().collect();
        if others.is_empty() { "exact".to_owned() } else { others.join(", ") }
    });
    let verdicts = seen.verdicts.map_or("-".to_owned(), |(right, all)| format!("{right} of {all}"));
    format!("{tests} | {} | {} | {verdicts}", fields.join(" | "), seen.skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> String {
        let mut table = Table::new();
        lines.iter().filter_map(|line| result(line)).for_each(|result| add(&mut table, &result));
        document(&table)
    }

    #[test]
    fn each_kernel_and_backend_has_a_row() {
        let text = table(&[
            r#"RESULT {"kernel":"6.12.1","backend":"kprobe","test":"a","fields":{"live":{"found":"different","expected":"counted loss","verdict":"pass"}},"lost":{"skipped":2}}"#,
            r#"{"kernel":"6.1","backend":"kprobe","result":{"kernel":"6.1.0","backend":"kprobe","test":"attach","seen":"attached"}}"#,
            r#"{"kernel":"6.1","backend":"kprobe","result":{"kernel":"6.1.0","backend":"kprobe","test":"a","fields":{"live":{"found":"different","verdict":"FAIL"}}}}"#,
            r#"RESULT {"kernel":"6.12.1","backend":"kprobe","test":"corpus","verdicts":[9,10]}"#,
            "test a ... ok",
        ]);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| 6")).collect();
        assert_eq!(
            rows,
            [
                "| 6.1.0 | kprobe | 1 fields FAILED | exact | exact | exact | WRONG | exact | exact | exact | exact | 0 | - |",
                "| 6.12.1 | kprobe | 1 agree | exact | exact | exact | counted loss | exact | exact | exact | exact | 2 | 9 of 10 |"
            ]
        );
    }

    #[test]
    fn a_backend_that_does_not_attach_says_so() {
        let text = table(&[r#"{"kernel":"6.18","backend":"fentry","test":"attach","seen":"unavailable"}"#]);
        assert!(text.contains("| 6.18 | fentry | unavailable | - |"));
    }
}
