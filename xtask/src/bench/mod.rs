//! `cargo xtask bench`: what fdtrace costs, against what it may cost. Parts of the library and the BPF programs are timed by
//! the benches of the crate fdtrace; here is what needs the whole tool, beside others of its kind.

mod child;
mod churn;
mod explain;
mod live;
mod load;
mod programs;
mod record;
mod start;
mod ways;

use anyhow::{Result, bail};
use clap::Subcommand;
use std::process::ExitCode;

use crate::run;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The BPF programs, and how much they slow others down; beside other tracers where they are installed (root)
    Hooks(load::Turns),
    /// Call chains by unwind tables, against those by frame pointers (root)
    Unwind(Options),
    /// What a program pays for being checked (root)
    Check(load::Turns),
    /// `fdtrace explain` on many handles; beside lsof and lsfd where they are installed (root)
    Explain(explain::Args),
    /// Recording a storm of files and reading it back (root)
    Record(record::Args),
    /// `fdtrace live` while nothing happens (root)
    Quiet,
    /// Until something is traced (root)
    Start(start::Args),
    /// `live` and `record` beside processes that come and go (root; needs cc)
    Churn(churn::Args),
    /// Decoding and the table of handles, with synthetic records
    Fold(Options),
    /// Writing and reading synthetic traces
    Trace(Options),
    /// Naming the code of 200 processes, one of them with a gigabyte of debug information
    Symbols(Options),
}

/// What the bench itself reads.
#[derive(clap::Args)]
struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

/// A target that is missed is printed as that and is no failure: how fast a machine is says nothing about the source.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !matches!(args.what, What::Fold(_) | What::Trace(_) | What::Symbols(_)) && !run::is_root() {
        bail!("tracing needs root");
    }
    match &args.what {
        What::Hooks(args) => ways::hooks(args)?,
        What::Unwind(options) => programs::Bench::build()?.show("unwind", &options.options)?,
        What::Check(args) => ways::check(args)?,
        What::Explain(args) => explain::run(args)?,
        What::Record(args) => record::run(args)?,
        What::Quiet => live::quiet()?,
        What::Start(args) => start::run(args)?,
        What::Churn(args) => churn::run(args)?,
        What::Fold(options) => programs::library("fold", &options.options)?,
        What::Trace(options) => programs::library("trace", &options.options)?,
        What::Symbols(options) => {
            programs::library(
                "symbols",
                &[&["--include-ignored".to_owned()], &options.options[..]].concat(),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Each in turn, round after round: a machine that gets slower slows all of them.
fn by_turns<T, R: Default>(
    all: &[T],
    rounds: usize,
    mut turn: impl FnMut(usize, &T, &mut R) -> Result<()>,
) -> Result<Vec<R>> {
    let mut results: Vec<R> = all.iter().map(|_| R::default()).collect();
    for round in 0..rounds.max(1) {
        for (one, result) in all.iter().zip(&mut results) {
            turn(round, one, result)?;
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_interleaved() -> Result<()> {
        let mut order = Vec::new();
        let results = by_turns(&["a", "b"], 2, |round, name, result: &mut usize| {
            order.push((round, *name));
            *result += 1;
            Ok(())
        })?;
        assert_eq!(order, [(0, "a"), (0, "b"), (1, "a"), (1, "b")]);
        assert_eq!(results, [2, 2]);
        Ok(())
    }
}
