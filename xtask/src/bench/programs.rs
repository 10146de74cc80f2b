//! The programs that are measured, built as people build them.

use crate::{
    build::{Build, Linkage},
    run,
};
use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// Builds fdtrace.
pub(super) fn fdtrace() -> Result<PathBuf> {
    Build::run(Linkage::Dynamic, &["build", "--package", "fdtrace", "--bin", "fdtrace"])?.program("fdtrace")
}

/// Runs what has `name` in it of the library's bench.
pub(super) fn library(name: &str, options: &[String]) -> Result<()> {
    let mut cargo = Command::new(run::cargo());
    cargo.current_dir(run::checkout()?).args([
        "bench",
        "--locked",
        "--package",
        "fdtrace",
        "--bench",
        "library",
    ]);
    run::succeed(cargo.args(["--", name]).args(options))
}

/// The bench `hooks`, which has the loads.
pub(super) struct Bench(pub(super) PathBuf);

impl Bench {
    /// Builds it with frame pointers, so that the stacks of its loads are as long as they claim to be.
    pub(super) fn build() -> Result<Self> {
        let words = ["rustc", "--package", "fdtrace", "--bench", "hooks"];
        let built = Build::run_with(Linkage::Dynamic, &words, &["--", "-Cforce-frame-pointers=yes"])?;
        Ok(Self(built.bench("hooks")?))
    }

    /// Runs one of its verbs to the end.
    pub(super) fn run<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        result(Command::new(&self.0).args(arguments))
    }

    /// Runs a verb that writes tables.
    pub(super) fn show(&self, verb: &str, options: &[String]) -> Result<()> {
        run::succeed(Command::new(&self.0).arg(verb).args(options))
    }
}

/// What a command has measured.
pub(super) fn result<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let name = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{name} gave no result"))
}
