//! Interpreters of Debian's other releases, each release in a root folder of its own: more versions than this machine has, and
//! programs whose files are not where the tracer's are.

use super::archive::{Apt, Archive, cache};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// In the cache.
const NAME: &str = "interpreters";

/// Each with the Java that is wanted of it, and Node.js where that is new enough.
const RELEASES: [(&str, &[&str]); 3] = [
    ("bullseye", &["openjdk-11-jre-headless"]),
    ("trixie", &["openjdk-21-jre-headless", "nodejs"]),
    ("forky", &["openjdk-25-jre-headless", "nodejs"]),
];
/// What is wanted of each; the first has the folders that later releases make links, the second is what PHP runs commands with.
const PACKAGES: [&str; 6] = ["base-files", "dash", "python3", "perl", "ruby", "php-cli"];

/// The folder of all roots; what is missing of them is fetched from the mirror of this machine's apt configuration.
pub(crate) fn roots() -> Result<PathBuf> {
    let roots = cache(NAME)?;
    for (release, more) in RELEASES {
        fetch(release, more, &roots).with_context(|| format!("interpreters of {release}"))?;
    }
    Ok(roots)
}

/// The folder, as far as it was fetched.
pub(crate) fn fetched() -> Result<Option<PathBuf>> {
    Ok(Some(cache(NAME)?).filter(|roots| roots.is_dir()))
}

fn fetch(release: &str, more: &[&str], roots: &Path) -> Result<()> {
    let root = roots.join(release);
    if root.exists() {
        return Ok(());
    }
    println!("fetching interpreters of {release}");
    // In one step, so that an interruption leaves no half of it.
    let partial = roots.join(format!("{release}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let apt = Apt::for_suite(&Archive::of_this_machine(None)?, release)?;
    let packages: Vec<&str> = PACKAGES.into_iter().chain(more.iter().copied()).collect();
    apt.unpack_all(&packages, &partial)?;
    fs::rename(partial, root).context("cannot write to the cache")
}
