//! The programs of tests/corpus: compiled here, and compared by what the end-to-end tests compare them with.

use super::runner::{Case, Cases, Once};
use crate::{install, run};
use anyhow::{Context as _, Result, bail};
use fdtrace_tests::corpus::{self, Place, Program, Run, checked, evaluate, plain};
use std::{
    fs,
    path::{Path, PathBuf},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The programs, in the checkout.
const SOURCES: &str = "tests/corpus";

/// A program in one of its ways.
struct Way {
    program: Program,
    run: Run,
    /// Nowhere when it was not built.
    place: Option<Place>,
}

impl Case for Way {
    fn name(&self) -> String {
        self.program.name_of(&self.run)
    }

    fn expected(&self) -> String {
        self.run.verdict.to_string()
    }

    fn missing(&self) -> Option<String> {
        self.place.is_none().then(|| format!("way to build or run {}", self.program.language()))
    }

    fn packages(&self) -> Vec<String> {
        install::CORPUS.map(str::to_owned).to_vec()
    }

    fn once(&self, fdtrace: &Path) -> Result<Once> {
        let Self { program, run, place } = self;
        let place = place.as_ref().context("it was not built")?;
        let alone = plain(place, run)?;
        let (ended, report) = checked(fdtrace, place, run)?;
        let wrong = evaluate((program, run, place), &alone, &ended, &report, true);
        Ok(Once { alone: Some(alone), checked: vec![ended], report: Some(report), wrong })
    }
}

/// All ways of all programs whose names begin so, compiled as far as they can be.
pub(super) fn cases(only: &[String]) -> Result<Cases> {
    let is_chosen =
        |program: &Program| only.is_empty() || only.iter().any(|name| program.name.starts_with(name));
    let programs: Vec<_> = corpus::programs()?.into_iter().filter(is_chosen).collect();
    let directory = compile(&programs, false)?;
    let mut cases: Cases = Vec::new();
    for program in programs {
        let place = Place::of(&program, &directory).with_context(|| program.name.clone())?;
        for run in program.runs.clone() {
            cases.push(Box::new(Way { program: program.clone(), run, place: place.clone() }));
        }
    }
    Ok(cases)
}

/// Compiles all programs into a folder of the target directory, and gives its path. With `required` everything must be there;
/// without, programs that lack a compiler or an interpreter are left out.
pub(crate) fn build(required: bool) -> Result<PathBuf> {
    compile(&corpus::programs()?, required)
}

/// The folders of those that a virtual machine can run, in the one that `build` gives.
pub(crate) fn for_guests(directory: &Path) -> Result<Vec<PathBuf>> {
    let programs = corpus::programs()?.into_iter().filter(Program::runs_in_guests);
    Ok(programs.map(|program| directory.join(program.name)).filter(|folder| folder.is_dir()).collect())
}

fn compile(programs: &[Program], required: bool) -> Result<PathBuf> {
    let checkout = run::checkout()?;
    let directory = run::metadata(&checkout, TARGET)?.target_directory.join("corpus").into_std_path_buf();
    for folder in
        programs.iter().map(|program| directory.join(&program.name)).filter(|folder| folder.exists())
    {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let skipped = corpus::build(programs, &checkout.join(SOURCES), &directory)?;
    skipped.iter().for_each(|skipped| eprintln!("left out: {}: {}", skipped.program, skipped.reason));
    if required && !skipped.is_empty() {
        bail!("not all programs can be built and run here");
    }
    Ok(directory)
}
