//! `cargo xtask bench`: what tracing costs, against what it may cost.
//!
//! What is measured lives in the example `bench`, which is optimized and holds the library; here is who starts it, in
//! which order, and what the numbers are compared with.

mod check;
mod child;
mod costs;
mod explain;
mod fold;
mod hooks;
mod load;
mod numbers;
mod peers;
mod programs;
mod quiet;
mod record;
mod symbols;
mod table;
mod tracer;
mod unwind;

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
    Unwind(unwind::Args),
    /// What a program pays for being checked (root)
    Check(load::Turns),
    /// `fdtrace explain` on many handles; beside lsof and lsfd where they are installed (root)
    Explain(explain::Args),
    /// Decoding and the table of handles, with synthetic records
    Fold,
    /// Recording a storm of files and reading it back; and synthetic traces (root)
    Record(record::Args),
    /// Naming the code of 200 processes, one of them with a gigabyte of debug information
    Symbols(symbols::Args),
    /// `fdtrace live` while nothing happens (root)
    Quiet,
}

/// A target that is missed is printed as that and is no failure: how fast a machine is says nothing about the source.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !matches!(args.what, What::Fold) && !run::is_root()? {
        bail!("tracing needs root");
    }
    match &args.what {
        What::Hooks(args) => hooks::run(args)?,
        What::Unwind(args) => unwind::run(args)?,
        What::Check(args) => check::run(args)?,
        What::Explain(args) => explain::run(args)?,
        What::Fold => fold::run()?,
        What::Record(args) => record::run(args)?,
        What::Symbols(args) => symbols::run(args)?,
        What::Quiet => quiet::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
