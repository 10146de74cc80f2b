//! The programs that are measured, built as people build them.

use crate::{
    programs::{Build, Linkage},
    run,
};
use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds fdtrace.
pub(super) fn fdtrace() -> Result<PathBuf> {
    Build::run(Linkage::Dynamic, &["build", "--package", "fdtrace", "--bin", "fdtrace"])?.program("fdtrace")
}

/// The example `bench`.
pub(super) struct Bench(pub(super) PathBuf);

impl Bench {
    /// Builds it with frame pointers, so that the call chains of its loads are as long as they claim to be.
    pub(super) fn build() -> Result<Self> {
        let checkout = run::checkout()?;
        run::succeed(
            Command::new(run::cargo())
                .current_dir(&checkout)
                .args(["rustc", "--release", "--locked", "--package", "xtask", "--example", "bench"])
                .args(["--", "-Cforce-frame-pointers=yes"]),
        )?;
        let target = run::metadata(&checkout, TARGET)?.target_directory;
        Ok(Self(target.join("release/examples/bench").into_std_path_buf()))
    }

    /// Runs one of its verbs to the end.
    pub(super) fn run<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        result(Command::new(&self.0).args(arguments))
    }
}

/// What a command of the example `bench` has measured.
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
