//! The programs of tests/corpus: compiled here, and compared by what the end-to-end tests compare them with.

use super::runner::{Case, Once};
use crate::{install, run};
use anyhow::{Context as _, Result, bail};
use fdtrace_tests::corpus::{self, Place, Program, Run, checked, evaluate, plain};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The programs, in the checkout.
const SOURCES: &str = "tests/corpus";

/// All ways of all programs whose names begin so, compiled as far as they can be.
pub(super) fn cases(only: &[String]) -> Result<Vec<Case>> {
    let is_chosen =
        |program: &Program| only.is_empty() || only.iter().any(|name| program.name.starts_with(name));
    let programs: Vec<_> = corpus::programs()?.into_iter().filter(is_chosen).collect();
    let directory = compile(&programs, false)?;
    let mut cases = Vec::new();
    for program in programs {
        let place = Place::of(&program, &directory).with_context(|| program.name.clone())?;
        cases.extend(program.runs.iter().map(|run| case(&program, run, place.as_ref())));
    }
    Ok(cases)
}

fn case(program: &Program, run: &Run, place: Option<&Place>) -> Case {
    let way = (program.clone(), run.clone(), place.cloned());
    let once = move |fdtrace: &Path| {
        let (program, run, place) = &way;
        let place = place.as_ref().context("it was not built")?;
        let alone = plain(place, run)?;
        let (ended, report) = checked(fdtrace, place, run)?;
        let wrong = evaluate((program, run, place), &alone, &ended, &report, true);
        Ok(Once { alone: Some(alone), checked: vec![ended], report: Some(report), wrong })
    };
    Case {
        name: program.name_of(run),
        expected: run.verdict.to_string(),
        missing: place.is_none().then(|| format!("way to build or run {}", program.language())),
        packages: install::CORPUS.map(str::to_owned).to_vec(),
        reason: None,
        once: Box::new(once),
    }
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
    let directory = run::target("corpus")?;
    for folder in
        programs.iter().map(|program| directory.join(&program.name)).filter(|folder| folder.exists())
    {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let skipped = corpus::build(programs, &run::checkout()?.join(SOURCES), &directory)?;
    skipped.iter().for_each(|skipped| eprintln!("left out: {}: {}", skipped.program, skipped.reason));
    if required && !skipped.is_empty() {
        bail!("not all programs can be built and run here");
    }
    Ok(directory)
}
