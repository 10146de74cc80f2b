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
    let database = args.database.clone().or_else(database).filter(|path| path.is_dir());
    let tool = run::probe(Command::new(run::cargo()).args(["audit", "--version"]));
    let (Some(database), Some(_)) = (database, tool) else {
        println!(
            "cargo audit: nothing is known of the {packages} packages: `cargo install cargo-audit` and `cargo audit fetch` \
             bring what is"
        );
        return Ok(ExitCode::SUCCESS);
    };
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
