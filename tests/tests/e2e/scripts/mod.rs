//! Call sites in scripts: what is said of them against what the language says of itself.

mod hostile;
mod hotspot;
mod hunt;
mod interpreters;
mod perl;
mod php;
mod ruby;
mod traceback;
mod v8;

use anyhow::Result;
use fdtrace_tests::harness::{backend, fdtrace, unwind};
use std::process::Command;

/// fdtrace with the backend and the way of unwinding that the tests are run with.
fn traced(verb: &str) -> Result<Command> {
    let mut command = Command::new(fdtrace()?);
    command.arg(verb);
    match backend().as_str() {
        "auto" => {}
        backend => drop(command.args(["--backend", backend])),
    }
    command.args(unwind(std::iter::empty()));
    Ok(command)
}
