//! `cargo xtask man`: the manual pages, one for each verb, made from the command line itself.

use crate::run;
use anyhow::Result;
use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write them; by default the folder `man` of the target directory
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// xtask itself builds without the library, so an example of it does the work.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let folder = match &args.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => run::target("man")?,
    };
    fs::create_dir_all(&folder)?;
    let mut cargo = Command::new(run::cargo());
    cargo.current_dir(run::checkout()?);
    cargo.args(["run", "--quiet", "--locked", "--package", "fdtrace", "--example", "man", "--"]);
    run::succeed(cargo.arg(&folder))?;
    println!("wrote {}", folder.display());
    Ok(ExitCode::SUCCESS)
}
