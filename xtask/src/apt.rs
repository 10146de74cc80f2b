//! Installing Debian packages, for `--install`.

use crate::run;
use anyhow::{Result, bail};
use std::process::Command;

/// Installs those of `packages` that are not there yet.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !run::is_root()? || !has_apt() {
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
fn is_installed(package: &str) -> bool {
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
