//! `cargo xtask growth`: how often the verdict on growth is wrong, on series whose truth is known.
//!
//! The series are made and judged by the example `growth`, which is optimized and holds the library.

use anyhow::Result;
use std::process::{Command, ExitCode};

use crate::run;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of each kind and length
    #[arg(long, value_name = "N", default_value_t = 200)]
    runs: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = Command::new(run::cargo());
    command
        .current_dir(run::checkout()?)
        .args(["run", "--quiet", "--release", "--locked", "--package", "xtask", "--example", "growth", "--"])
        .args(["--runs", &args.runs.to_string()]);
    run::succeed(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
