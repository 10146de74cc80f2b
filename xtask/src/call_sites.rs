//! `cargo xtask call-sites`: writes the table of runtimes in docs/call-sites.md from what the end-to-end tests compared.

use crate::{run, tables::markdown};
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

const PAGE: &str = "docs/call-sites.md";
/// What the table stands between.
const BEGIN: &str = "<!-- cargo xtask call-sites -->\n";
const END: &str = "<!-- end -->\n";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files with the `RESULT` lines of the end-to-end tests, which begin with `scripts::`
    #[arg(required = true)]
    results: Vec<PathBuf>,
}

/// How many stacks of one program, run in one way, were compared with what its language says of itself.
#[derive(Deserialize)]
struct Compared {
    runtime: String,
    version: String,
    /// How it ran its code.
    code: String,
    stacks: u64,
    /// Those that are equal, call by call; no other may have any calls of scripts.
    right: u64,
    /// Those that came before the runtime was recognised.
    early: u64,
}

/// By its numbers: a version, and its stacks, right and early ones.
type Versions = BTreeMap<Vec<u64>, (String, [u64; 3])>;
/// By runtime and code.
type Table = BTreeMap<(String, String), Versions>;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut table = Table::new();
    for path in &args.results {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        text.lines().filter_map(compared).for_each(|compared| add(&mut table, compared));
    }
    ensure!(!table.is_empty(), "nothing was compared");
    let path = run::checkout()?.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| PAGE.to_owned())?;
    fs::write(&path, with_table(&page, &markdown(&rows(&table)))?).with_context(|| PAGE.to_owned())?;
    println!("wrote {PAGE}: {} rows", table.len());
    Ok(ExitCode::SUCCESS)
}

/// A line of ours; libtest's are before it now and then.
fn compared(line: &str) -> Option<Compared> {
    serde_json::from_str(line.split_once("RESULT ")?.1).ok()
}

/// A version that several programs have counts once, as its worst.
fn add(table: &mut Table, compared: Compared) {
    let Compared { runtime, version, code, stacks, right, early } = compared;
    let numbers = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    let figures = [stacks, right, early];
    let known = table.entry((runtime, code)).or_default().entry(numbers).or_insert((version, figures));
    if right + early < known.1[1] + known.1[2] {
        known.1 = figures;
    }
}

fn rows(table: &Table) -> Vec<Vec<String>> {
    let header = ["runtime", "code", "versions", "stacks", "equal"].map(str::to_owned).to_vec();
    let row = |((runtime, code), versions): (&(String, String), &Versions)| {
        let names: Vec<&str> = versions.values().map(|(version, _)| version.as_str()).collect();
        let [stacks, right, early] =
            [0, 1, 2].map(|at| versions.values().map(|(_, all)| all[at]).sum::<u64>());
        let equal = match early {
            0 => right.to_string(),
            _ => format!("{right}, {early} came before it was recognised"),
        };
        vec![runtime.clone(), code.clone(), names.join(", "), stacks.to_string(), equal]
    };
    [header].into_iter().chain(table.iter().map(row)).collect()
}

fn with_table(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("the page has no place for the table")?;
    let (_, behind) = rest.split_once(END).context("the page has no end of the table")?;
    Ok([before, BEGIN, table, END, behind].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(version: &str, right: u64) -> String {
        let figures = format!(r#""stacks":20,"right":{right},"early":0,"lost":0,"columns":3"#);
        format!(
            r#"test a ... RESULT {{"runtime":"V8","version":"{version}","code":"as it likes",{figures}}}"#
        )
    }

    #[test]
    fn versions_of_one_code_are_a_row() {
        let mut table = Table::new();
        for line in [line("20.1.0", 20), line("8.0.0", 20), line("20.1.0", 19), "RESULT nothing".to_owned()] {
            compared(&line).into_iter().for_each(|compared| add(&mut table, compared));
        }
        assert_eq!(rows(&table)[1], ["V8", "as it likes", "8.0.0, 20.1.0", "40", "39"]);
    }

    #[test]
    fn the_rest_of_the_page_stays() -> Result<()> {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(with_table(&page, "new\n")?, format!("a\n{BEGIN}new\n{END}b\n"));
        assert!(with_table("a", "new").is_err());
        Ok(())
    }
}
