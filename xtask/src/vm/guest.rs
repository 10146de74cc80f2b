//! The static programs that run in a guest.

use super::boot::GuestFile;
use crate::run;
use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Artifact, Message};
use object::{Object as _, ObjectSection as _};
use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Static programs need nothing else in the initramfs. With glibc, because it is there wherever Rust is.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const RUSTFLAGS: &str = "-Ctarget-feature=+crt-static";
/// In this order, busybox is looked for on this machine.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// PID 1 of the guest.
pub(super) fn init() -> Result<PathBuf> {
    let artifacts = build("build", &["--package", "fdtrace-tests", "--bin", "vm-init"])?;
    executable(&artifacts, "vm-init")
}

/// The programs of the test suite: the program itself, what it is tried on, and the tests.
pub(super) fn suite() -> Result<Vec<GuestFile>> {
    let mut files = Vec::new();
    let artifacts = build(
        "build",
        &["--package", "fdtrace", "--package", "fdtrace-tests", "--bin", "fdtrace", "--bin", "workload"],
    )?;
    for name in ["fdtrace", "workload"] {
        files.push(in_bin(&executable(&artifacts, name)?, name));
    }
    let artifacts = build("test", &["--no-run", "--package", "fdtrace-tests", "--test", "e2e"])?;
    files.push(in_bin(&executable(&artifacts, "e2e")?, "e2e"));
    Ok(files)
}

/// Busybox, if this machine has it: for looking around by hand only.
pub(super) fn busybox() -> Option<GuestFile> {
    let path = BUSYBOX.iter().map(Path::new).find(|path| is_static(path).unwrap_or(false))?;
    Some(in_bin(path, "busybox"))
}

/// A program of this machine, under its own name in the guest's /bin.
pub(super) fn from_host(path: &Path) -> Result<GuestFile> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    if !is_static(path)? {
        bail!("{} is not a static program, and the guest has no libraries", path.display());
    }
    Ok(in_bin(path, &name.to_string_lossy()))
}

fn in_bin(host: &Path, name: &str) -> GuestFile {
    GuestFile { host: host.to_owned(), guest: format!("/bin/{name}") }
}

/// Whether the guest can use a file as it is: a script, data, or a program that asks for no dynamic linker.
fn is_static(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Ok(program) = object::File::parse(bytes.as_slice()) else { return Ok(true) };
    let wants_linker = program.sections().any(|section| section.name() == Ok(".interp"));
    Ok(!wants_linker)
}

/// Runs Cargo, and gives what it built.
fn build(verb: &str, what: &[&str]) -> Result<Vec<Artifact>> {
    let checkout = run::checkout()?;
    let target_dir = run::metadata(&checkout, TARGET)?.target_directory.join("vm");
    let mut cargo = Command::new(run::cargo());
    cargo
        .current_dir(&checkout)
        .args([verb, "--release", "--locked", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(target_dir)
        .args(what)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot run Cargo")?;
    let messages = BufReader::new(child.stdout.take().context("Cargo has no standard output")?);
    let artifacts = Message::parse_stream(messages).filter_map(|message| match message {
        Ok(Message::CompilerArtifact(artifact)) => Some(artifact),
        _ => None,
    });
    let artifacts = artifacts.collect();
    if !child.wait()?.success() {
        bail!("cannot build {} for the guest", what.join(" "));
    }
    Ok(artifacts)
}

fn executable(artifacts: &[Artifact], name: &str) -> Result<PathBuf> {
    let artifact =
        artifacts.iter().find(|artifact| artifact.target.name == name && artifact.executable.is_some());
    let path = artifact.and_then(|artifact| artifact.executable.clone());
    Ok(path.with_context(|| format!("Cargo built no program {name}"))?.into_std_path_buf())
}
