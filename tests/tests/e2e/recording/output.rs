//! Where a trace may be written, and where not.

use super::fails;
use anyhow::{Result, ensure};
use fdtrace_tests::harness::{Finished, Scratch, TIMEOUT, finish, record, report, turn};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::id,
};

/// A recording that ends at once, when it may begin.
fn short(file: &Path, options: &[&str]) -> Result<Finished> {
    finish(record(file)?.args(["-p", &id().to_string(), "--duration", "100ms"]).args(options), TIMEOUT)
}

#[test]
fn a_file_that_is_there_is_not_touched() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("trace");
    fs::write(&file, "precious")?;
    fails(&short(&file, &[])?, "--force")?;
    ensure!(fs::read_to_string(&file)? == "precious", "it was touched");
    let finished = short(&file, &["--force"])?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    report(&file)?;
    Ok(())
}

#[test]
fn nothing_is_written_through_a_symbolic_link() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (file, link) = (scratch.path().join("precious"), scratch.path().join("trace"));
    fs::write(&file, "precious")?;
    symlink(&file, &link)?;
    fails(&short(&link, &[])?, "trace")?;
    fails(&short(&link, &["--force"])?, "symbolic link")?;
    ensure!(fs::read_to_string(&file)? == "precious", "it was touched");
    Ok(())
}

#[test]
fn nobody_else_may_read_it() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("trace");
    let finished = short(&file, &[])?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "mode {mode:o}");
    Ok(())
}

#[test]
fn a_directory_that_is_missing_is_named() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    fails(&short(&scratch.path().join("no/such/trace"), &[])?, "no/such/trace")
}
