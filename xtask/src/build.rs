//! The project's programs, built for a test.

use crate::run;
use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Artifact, Message};
use std::{
    io::BufReader,
    path::PathBuf,
    process::{Command, Stdio},
};

/// What is tested on a processor; BPF programs are not.
pub(crate) const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "fdtrace-ebpf"];

/// What a program needs beside itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Linkage {
    /// The libraries of this machine.
    Dynamic,
    /// Nothing, as in guests. With glibc all the same, because it is there wherever Rust is; and with debug assertions.
    Static,
}

/// What the end-to-end tests consist of.
pub(crate) struct Suite {
    pub(crate) fdtrace: PathBuf,
    pub(crate) workload: PathBuf,
    /// The tests themselves.
    pub(crate) e2e: PathBuf,
}

impl Suite {
    pub(crate) fn of(built: &Build) -> Result<Self> {
        Ok(Self {
            fdtrace: built.program("fdtrace")?,
            workload: built.program("workload")?,
            e2e: built.tests("e2e")?,
        })
    }
}

/// What one run of Cargo built.
pub(crate) struct Build {
    artifacts: Vec<Artifact>,
}

impl Build {
    /// All programs and all tests, static. At once: which features a library is built with depends on who else is built.
    pub(crate) fn everything() -> Result<Self> {
        Self::run(Linkage::Static, &[&["build"], &WORKSPACE[..], &["--bins", "--tests"]].concat())
    }

    /// Runs Cargo with a verb and what to build.
    pub(crate) fn run(linkage: Linkage, arguments: &[&str]) -> Result<Self> {
        Self::run_with(linkage, arguments, &[])
    }

    /// The same, with arguments for what Cargo runs.
    pub(crate) fn run_with(linkage: Linkage, arguments: &[&str], inner: &[&str]) -> Result<Self> {
        let mut child = command(linkage, arguments)?.args(inner).spawn().context("cannot run Cargo")?;
        let messages = BufReader::new(child.stdout.take().context("Cargo has no standard output")?);
        let artifacts = Message::parse_stream(messages).filter_map(|message| match message {
            Ok(Message::CompilerArtifact(artifact)) => Some(artifact),
            _ => None,
        });
        let artifacts = artifacts.collect();
        if !child.wait()?.success() {
            bail!("cargo {} failed", arguments.join(" "));
        }
        Ok(Self { artifacts })
    }

    /// The path of a program that was built.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        self.executable(name, false).with_context(|| format!("Cargo built no program {name}"))
    }

    /// The path of tests that were built.
    fn tests(&self, name: &str) -> Result<PathBuf> {
        self.executable(name, true).with_context(|| format!("Cargo built no tests {name}"))
    }

    /// The path of a bench that was built.
    pub(crate) fn bench(&self, name: &str) -> Result<PathBuf> {
        let executable = self.executable(name, false).or_else(|| self.executable(name, true));
        executable.with_context(|| format!("Cargo built no bench {name}"))
    }

    fn executable(&self, name: &str, tests: bool) -> Option<PathBuf> {
        let named = self.artifacts.iter().filter(|artifact| artifact.target.name == name);
        let mut built = named.filter(|artifact| artifact.profile.test == tests);
        built.find_map(|artifact| Some(artifact.executable.clone()?.into_std_path_buf()))
    }
}

fn command(linkage: Linkage, arguments: &[&str]) -> Result<Command> {
    let mut cargo = match linkage {
        Linkage::Static => tested(arguments)?,
        Linkage::Dynamic => {
            let mut cargo = Command::new(run::cargo());
            cargo.current_dir(run::checkout()?).args(arguments).args(["--release", "--locked"]);
            cargo
        }
    };
    cargo.args(["--message-format", "json-render-diagnostics"]).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(cargo)
}

/// Cargo with a verb, for what is tested.
pub(crate) fn tested(arguments: &[&str]) -> Result<Command> {
    let mut cargo = Command::new(run::cargo());
    cargo
        .current_dir(run::checkout()?)
        .args(arguments)
        .args(["--profile", "tested", "--locked", "--target", run::TARGET, "--target-dir"])
        // In a folder of its own: other flags for the compiler would build everything again each time they change.
        .arg(run::target("vm")?)
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    Ok(cargo)
}
