//! `cargo xtask callsites`: programs whose stacks are known, and how much of them fdtrace shows.

mod elf;
mod marks;
mod programs;
mod table;

pub(crate) use programs::build;

use crate::{
    build::{Linkage, Suite},
    install, run,
};
use anyhow::{Result, bail};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these programs of tests/programs/expected.toml
    #[arg(value_name = "PROGRAM")]
    only: Vec<String>,
    /// Compile the programs and do nothing else
    #[arg(long, conflicts_with = "only")]
    build: bool,
    /// First install the compilers that are missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.install {
        install::packages(&install::CALLSITES)?;
    }
    let directory = build(args.install)?;
    if args.build {
        println!("{}", directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !run::is_root()? {
        bail!("tracing needs root");
    }
    table::print(Suite::build(Linkage::Dynamic)?, &directory, &args.only)
}
