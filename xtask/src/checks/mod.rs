//! Programs under `fdtrace check`, by tables that say what has to come of each: programs of others, about which a gate that is
//! left on must be silent; leaks that published software had; what docs/ci.md tells people to do; and the corpus, small
//! programs of which everybody knows whether they leak.

mod case;
mod corpus;
mod document;
mod place;
mod runner;
mod table;

pub(crate) use corpus::{build as build_corpus, for_guests};

use crate::{
    build::{Build, Linkage},
    install, run,
};
use anyhow::{Context as _, Result, bail};
use runner::{Case, Outcome};
use std::{collections::BTreeSet, fs, path::PathBuf, process::ExitCode};
use table::{Page, Program, Table};

const THIRD_PARTY: &str = "tests/third-party.toml";
const KNOWN_LEAKS: &str = "tests/known-leaks.toml";
const CI_EXAMPLES: &str = "tests/ci-examples/examples.toml";

/// What is run.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    ThirdParty,
    KnownLeaks,
    CiExamples,
    Corpus,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those whose names begin so
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// How many times each is run under the check
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// An fdtrace that is built already
    #[arg(long, value_name = "PATH")]
    fdtrace: Option<PathBuf>,
    /// Show what is said
    #[arg(long)]
    show: bool,
    /// Write the page of the table, if it has one
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// First install what is missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

impl Which {
    fn default_runs(self) -> u32 {
        match self {
            Self::Corpus => 20,
            Self::ThirdParty => 3,
            Self::KnownLeaks | Self::CiExamples => 1,
        }
    }

    /// The cases that were asked for, and where they are written down.
    fn cases(self, only: &[String]) -> Result<(Vec<Case>, Option<Page>)> {
        let file = match self {
            Self::Corpus => return Ok((corpus::cases(only)?, None)),
            Self::ThirdParty => THIRD_PARTY,
            Self::KnownLeaks => KNOWN_LEAKS,
            Self::CiExamples => CI_EXAMPLES,
        };
        let Table { page, programs } = table::read(file)?;
        let is_chosen = |program: &Program| {
            only.is_empty() || only.iter().any(|name| program.name.starts_with(name.as_str()))
        };
        Ok((programs.iter().filter(|program| is_chosen(program)).flat_map(case::cases).collect(), page))
    }
}

pub(crate) fn run(which: Which, args: &Args) -> Result<ExitCode> {
    let (mut cases, page) = which.cases(&args.only)?;
    if args.install && install_for(&cases)? {
        cases = which.cases(&args.only)?.0;
    }
    if cases.is_empty() {
        bail!("nothing is called {}", args.only.join(" or "));
    }
    if !run::is_root() {
        bail!("tracing needs root");
    }
    let fdtrace = match &args.fdtrace {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => Build::run(Linkage::Dynamic, &["build", "--package", "fdtrace"])?.program("fdtrace")?,
    };
    let runs = args.runs.unwrap_or(which.default_runs());
    let repeat = |case| runner::repeat(case, &fdtrace, runs, args.show);
    let outcomes: Vec<Outcome> = cases.iter().map(repeat).collect();
    if args.write {
        let page = page.context("this table has no page")?;
        let path = run::checkout()?.join(&page.file);
        fs::write(&path, document::page(&page, &outcomes, runs))
            .with_context(|| path.display().to_string())?;
    }
    Ok(print(&outcomes, runs))
}

/// Installs what those need that lack something; says whether there were any.
fn install_for(cases: &[Case]) -> Result<bool> {
    let missing = cases.iter().filter(|case| case.missing.is_some());
    let packages: BTreeSet<String> = missing.flat_map(|case| case.packages.clone()).collect();
    install::packages(&packages.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(!packages.is_empty())
}

fn print(outcomes: &[Outcome], runs: u32) -> ExitCode {
    println!("{}\n{}", document::table(outcomes), document::summary(outcomes, runs));
    let wrong = document::wrong(outcomes);
    wrong.iter().for_each(|line| println!("{line}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
