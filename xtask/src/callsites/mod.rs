//! `cargo xtask callsites`: programs whose call chains are known, and how much of them fdtrace shows.

mod build;
mod elf;
mod gdb;
mod marks;
mod table;

pub(crate) use build::build;

use crate::{
    programs::{Linkage, Suite},
    run,
};
use anyhow::{Result, bail};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these programs of tests/programs/expected.toml; with --gdb also nginx, redis-server, python3 and postgres
    #[arg(value_name = "PROGRAM")]
    only: Vec<String>,
    /// Compile the programs and do nothing else
    #[arg(long, conflicts_with = "only")]
    build: bool,
    /// Compare all chains with those that gdb finds, of these programs and of some that Debian has
    #[arg(long, conflicts_with = "build")]
    gdb: bool,
    /// First install the compilers that are missing, and what else is needed (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let directory = build(args.install)?;
    if args.build {
        println!("{}", directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !run::is_root()? {
        bail!("tracing needs root");
    }
    let suite = Suite::build(Linkage::Dynamic)?;
    if args.gdb {
        return gdb::run(&directory, &args.only, &suite.fdtrace, args.install);
    }
    table::print(suite, &directory, &args.only)
}
