//! Call sites in scripts: what is said of them against what the language says of itself.

mod hostile;
mod hunt;
mod php;
mod traceback;

use anyhow::Result;
use fdtrace_tests::harness::{backend, fdtrace, say, unwind};
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// CPython 3, as pyenv and distributions install it; says so where there is none.
fn pythons() -> BTreeSet<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let versions = versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    let packaged = (6..=20).map(|minor| PathBuf::from(format!("/usr/bin/python3.{minor}")));
    let found: BTreeSet<PathBuf> =
        versions.chain(packaged).filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say("no CPython 3 here");
    }
    found
}

/// The newest of them.
fn python() -> Option<PathBuf> {
    let minor = |path: &PathBuf| -> u32 {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.rsplit('.').next().and_then(|minor| minor.parse().ok()).unwrap_or(0)
    };
    pythons().into_iter().max_by_key(minor)
}

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
