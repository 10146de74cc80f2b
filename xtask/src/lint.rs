//! `cargo xtask lint`: formatting, known vulnerabilities and clippy, as a change has to pass them.

use crate::{audit, run};
use anyhow::Result;
use std::process::{Command, ExitCode};

pub(crate) fn run() -> Result<ExitCode> {
    cargo(&["fmt", "--all", "--check"])?;
    audit::run(&audit::Args::default())?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"])?;
    Ok(ExitCode::SUCCESS)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    println!("cargo {}", arguments.join(" "));
    run::succeed(Command::new(run::cargo()).current_dir(run::checkout()?).args(arguments))
}
