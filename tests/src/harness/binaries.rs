//! Where the programs under test are.

use anyhow::{Context as _, Result};
use std::{
    env,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The tracer: `FDTRACE_BIN`, else the newest one that cargo built beside this test.
///
/// # Errors
/// When there is none.
pub fn fdtrace() -> Result<PathBuf> {
    find("FDTRACE_BIN", "fdtrace").context("no fdtrace: run `cargo build -p fdtrace`, or set FDTRACE_BIN")
}

/// The workload: `WORKLOAD_BIN`, else the newest one that cargo built beside this test.
///
/// # Errors
/// When there is none.
pub fn workload() -> Result<PathBuf> {
    find("WORKLOAD_BIN", "workload").context("no workload: set WORKLOAD_BIN")
}

fn find(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return PathBuf::from(path).canonicalize().with_context(|| format!("{variable} is wrong"));
    }
    let test = env::current_exe()?;
    let profile = test.ancestors().nth(2).context("the test is not in a target directory")?;
    let target = profile.parent().context("the test is not in a target directory")?;
    let places = [profile.to_path_buf(), target.join("release"), target.join("debug")];
    let found = places.iter().map(|place| place.join(name)).filter(|path| path.is_file());
    found.max_by_key(|path| modified(path)).context("not found")
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}
