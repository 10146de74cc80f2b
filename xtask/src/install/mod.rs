//! Installing what the project's chores need and this machine lacks: packages of Debian, the toolchain for BPF programs,
//! kernels for virtual machines, and interpreters of other releases. All of it comes from where this machine's own configuration says.

mod archive;
pub(crate) mod interpreters;
pub(crate) mod kernels;

use crate::run;
use anyhow::{Result, bail};
use std::process::Command;

/// What compiles and runs the programs that tests are tried on. Rust's compiler is there, or nobody would be here.
pub(crate) const CORPUS: [&str; 10] =
    ["gcc", "g++", "golang-go", "python3", "nodejs", "bash", "ruby", "perl", "php-cli", "lua5.4"];
/// What virtual machines need; apt and dpkg are there wherever Debian's kernels are looked for.
pub(crate) const VM: [&str; 3] = ["qemu-system-x86", "busybox-static", "debian-archive-keyring"];
/// rustc-web is the compiler that Debian keeps new enough, in its stable releases, for web browsers.
pub(crate) const EBPF: [&str; 5] =
    ["rustc-web", "rust-web-src", "llvm-22-dev", "libpolly-22-dev", "libzstd-dev"];
/// bpf-linker has to be built against the LLVM of the compiler whose bitcode it reads.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_LINKER_VERSION: &str = "0.13.0";

/// Installs those packages that are not there yet.
pub(crate) fn packages(wanted: &[&str]) -> Result<()> {
    let mut missing: Vec<_> = wanted.iter().copied().filter(|package| !is_installed(package)).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !run::is_root() || !has_apt() {
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

/// Installs Debian's toolchain for BPF programs and the linker, as far as they are missing.
pub(crate) fn bpf_toolchain() -> Result<()> {
    packages(&EBPF)?;
    let wanted = format!("bpf-linker {BPF_LINKER_VERSION}");
    if run::probe(Command::new("bpf-linker").arg("--version")).as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    run::succeed(
        Command::new(run::cargo())
            .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM_PREFIX),
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
