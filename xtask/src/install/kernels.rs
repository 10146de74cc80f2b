//! Debian's kernels for virtual machines: found on the mirror that this machine's apt uses, checked by apt against the
//! archive's signatures, and cached outside the checkout.

use crate::run;
use anyhow::{Context as _, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The archive's keys, for a source that does not say which it is signed by.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

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
    let cache = cache()?;
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

/// The folder of the kernels, by the rules of the XDG base directories.
fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("fdtrace/kernels"))
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
        if let Some(package) = newest_package(&apt.package_names()?, series.prefix)
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

/// Debian's main archive.
#[derive(Debug, PartialEq)]
struct Archive {
    uri: String,
    /// The suites that the machine itself uses.
    suites: Vec<String>,
    /// The keyring, when the source names one.
    signed_by: Option<PathBuf>,
}

impl Archive {
    /// At the mirror that is given, or at the one that this machine's apt uses, by what apt says of its own configuration.
    fn of_this_machine(mirror: Option<&str>) -> Result<Self> {
        if let Some(uri) = mirror {
            return Ok(Self { uri: uri.into(), suites: vec![], signed_by: None });
        }
        const FORMAT: &str = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(SIGNED_BY)";
        let mut apt = Command::new("apt-get");
        let targets = run::output(apt.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]))?;
        Self::of(&targets)
            .context("apt on this machine has no source for Debian's main archive: give one by --mirror URI")
    }

    /// The first source of Debian's main archive. Security updates and other projects have suites of the same names; what
    /// sets a mirror of Debian apart is the end of its address.
    fn of(targets: &str) -> Option<Self> {
        let fields = targets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let main: Vec<_> = fields
            .filter(|fields| fields.get(2) == Some(&"main"))
            .filter(|fields| fields[0].trim_end_matches('/').ends_with("/debian"))
            .collect();
        let first = main.first()?;
        let of_it = main.iter().filter(|fields| fields[0] == first[0]);
        Some(Self {
            uri: first[0].to_owned(),
            suites: of_it.map(|fields| fields[1].to_owned()).collect(),
            // It may also be fingerprints or a whole key, of no use for another suite, or nothing.
            signed_by: first.get(3).filter(|path| path.starts_with('/')).map(PathBuf::from),
        })
    }
}

/// apt with one suite, and with folders of its own: it neither sees nor changes what the machine has.
struct Apt {
    folder: tempfile::TempDir,
}

impl Apt {
    /// A suite of the archive that this machine uses.
    ///
    /// A suite that is newer than the machine may be signed by keys that are newer than its keyring. The package with
    /// the newer keyring then comes from the machine's own suite, which the keyring it has can check.
    fn for_suite(machine: &Archive, suite: &str) -> Result<Self> {
        let keyring = machine.signed_by.as_deref().unwrap_or(Path::new(KEYRING));
        let suites = [suite.to_owned()];
        Self::open(&machine.uri, &suites, keyring).or_else(|first| {
            if machine.suites.is_empty() {
                return Err(first);
            }
            println!("{suite} cannot be read with the keyring of this machine; trying a newer keyring");
            let own = Self::open(&machine.uri, &machine.suites, keyring)?;
            let newer = unpack(&own.download(KEYRING_PACKAGE)?, &|path| {
                path.ends_with(KEYRING.trim_start_matches('/'))
            })?;
            Self::open(&machine.uri, &suites, &newer)
        })
    }

    fn open(uri: &str, suites: &[String], keyring: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        for name in ["lists/partial", "cache/archives/partial", "download"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        fs::write(folder.path().join("status"), "")?;
        fs::copy(keyring, folder.path().join("signed-by.gpg"))
            .with_context(|| format!("cannot read the keyring {}", keyring.display()))?;
        let apt = Self { folder };
        fs::write(apt.folder.path().join("fdtrace.sources"), apt.sources(uri, suites))?;
        run::succeed(apt.command("apt-get").args(["update", "--quiet", "--error-on=any"]))?;
        Ok(apt)
    }

    fn sources(&self, uri: &str, suites: &[String]) -> String {
        let keyring = self.folder.path().join("signed-by.gpg");
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {}\nComponents: main\nArchitectures: amd64\nSigned-By: {}\n",
            suites.join(" "),
            keyring.display()
        )
    }

    fn package_names(&self) -> Result<String> {
        run::output(self.command("apt-cache").args(["pkgnames", "linux-"]))
    }

    fn download(&self, package: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join("download");
        run::succeed(self.command("apt-get").args(["download", "--quiet", package]).current_dir(&folder))?;
        let entry = fs::read_dir(&folder)?.next().context("apt-get download wrote nothing")?;
        Ok(entry?.path())
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.path().display();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        for setting in [
            format!("Dir::Etc::SourceList={folder}/fdtrace.sources"),
            "Dir::Etc::SourceParts=-".into(),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::State::Status={folder}/status"),
            format!("Dir::Cache={folder}/cache"),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            // apt's own user cannot look into a private folder.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ] {
            command.arg("-o").arg(setting);
        }
        command
    }
}

/// Unpacks a Debian package into a folder beside it, and finds a file in it.
fn unpack(package: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<PathBuf> {
    let folder = package.with_extension("unpacked");
    run::succeed(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&folder))?;
    find(&folder, wanted)?.with_context(|| format!("{} lacks the file", package.display()))
}

fn find(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let found = match entry.file_type()? {
            kind if kind.is_dir() => find(&path, wanted)?,
            kind => (kind.is_file() && wanted(&path)).then_some(path),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
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
    fn the_main_archive_is_found_among_sources() {
        let targets = "https://project.example/apt/ bookworm main $(SIGNED_BY)\n\
                       http://mirror.example/debian-security/ bookworm-security main /keys/debian.gpg\n\
                       http://mirror.example/debian/ bookworm contrib /keys/debian.gpg\n\
                       http://mirror.example/debian/ bookworm main /keys/debian.gpg\n\
                       http://mirror.example/debian/ bookworm-updates main /keys/debian.gpg\n";
        let archive = Archive::of(targets).expect("a source");
        assert_eq!(archive.uri, "http://mirror.example/debian/");
        assert_eq!(archive.suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(archive.signed_by, Some("/keys/debian.gpg".into()));
        let keyless =
            Archive::of("http://mirror.example/debian trixie main $(SIGNED_BY)\n").expect("a source");
        assert_eq!(keyless.signed_by, None);
        assert_eq!(Archive::of("http://mirror.example/ubuntu noble main $(SIGNED_BY)\n"), None);
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_the_series() {
        let error = resolve("4.19", None, false).expect_err("no such series");
        assert!(error.to_string().contains("5.10, 6.1, 6.12, 7.x"), "{error}");
    }
}
