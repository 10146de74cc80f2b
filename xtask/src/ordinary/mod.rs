//! `cargo xtask ordinary`: programs that nobody here wrote, and what `fdtrace check` says of them.
//!
//! A gate that is left on must be silent about shells, compilers and interpreters. Where it is not, the table says why it is
//! right.

mod document;
mod outcome;
mod place;
mod report;
mod table;

use crate::{
    apt,
    programs::{Build, Linkage},
    run,
};
use anyhow::{Context as _, Result, bail};
use document::Row;
use outcome::Outcome;
pub(crate) use place::forget_cargo;
pub(crate) use report::Report;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};
use table::Program;
pub(crate) use table::is_on_path;

/// What `--write` writes, in the checkout.
const DOCUMENT: &str = "docs/ordinary.md";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these programs of tests/ordinary.toml (`git` is all whose names begin with it)
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// How many times each program is run under the check
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// An fdtrace that is built already
    #[arg(long, value_name = "PATH")]
    fdtrace: Option<PathBuf>,
    /// Write docs/ordinary.md
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// First install what is missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let programs = chosen(table::programs()?, &args.only, "program", |program| &program.name)?;
    if args.install {
        let packages: BTreeSet<&str> =
            programs.iter().filter_map(Program::missing_packages).flatten().collect();
        apt::install(&packages.into_iter().collect::<Vec<_>>())?;
    }
    if !run::is_root()? {
        bail!("tracing needs root");
    }
    let fdtrace = fdtrace(args.fdtrace.as_deref())?;
    let rows: Vec<Row<'_>> = programs.iter().map(|program| row(&fdtrace, program, args.runs)).collect();
    print!("{}", document::table(&rows));
    println!("\n{}", document::summary(&rows, args.runs));
    let wrong = document::wrong(&rows);
    wrong.iter().for_each(|line| println!("{line}"));
    if args.write {
        let path = run::checkout()?.join(DOCUMENT);
        fs::write(&path, document::whole(&rows, args.runs)).with_context(|| path.display().to_string())?;
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The one that was named, or one that is built.
pub(crate) fn fdtrace(path: Option<&Path>) -> Result<PathBuf> {
    match path {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string()),
        None => Build::run(Linkage::Dynamic, &["build", "--package", "fdtrace"])?.program("fdtrace"),
    }
}

fn row<'a>(fdtrace: &Path, program: &'a Program, runs: u32) -> Row<'a> {
    eprintln!("{}", program.name);
    let outcome = match program.missing() {
        Some(name) => Outcome::Skipped(format!("no {name} here")),
        None => outcome::repeat(fdtrace, program, runs),
    };
    Row { program, outcome }
}

/// Those whose names begin like one of these; all where there are none.
pub(crate) fn chosen<T>(
    mut all: Vec<T>,
    names: &[String],
    what: &str,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>> {
    let is_it = |one: &T, wanted: &String| name(one).starts_with(wanted.as_str());
    if let Some(unknown) = names.iter().find(|wanted| !all.iter().any(|one| is_it(one, wanted))) {
        bail!("no {what} is called {unknown}");
    }
    all.retain(|one| names.is_empty() || names.iter().any(|wanted| is_it(one, wanted)));
    Ok(all)
}
