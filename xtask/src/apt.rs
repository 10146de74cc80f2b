//! Installing Debian packages, for `--install`.

use crate::run;
use anyhow::{Result, bail};
use std::{fs, process::Command};

/// Installs those of `packages` that are not there yet.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? || !has_apt() {
        bail!("--install needs root and apt-get. Missing here: {}", missing.join(" "));
    }
    println!("installing {}", missing.join(" "));
    run::succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
    if let Some(unknown) = missing.iter().find(|package| !is_available(package)) {
        bail!("no apt source of this machine offers the package {unknown}");
    }
    run::succeed(
        Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Whether dpkg has the package fully installed.
pub(crate) fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    run::probe(&mut query).is_some_and(|status| status == "installed")
}

fn is_available(package: &str) -> bool {
    run::probe(Command::new("apt-cache").args(["show", package])).is_some_and(|text| !text.is_empty())
}

fn has_apt() -> bool {
    run::probe(Command::new("apt-get").arg("--version")).is_some()
}

/// The effective user, from procfs: reason enough not to need `unsafe` here.
fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0"))
}
