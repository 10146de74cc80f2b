//! Running other programs, with errors that name the command.

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The root of the checkout that this xtask was built from.
///
/// Taken at run time from Cargo where possible: a binary that was built in one folder and is run in another (a cached
/// target directory, a copy of the checkout) must work on the folder it is run for.
pub(crate) fn checkout() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().context("xtask is not inside a workspace")?;
    root.canonicalize().with_context(|| format!("cannot find the checkout at {}", root.display()))
}

/// The Cargo that runs us, so that a `cargo +TOOLCHAIN xtask` stays with its toolchain.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What Cargo knows about the workspace, for one target only: nobody needs the crates of other platforms on disk.
pub(crate) fn metadata(checkout: &Path, target: &str) -> Result<Metadata> {
    MetadataCommand::new()
        .cargo_path(cargo())
        .current_dir(checkout)
        .other_options(vec!["--locked".into(), "--filter-platform".into(), target.into()])
        .exec()
        .context("cargo metadata failed")
}

/// The target that everything but BPF programs is built for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A place in the target directory.
pub(crate) fn target(name: &str) -> Result<PathBuf> {
    Ok(metadata(&checkout()?, TARGET)?.target_directory.join(name).into_std_path_buf())
}

/// Runs a command to its end; an exit status other than zero is an error.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs a command and gives what it wrote to its standard output; an exit status other than zero is an error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", describe(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} did not write UTF-8", describe(command)))
}

/// A program that does not outlive its owner.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program that may be absent says on its standard output; `None` when it is absent or fails.
pub(crate) fn probe(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Program and arguments, without the environment that `Debug` would print.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
