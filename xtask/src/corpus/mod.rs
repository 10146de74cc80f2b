//! `cargo xtask corpus`: programs of which everybody knows whether they leak, and what `fdtrace check` says of them.

mod valgrind;
mod verdicts;

use crate::{
    apt,
    programs::{Build, Linkage},
    run,
};
use anyhow::{Context as _, Result, bail};
use fdtrace_tests::corpus::{self, Place, Program};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What brings the compilers and the interpreters. Rust's is there, or nobody would be here.
const PACKAGES: [&str; 10] =
    ["gcc", "g++", "golang-go", "python3", "nodejs", "bash", "ruby", "perl", "php-cli", "lua5.4"];
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The programs, in the checkout.
const SOURCES: &str = "tests/corpus";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these programs of tests/corpus/expected.toml
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// How many times each program is run under the check
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// An fdtrace that is built already
    #[arg(long, value_name = "PATH")]
    fdtrace: Option<PathBuf>,
    /// Compare with what valgrind finds in the programs in C and C++ (`--track-fds=yes`)
    #[arg(long)]
    valgrind: bool,
    /// Compile the programs and do nothing else
    #[arg(long, conflicts_with_all = ["valgrind", "fdtrace"])]
    build: bool,
    /// Run the programs alone, to see whether they do what is said of them
    #[arg(long, conflicts_with_all = ["valgrind", "fdtrace", "build"])]
    alone: bool,
    /// First install the compilers and interpreters that are missing, and valgrind (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let programs = chosen(&args.only)?;
    if args.install && args.valgrind {
        apt::install(&[valgrind::PACKAGE])?;
    }
    let directory = build_some(&programs, args.install)?;
    if args.build {
        println!("{}", directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    let places = places(&programs, &directory)?;
    if args.alone {
        return verdicts::alone(&places);
    }
    if !run::is_root()? {
        bail!("tracing needs root");
    }
    let fdtrace = match &args.fdtrace {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => Build::run(Linkage::Dynamic, &["build", "--package", "fdtrace"])?.program("fdtrace")?,
    };
    match args.valgrind {
        true => valgrind::compare(&fdtrace, &places),
        false => verdicts::print(&fdtrace, &places, args.runs),
    }
}

/// Compiles all programs into a folder of the target directory, and gives its path.
///
/// With `install` everything that is missing is installed, and what is missing nevertheless is an error; without, the programs
/// that need it are left out.
pub(crate) fn build(install: bool) -> Result<PathBuf> {
    build_some(&corpus::programs()?, install)
}

/// The folders of those that a virtual machine can run, in the one that `build` gives.
pub(crate) fn for_guests(directory: &Path) -> Result<Vec<PathBuf>> {
    let programs = corpus::programs()?.into_iter().filter(Program::runs_in_guests);
    Ok(programs.map(|program| directory.join(program.name)).filter(|folder| folder.is_dir()).collect())
}

fn build_some(programs: &[Program], install: bool) -> Result<PathBuf> {
    if install {
        apt::install(&PACKAGES)?;
    }
    let checkout = run::checkout()?;
    let directory = run::metadata(&checkout, TARGET)?.target_directory.join("corpus").into_std_path_buf();
    for folder in
        programs.iter().map(|program| directory.join(&program.name)).filter(|folder| folder.exists())
    {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let skipped = corpus::build(programs, &checkout.join(SOURCES), &directory)?;
    for skipped in &skipped {
        eprintln!("left out: {}: {}", skipped.program, skipped.reason);
    }
    if install && !skipped.is_empty() {
        bail!("not all programs can be built and run here");
    }
    Ok(directory)
}

fn chosen(names: &[String]) -> Result<Vec<Program>> {
    let mut programs = corpus::programs()?;
    if let Some(unknown) = names.iter().find(|name| !programs.iter().any(|program| program.name == **name)) {
        bail!("no program is called {unknown}");
    }
    programs.retain(|program| names.is_empty() || names.contains(&program.name));
    Ok(programs)
}

fn places(programs: &[Program], directory: &Path) -> Result<Vec<(Program, Place)>> {
    let place = |program: &Program| {
        let place = Place::of(program, directory).with_context(|| program.name.clone());
        place.map(|place| place.map(|place| (program.clone(), place))).transpose()
    };
    programs.iter().filter_map(place).collect()
}
