//! `cargo xtask ebpf`: builds the BPF programs.
//!
//! The object is committed, so that a plain `cargo build` of fdtrace needs stable Rust only. For that to be honest,
//! anybody must be able to show that the committed bytes come from the source beside them: `--check` does, and the
//! build is therefore made not to depend on folders, on the user, or on Cargo's configuration.

mod object;
mod toolchain;

use crate::{install, run};
use anyhow::{Context as _, Result, bail};
use cargo_metadata::Metadata;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use toolchain::Toolchain;

const PACKAGE: &str = "fdtrace-ebpf";
const TARGET: &str = "bpfel-unknown-none";
/// The programs of the package, and their objects beside the source.
const OBJECTS: [(&str, &str); 2] =
    [(PACKAGE, "fdtrace-ebpf/fdtrace.bpf.o"), ("fdtrace-holder-walk", "fdtrace-ebpf/holder_walk.bpf.o")];
/// What built the objects: `--check` has to tell "another compiler" from "another source".
const BUILT_BY: &str = "fdtrace-ebpf/fdtrace.bpf.toolchain";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when the committed object is not what the source gives
    #[arg(long)]
    pub(crate) check: bool,
    /// First install what is missing (Debian, as root)
    #[arg(long)]
    pub(crate) install: bool,
    /// Build an object whose programs log, for `fdtrace live --bpf-log`; the committed one stays as it is
    #[arg(long, conflicts_with = "check")]
    pub(crate) log: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.install {
        install::bpf_toolchain()?;
    }
    let checkout = run::checkout()?;
    let toolchain = Toolchain::find()?;
    if args.log {
        let bytes = build(&checkout, &toolchain, &["--features", "log"])?.object(PACKAGE)?;
        let path = run::target("bpf/fdtrace-log.bpf.o")?;
        write(&path, &bytes)?;
        println!("wrote {}", path.display());
    } else if args.check {
        check(&checkout, &toolchain)?;
    } else {
        update(&checkout, &toolchain)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds, and replaces the objects in the source tree.
fn update(checkout: &Path, toolchain: &Toolchain) -> Result<()> {
    let built = build(checkout, toolchain, &[])?;
    for (program, object) in OBJECTS {
        let bytes = built.object(program)?;
        write(&checkout.join(object), &bytes)?;
        println!("wrote {object} ({} bytes)", bytes.len());
    }
    write(&checkout.join(BUILT_BY), format!("{}\n", toolchain.identity()).as_bytes())?;
    if !toolchain.is_reference() {
        println!("do not commit them: the committed objects are those that Debian's toolchain gives");
    }
    Ok(())
}

/// Builds, and compares with the objects in the source tree.
fn check(checkout: &Path, toolchain: &Toolchain) -> Result<()> {
    let built_by = String::from_utf8_lossy(&read(&checkout.join(BUILT_BY))?).trim().to_owned();
    if toolchain.identity() != built_by {
        bail!(
            "the objects were built by {built_by}, and only the same toolchain gives the same bytes; here is {}. {}",
            toolchain.identity(),
            toolchain::ADVICE_REFERENCE
        );
    }
    let built = build(checkout, toolchain, &[])?;
    for (program, object) in OBJECTS {
        if built.object(program)? != read(&checkout.join(object))? {
            bail!("{object} is not what its source gives: run `cargo xtask ebpf` and commit it");
        }
        println!("{object} is what its source gives");
    }
    Ok(())
}

/// Where the linked objects are.
struct Built(PathBuf);

impl Built {
    /// The bytes of a program's object, as they are committed.
    fn object(&self, program: &str) -> Result<Vec<u8>> {
        object::without_dwarf(&read(&self.0.join(program))?).context("cannot strip the linked object")
    }
}

/// Builds what the source gives.
fn build(checkout: &Path, toolchain: &Toolchain, features: &[&str]) -> Result<Built> {
    let metadata = run::metadata(checkout, TARGET)?;
    let target_dir = metadata.target_directory.join("bpf").into_std_path_buf();
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(checkout)
        .args(["build", "--release", "--locked", "--package", PACKAGE, "--bins"])
        .args(features)
        .args(["--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(&target_dir)
        .args(PROFILE.iter().flat_map(|setting| ["--config", setting]))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&remappings(&metadata, toolchain)));
    ignore_user_settings(&mut cargo);
    run::succeed(&mut cargo)?;
    Ok(Built(target_dir.join(TARGET).join("release")))
}

/// The release profile as the BPF object needs it: BTF is made from the full debug information of every crate, `core`
/// included, and bpf-linker optimizes across crates itself.
const PROFILE: [&str; 4] = [
    "profile.release.debug=2",
    "profile.release.lto='off'",
    "profile.release.codegen-units=1",
    "profile.release.strip='none'",
];

/// Removes what a user may have in the environment and what would change the bytes.
fn ignore_user_settings(cargo: &mut Command) {
    const SETTINGS: &str = "CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET CARGO_ENCODED_RUSTDOCFLAGS CARGO_INCREMENTAL \
                            RUSTC_WORKSPACE_WRAPPER RUSTC_WRAPPER RUSTFLAGS SOURCE_DATE_EPOCH";
    for setting in SETTINGS.split(' ') {
        cargo.env_remove(setting);
    }
    let profile = std::env::vars_os().map(|(name, _)| name);
    for name in profile.filter(|name| name.to_string_lossy().starts_with("CARGO_PROFILE_")) {
        cargo.env_remove(name);
    }
}

/// A folder of this machine, and what it is called in the object.
struct Remapping {
    from: PathBuf,
    to: String,
}

/// Every folder that holds source of the object, under a name that is the same everywhere. Dependencies are mapped by
/// the folder that holds them all, for each flag that changes means that `core` is built again.
///
/// The checkout becomes `.`: LLVM then still finds the project's own source, and copies the lines into BTF, where the
/// kernel's verifier quotes them.
fn remappings(metadata: &Metadata, toolchain: &Toolchain) -> Vec<Remapping> {
    let registries: BTreeSet<_> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .filter_map(|package| package.manifest_path.parent()?.parent())
        .collect();
    let crates = registries.into_iter().map(|from| Remapping { from: from.into(), to: "crates".into() });
    let checkout = Remapping { from: metadata.workspace_root.clone().into_std_path_buf(), to: ".".into() };
    let library = toolchain.library_folders().into_iter().map(|from| Remapping { from, to: "rust".into() });
    // rustc applies the last prefix that fits, and CARGO_HOME may lie inside the checkout.
    std::iter::once(checkout).chain(library).chain(crates).collect()
}

/// The flags in Cargo's encoding, in which a folder may have spaces in its name.
fn rustflags(remappings: &[Remapping]) -> String {
    let link = ["-Clink-arg=--btf".to_owned()];
    let remap = remappings.iter().map(|Remapping { from, to }| {
        let from = from.display();
        format!("--remap-path-prefix={from}={to}")
    });
    link.into_iter().chain(remap).collect::<Vec<_>>().join("\u{1f}")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keep_the_order_and_the_spaces_of_folders() {
        let flags = rustflags(&[
            Remapping { from: "/a folder".into(), to: ".".into() },
            Remapping { from: "/a folder/registry".into(), to: "crates".into() },
        ]);
        assert_eq!(
            flags.split('\u{1f}').collect::<Vec<_>>(),
            [
                "-Clink-arg=--btf",
                "--remap-path-prefix=/a folder=.",
                "--remap-path-prefix=/a folder/registry=crates"
            ]
        );
    }
}
