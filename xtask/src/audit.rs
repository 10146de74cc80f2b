//! `cargo xtask audit`: the lock file beside what is known of vulnerable crates. Nothing is fetched.

use crate::run;
use anyhow::Result;
use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// Where `cargo audit` keeps the advisories of RustSec, below the folder of Cargo.
const DATABASE: &str = "advisory-db";

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// The advisories of RustSec, as a git repository; by default where `cargo audit fetch` puts them
    #[arg(long, value_name = "PATH")]
    database: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let lock = run::checkout()?.join("Cargo.lock");
    let packages = fs::read_to_string(&lock)?.matches("[[package]]").count();
    let Some(database) = args.database.clone().or_else(database).filter(|path| path.is_dir()) else {
        return Ok(nothing_known(packages, "there are no advisories here; `cargo audit fetch` gets them"));
    };
    if run::probe(Command::new(run::cargo()).args(["audit", "--version"])).is_none() {
        return Ok(nothing_known(
            packages,
            "there is no `cargo audit`; `cargo install cargo-audit` brings it",
        ));
    }
    println!("cargo audit: {packages} packages beside {}", database.display());
    let mut audit = Command::new(run::cargo());
    audit.args(["audit", "--no-fetch", "--stale", "--db"]).arg(database).arg("--file").arg(lock);
    run::succeed(&mut audit)?;
    Ok(ExitCode::SUCCESS)
}

fn database() -> Option<PathBuf> {
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    Some(env::var_os("CARGO_HOME").map(PathBuf::from).or(home)?.join(DATABASE))
}

fn nothing_known(packages: usize, why: &str) -> ExitCode {
    println!("cargo audit: nothing is known of the {packages} packages: {why}");
    ExitCode::SUCCESS
}
