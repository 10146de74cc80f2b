//! Which Rust builds the BPF programs.
//!
//! `core` for the BPF target is not distributed in binary form and has to be built from the library's source. Two
//! toolchains come with that source: Debian's, and rustup's nightly with `rust-src`.

use crate::run;
use anyhow::{Result, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's compiler, wherever rustup's stands on PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

pub(super) const ADVICE_REFERENCE: &str =
    "`cargo xtask ebpf --install`, as root on Debian, installs the toolchain of the committed object";

const ADVICE_ANY: &str = "\
no toolchain here can build BPF programs. Install either of these:
  Debian, as root:  cargo xtask ebpf --install
  rustup:           rustup toolchain install nightly --component rust-src && cargo install bpf-linker";

enum Origin {
    Debian,
    RustupNightly,
}

/// A compiler with the source of its library, and the linker.
pub(super) struct Toolchain {
    origin: Origin,
    rustc: String,
    linker: String,
    sysroot: PathBuf,
}

impl Toolchain {
    /// Debian's toolchain when it is there, because its object is the one that is committed; else rustup's.
    pub(super) fn find() -> Result<Self> {
        let Some(linker) = run::probe(Command::new("bpf-linker").arg("--version")) else {
            bail!("bpf-linker is not on PATH: {ADVICE_ANY}");
        };
        let candidates = [Origin::Debian, Origin::RustupNightly];
        match candidates.into_iter().find_map(|origin| Self::probe(origin, &linker)) {
            Some(toolchain) => {
                println!("using {}: {}", toolchain.origin.name(), toolchain.identity());
                Ok(toolchain)
            }
            None => bail!("{ADVICE_ANY}"),
        }
    }

    fn probe(origin: Origin, linker: &str) -> Option<Self> {
        let rustc = run::probe(origin.rustc().arg("--version"))?;
        let sysroot = PathBuf::from(run::probe(origin.rustc().args(["--print", "sysroot"]))?);
        let has_source = library_source(&sysroot).join("library/core/src/lib.rs").exists();
        has_source.then(|| Self { origin, rustc, linker: linker.to_owned(), sysroot })
    }

    /// Whether this is the toolchain of the committed object.
    pub(super) fn is_reference(&self) -> bool {
        matches!(self.origin, Origin::Debian)
    }

    /// One line that differs when the object may differ.
    pub(super) fn identity(&self) -> String {
        format!("{}, {}", self.rustc, self.linker)
    }

    /// A Cargo that uses this compiler and that accepts `-Zbuild-std`.
    pub(super) fn cargo(&self) -> Command {
        match self.origin {
            Origin::Debian => {
                let mut cargo = Command::new(run::cargo());
                // Debian has a stable compiler only; a nightly would not build anything else from this source.
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Origin::RustupNightly => {
                let mut cargo = Command::new("cargo");
                cargo.arg("+nightly").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }

    /// The folders of the library's source: as the sysroot names it, and where a symbolic link leads.
    pub(super) fn library_folders(&self) -> Vec<PathBuf> {
        let named = library_source(&self.sysroot);
        let real = named.canonicalize().ok().filter(|real| *real != named);
        [Some(named), real].into_iter().flatten().collect()
    }
}

impl Origin {
    fn name(&self) -> &'static str {
        match self {
            Self::Debian => "Debian's toolchain",
            Self::RustupNightly => "rustup's nightly",
        }
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Debian => Command::new(DEBIAN_RUSTC),
            Self::RustupNightly => {
                let mut rustc = Command::new("rustc");
                rustc.arg("+nightly").env_remove("RUSTUP_TOOLCHAIN");
                rustc
            }
        }
    }
}

fn library_source(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust")
}
