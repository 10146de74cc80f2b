//! Writes the manual pages into a folder that is there, one for each verb: `cargo xtask man`.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("no folder is named")?);
    Ok(clap_mangen::generate_to(fdtrace::cli::command(), &folder)?)
}
