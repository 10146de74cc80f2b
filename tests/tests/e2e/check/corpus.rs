//! Programs of which everybody knows whether they leak. `cargo xtask corpus` runs them many times.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    corpus::{Place, Program, Run, Traced, checked, evaluate, plain, programs},
    harness::{fdtrace, say, turn},
};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder of the programs, for a test that is not in the target directory.
const DIRECTORY: &str = "CORPUS_DIR";
/// Narrows the tests down to some runs of programs, by their names with commas between.
const ONLY: &str = "CORPUS_ONLY";

#[test]
fn every_verdict_is_as_expected() -> Result<()> {
    let _turn = turn();
    let (fdtrace, directory) = (fdtrace()?, directory()?);
    let (mut right, mut wrong, mut absent) = (0, Vec::new(), Vec::new());
    let mut traced = Traced::default();
    for program in &programs()? {
        let runs: Vec<&Run> = program.runs.iter().filter(|run| is_wanted(&program.name_of(run))).collect();
        if runs.is_empty() {
            continue;
        }
        let Some(place) = Place::of(program, &directory)? else {
            absent.push(program.name.clone());
            continue;
        };
        for run in runs {
            let name = program.name_of(run);
            let (found, differences) =
                differences(&fdtrace, program, run, &place).with_context(|| name.clone())?;
            traced = found;
            match differences.is_empty() {
                true => right += 1,
                false => wrong.push(format!("{name}: {}", differences.join("; "))),
            }
        }
    }
    let all = right + wrong.len();
    say(&format!("{right} of {all} verdicts are as expected"));
    let mut result = serde_json::to_value(&traced)?;
    result["test"] = "corpus".into();
    result["verdicts"] = [right, all].into();
    say(&format!("RESULT {result}"));
    if !absent.is_empty() {
        say(&format!("not here: {}", absent.join(", ")));
    }
    ensure!(all > 0, "no program was compiled: run `cargo xtask programs`");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn differences(fdtrace: &Path, program: &Program, run: &Run, place: &Place) -> Result<(Traced, Vec<String>)> {
    // By frame pointers the caller of a library's function that has none is not found, and with it the line.
    let lines = env::var("FDTRACE_UNWIND").is_ok_and(|unwind| unwind == "fp");
    let alone = plain(place, run)?;
    let (ended, report) = checked(fdtrace, place, run)?;
    let differences = evaluate((program, run, place), &alone, &ended, &report, !lines);
    Ok((report.trace, differences))
}

fn is_wanted(run: &str) -> bool {
    env::var(ONLY).map_or(true, |only| only.split(',').any(|name| name == run))
}

fn directory() -> Result<PathBuf> {
    if let Some(path) = env::var_os(DIRECTORY) {
        return PathBuf::from(path).canonicalize().with_context(|| format!("{DIRECTORY} is wrong"));
    }
    let test = env::current_exe()?;
    let target = test.ancestors().nth(3).context("the test is not in a target directory")?;
    Ok(target.join("corpus"))
}
