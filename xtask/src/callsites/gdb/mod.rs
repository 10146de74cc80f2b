//! `cargo xtask callsites --gdb`: the chains of gdb and those of fdtrace, of the same run of the same program.
//!
//! gdb stops the program at each system call that makes a handle and walks its stack; fdtrace records it meanwhile. So each
//! call is seen by both, and the chains have to be the same frame by frame, by file and offset: most programs of a
//! distribution have no symbols.

mod chains;
mod session;
mod subjects;

use crate::{apt, run};
use anyhow::{Context as _, Result, bail};
use chains::Comparison;
use session::Session;
use std::{path::Path, process::ExitCode};
use subjects::Subject;

/// Debugs the programs, and prints how far the chains agree.
pub(super) fn run(directory: &Path, only: &[String], fdtrace: &Path, install: bool) -> Result<ExitCode> {
    if install {
        apt::install(&["gdb"])?;
        apt::install(&subjects::PACKAGES)?;
    }
    if run::probe(std::process::Command::new("gdb").arg("--version")).is_none() {
        bail!("there is no gdb here");
    }
    let mut agree = true;
    for subject in subjects::all(directory)?.iter().filter(|subject| subject.is_chosen(only)) {
        agree &= examine(subject, fdtrace).with_context(|| subject.name().to_owned())?;
    }
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says whether all chains of a program agree. One that is not installed is skipped, and that is said.
fn examine(subject: &Subject, fdtrace: &Path) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let prepared = match subject.prepare(scratch.path())? {
        Ok(prepared) => prepared,
        Err(missing) => {
            println!("{}: not run: {missing}", subject.name());
            return Ok(true);
        }
    };
    let (debugged, traced) = Session::start(fdtrace, &prepared, scratch.path())?.run(&prepared)?;
    let comparison = Comparison::new(&debugged, &traced);
    print!("{}: {comparison}", subject.name());
    Ok(comparison.agrees())
}
