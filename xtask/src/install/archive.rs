//! Debian's archive: found on the mirror that this machine's apt uses, and checked by apt against the archive's signatures.

use crate::run;
use anyhow::{Context as _, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The archive's keys, for a source that does not say which it is signed by.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// A folder of what was fetched, by the rules of the XDG base directories.
pub(super) fn cache(name: &str) -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("fdtrace").join(name))
}

/// Debian's main archive.
#[derive(Debug, PartialEq)]
pub(super) struct Archive {
    uri: String,
    /// The suites that the machine itself uses.
    suites: Vec<String>,
    /// The keyring, when the source names one.
    signed_by: Option<PathBuf>,
}

impl Archive {
    /// At the mirror that is given, or at the one that this machine's apt uses, by what apt says of its own configuration.
    pub(super) fn of_this_machine(mirror: Option<&str>) -> Result<Self> {
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
pub(super) struct Apt {
    folder: tempfile::TempDir,
}

impl Apt {
    /// A suite of the archive that this machine uses.
    ///
    /// A suite that is newer than the machine may be signed by keys that are newer than its keyring. The package with
    /// the newer keyring then comes from the machine's own suite, which the keyring it has can check.
    pub(super) fn for_suite(machine: &Archive, suite: &str) -> Result<Self> {
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

    /// Names of packages that begin so, a line each.
    pub(super) fn package_names(&self, prefix: &str) -> Result<String> {
        run::output(self.command("apt-cache").args(["pkgnames", prefix]))
    }

    /// Unpacks packages and all that they depend on into a folder; nothing of them is run.
    pub(super) fn unpack_all(&self, packages: &[&str], root: &Path) -> Result<()> {
        let mut install = self.command("apt-get");
        install.args(["install", "--download-only", "--yes", "--quiet", "--no-install-recommends"]);
        run::succeed(install.args(packages))?;
        for entry in fs::read_dir(self.folder.path().join("cache/archives"))? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                run::succeed(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root))?;
            }
        }
        Ok(())
    }

    pub(super) fn download(&self, package: &str) -> Result<PathBuf> {
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
pub(super) fn unpack(package: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<PathBuf> {
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
}
