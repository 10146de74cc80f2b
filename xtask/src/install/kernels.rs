//! Debian's kernels for virtual machines, cached outside the checkout.

use super::archive::{Apt, Archive, cache, unpack};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A line of kernels, and where Debian has it.
struct Series {
    name: &'static str,
    /// The newest package of all of them is taken.
    suites: &'static [&'static str],
    prefix: &'static str,
}

/// One long-term kernel for each stable release that still matters, and the newest there is.
const SERIES: [Series; 4] = [
    Series { name: "5.10", suites: &["bullseye"], prefix: "linux-image-5.10." },
    Series { name: "6.1", suites: &["bookworm"], prefix: "linux-image-6.1." },
    Series { name: "6.12", suites: &["trixie"], prefix: "linux-image-6.12." },
    // linux-image-7.* only depends on the package that has the kernel.
    Series { name: "7.x", suites: &["forky", "trixie-backports"], prefix: "linux-binary-7." },
];

/// The kernel for virtual machines has their drivers built in, and is small.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kernel {
    /// The series, or the file's name.
    pub(crate) name: String,
    pub(crate) image: PathBuf,
}

/// The kernels that were asked for: names of series, or files. All series when nothing was asked for.
///
/// They come from the mirror of this machine's apt configuration, if no other is named; `update` looks for newer packages
/// also where the cache has one.
pub(crate) fn select(wanted: &[String], mirror: Option<&str>, update: bool) -> Result<Vec<Kernel>> {
    let all: Vec<_> = SERIES.iter().map(|series| series.name.to_owned()).collect();
    let wanted = if wanted.is_empty() { &all } else { wanted };
    wanted.iter().map(|name| resolve(name, mirror, update)).collect()
}

fn resolve(name: &str, mirror: Option<&str>, update: bool) -> Result<Kernel> {
    let Some(series) = SERIES.iter().find(|series| series.name == name) else {
        return file(name);
    };
    let cache = cache("kernels")?;
    let image = cache.join(series.name).join("vmlinuz");
    if update || !image.exists() {
        fetch(series, &cache, mirror).with_context(|| format!("cannot get a kernel of the series {name}"))?;
    }
    Ok(Kernel { name: name.to_owned(), image })
}

fn file(name: &str) -> Result<Kernel> {
    let image = PathBuf::from(name);
    if !image.is_file() {
        let names = SERIES.map(|series| series.name).join(", ");
        bail!("{name} is neither a file nor one of the series {names}");
    }
    let name = image.file_name().unwrap_or(image.as_os_str()).to_string_lossy().into_owned();
    Ok(Kernel { name, image })
}

/// Puts the newest kernel of a series into the cache.
fn fetch(series: &Series, cache: &Path, mirror: Option<&str>) -> Result<()> {
    let machine = Archive::of_this_machine(mirror)?;
    let mut newest: Option<(String, Apt)> = None;
    for suite in series.suites {
        let apt = match Apt::for_suite(&machine, suite) {
            Ok(apt) => apt,
            // One of several suites may not be there yet, or not any more.
            Err(error) => {
                eprintln!("{suite}: {error:#}");
                continue;
            }
        };
        if let Some(package) = newest_package(&apt.package_names("linux-")?, series.prefix)
            && newest.as_ref().is_none_or(|(other, _)| version(other) < version(&package))
        {
            newest = Some((package, apt));
        }
    }
    let Some((package, apt)) = newest else {
        bail!("no package of it in {}", series.suites.join(", "));
    };
    println!("fetching {package}");
    let image = unpack(&apt.download(&package)?, &|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    })?;
    let folder = cache.join(series.name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package"), format!("{package}\n"))?;
    // In one step, so that an interruption leaves no half kernel.
    let partial = folder.join("vmlinuz.partial");
    fs::copy(image, &partial)?;
    fs::rename(partial, folder.join("vmlinuz")).context("cannot write to the cache")
}

/// The newest kernel among names of packages.
fn newest_package(names: &str, prefix: &str) -> Option<String> {
    names
        .lines()
        .filter(|name| name.ends_with(FLAVOUR) && name.starts_with(prefix))
        .max_by_key(|name| version(name))
        .map(str::to_owned)
}

/// The numbers in a package's name, in their order: 6.12.9 is older than 6.12.43.
fn version(package: &str) -> Vec<u64> {
    let before_flavour = package.strip_suffix(FLAVOUR).unwrap_or(package);
    before_flavour.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_chosen_by_its_numbers() {
        let names = "linux-image-6.12.9+deb13-cloud-amd64\nlinux-image-6.12.43+deb13-cloud-amd64\n\
                     linux-image-6.12.43+deb13-amd64\nlinux-image-6.12.99+deb13-cloud-amd64-unsigned\n\
                     linux-image-cloud-amd64\nlinux-image-6.1.0-40-cloud-amd64\n";
        let newest = |prefix| newest_package(names, prefix);
        assert_eq!(newest("linux-image-6.12.").as_deref(), Some("linux-image-6.12.43+deb13-cloud-amd64"));
        assert_eq!(newest("linux-image-6.1.").as_deref(), Some("linux-image-6.1.0-40-cloud-amd64"));
        assert_eq!(newest("linux-image-5.10."), None);
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_the_series() {
        let error = resolve("4.19", None, false).expect_err("no such series");
        assert!(error.to_string().contains("5.10, 6.1, 6.12, 7.x"), "{error}");
    }
}
