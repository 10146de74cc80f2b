//! `cargo xtask lint`: formatting and clippy, as a change has to pass them.

use crate::run;
use anyhow::Result;
use std::process::{Command, ExitCode};

pub(crate) fn run() -> Result<ExitCode> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"])?;
    Ok(ExitCode::SUCCESS)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    println!("cargo {}", arguments.join(" "));
    run::succeed(Command::new(run::cargo()).current_dir(run::checkout()?).args(arguments))
}
