//! The programs that run in a guest: static ones, and those that programs of all kinds are tested with.

use super::{boot::GuestFile, libraries};
use crate::{
    build::{Build, Linkage, Suite},
    checks,
    programs::Programs,
};
use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// In this order, busybox is looked for on this machine.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// Where the guest has the programs of the call site tests.
pub(super) const CALLSITES: &str = "/callsites";
/// And those of the corpus.
pub(super) const CORPUS: &str = "/corpus";

/// PID 1 of the guest.
pub(super) fn init() -> Result<PathBuf> {
    Build::run(Linkage::Static, &["build", "--package", "fdtrace-tests", "--bin", "vm-init"])?
        .program("vm-init")
}

/// PID 1 of the guest, and the programs of the test suite: the program itself, what it is tried on, and the tests.
pub(super) fn suite() -> Result<(PathBuf, Vec<GuestFile>)> {
    let built = Build::everything()?;
    let Suite { fdtrace, workload, e2e } = Suite::of(&built)?;
    let files = vec![in_bin(&fdtrace, "fdtrace"), in_bin(&workload, "workload"), in_bin(&e2e, "e2e")];
    Ok((built.program("vm-init")?, files))
}

/// The programs of the call site tests and those of the corpus that can run there, with the libraries of this machine that
/// they need. The guest has no compilers.
pub(super) fn programs(Programs { callsites, corpus }: &Programs) -> Result<Vec<GuestFile>> {
    let mut found = Vec::new();
    for host in files_below(callsites)? {
        found.push((format!("{CALLSITES}/{}", host.strip_prefix(callsites)?.display()), host));
    }
    for folder in checks::for_guests(corpus)? {
        for host in files_below(&folder)? {
            found.push((format!("{CORPUS}/{}", host.strip_prefix(corpus)?.display()), host));
        }
    }
    let mut needed = BTreeSet::new();
    for (_, host) in &found {
        needed.extend(libraries::of(host)?);
    }
    let file = |(guest, host)| GuestFile { host, guest };
    let library = |host: PathBuf| GuestFile { guest: host.display().to_string(), host };
    Ok(found.into_iter().map(file).chain(needed.into_iter().map(library)).collect())
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
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
