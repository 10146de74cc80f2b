//! Where interpreters are: those of this machine, and those of other releases, each release in a root folder of its own
//! (`INTERPRETERS_DIR`, which `cargo xtask interpreters` fills).

use anyhow::{Context as _, Result};
use fdtrace_tests::harness::{Scratch, say};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fmt, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

/// What runs a program in another root.
pub(super) const IN_ROOT: &str = "unshare";

/// Where what a script is given is mounted in another root.
const MOUNTED: &str = "/mnt";
/// Mounts the first argument in the root that is the second, and what Java finds itself by, and runs the rest there, in a mount namespace of its own.
const MOVE_IN: &str = r#"from=$1 root=$2; shift 2; mount --bind "$from" "$root/mnt" && mount -t proc proc "$root/proc" && exec chroot "$root" "$@""#;

/// An interpreter, and the root that it has its files in.
pub(super) struct Interpreter {
    root: Option<PathBuf>,
    program: PathBuf,
}

impl Interpreter {
    /// All of a language: these, and those of other releases that have such a name.
    pub(super) fn all(here: BTreeSet<PathBuf>, names: impl Iterator<Item = String> + Clone) -> Vec<Self> {
        let here = here.into_iter().map(|program| Self { root: None, program });
        let roots = env::var_os("INTERPRETERS_DIR").and_then(|roots| fs::read_dir(roots).ok());
        if roots.is_none() {
            say("no interpreters of other releases: INTERPRETERS_DIR");
        }
        let roots = roots.into_iter().flatten().flatten().map(|entry| entry.path());
        let others = roots.filter(|root| root.extension().is_none()).flat_map(move |root| {
            let programs = names.clone().map(|name| Path::new("/usr/bin").join(name));
            let is_there =
                |program: &PathBuf| root.join(program.strip_prefix("/").unwrap_or(program)).is_file();
            let programs: Vec<_> = programs.filter(is_there).collect();
            programs.into_iter().map(move |program| Self { root: Some(root.clone()), program })
        });
        here.chain(others).collect()
    }

    /// One of this machine.
    pub(super) fn here(program: &Path) -> Self {
        Self { root: None, program: program.to_owned() }
    }

    /// Runs a script of the folder, with the folder `files` beside it as its argument.
    pub(super) fn run(&self, scratch: &Scratch, script: &str) -> Result<Command> {
        self.run_with(scratch, |folder| vec![folder.join(script).into(), folder.join("files").into()])
    }

    /// What it says that its version is: the first three numbers with points between them.
    pub(super) fn version(&self, scratch: &Scratch) -> Result<String> {
        let said = self.run_with(scratch, |_| vec!["--version".into()])?.output()?;
        let said =
            String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        let mut words = said.split(|other: char| !other.is_ascii_digit() && other != '.');
        let is_version =
            |word: &&str| word.split('.').count() >= 3 && word.split('.').all(|part| !part.is_empty());
        Ok(words.find(is_version).unwrap_or("?").to_owned())
    }

    /// Runs it with these arguments, where the folder is as it is there.
    pub(super) fn run_with(
        &self,
        scratch: &Scratch,
        arguments: impl Fn(&Path) -> Vec<OsString>,
    ) -> Result<Command> {
        let Some(root) = &self.root else {
            let mut command = Command::new(&self.program);
            command.args(arguments(scratch.path()));
            return Ok(command);
        };
        fs::create_dir_all(root.join("mnt")).with_context(|| root.display().to_string())?;
        let mut command = Command::new(IN_ROOT);
        command.args(["--mount", "sh", "-c", MOVE_IN, "sh"]).arg(scratch.path()).arg(root);
        command.arg(&self.program).args(arguments(Path::new(MOUNTED)));
        Ok(command)
    }
}

impl fmt::Display for Interpreter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.root.as_ref().and_then(|root| root.file_name()).unwrap_or_default();
        write!(out, "{}{}", root.display(), self.program.display())
    }
}

/// `php8.2`, for a range of minor numbers.
pub(super) fn numbered(
    name: &'static str,
    major: u32,
    minors: RangeInclusive<u32>,
) -> impl Iterator<Item = String> + Clone {
    minors.map(move |minor| format!("{name}{major}.{minor}"))
}

/// CPython 3, as pyenv and distributions install it; says so where there is none.
pub(super) fn pythons() -> BTreeSet<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let versions = versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    let packaged = numbered("python", 3, 6..=20).map(|name| Path::new("/usr/bin").join(name));
    let found: BTreeSet<PathBuf> =
        versions.chain(packaged).filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say("no CPython 3 here");
    }
    found
}

/// The newest of them.
pub(super) fn python() -> Option<PathBuf> {
    let minor = |path: &PathBuf| -> u32 {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.rsplit('.').next().and_then(|minor| minor.parse().ok()).unwrap_or(0)
    };
    pythons().into_iter().max_by_key(minor)
}

/// PHP as distributions install it; says so where there is none.
pub(super) fn phps() -> BTreeSet<PathBuf> {
    let names = numbered("php", 7, 0..=9).chain(numbered("php", 8, 0..=9));
    installed("PHP", names.chain(["php".to_owned()]))
}

/// Ruby, in the same way.
pub(super) fn rubies() -> BTreeSet<PathBuf> {
    let names = numbered("ruby", 2, 6..=7).chain(numbered("ruby", 3, 0..=9));
    installed("Ruby", names.chain(["ruby".to_owned()]))
}

/// Node.js from 14 on, as distributions install it, and in folders of `NODES_DIR`; says so where there is none.
pub(super) fn nodes() -> BTreeSet<PathBuf> {
    let more = env::var_os("NODES_DIR").and_then(|folder| fs::read_dir(folder).ok());
    let more = more.into_iter().flatten().flatten().map(|entry| entry.path().join("node"));
    let more = more.filter_map(|path| path.canonicalize().ok());
    installed("Node.js", ["node", "nodejs"].map(str::to_owned).into_iter()).into_iter().chain(more).collect()
}

/// Programs of these names, wherever programs are looked for.
fn installed(language: &str, names: impl Iterator<Item = String>) -> BTreeSet<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let all = names.flat_map(|name| folders.iter().map(move |folder| folder.join(&name)));
    let found: BTreeSet<PathBuf> = all.filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say(&format!("no {language} here"));
    }
    found
}

/// Java as distributions install it; says so where there is none.
pub(super) fn javas() -> BTreeSet<PathBuf> {
    let homes =
        fs::read_dir(JAVA_HOMES).into_iter().flatten().flatten().map(|home| home.path().join("bin/java"));
    let found: BTreeSet<PathBuf> = homes.filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say("no Java here");
    }
    found
}

/// Where they are in Debian.
const JAVA_HOMES: &str = "/usr/lib/jvm";

/// Its paths there.
pub(super) fn java_names() -> impl Iterator<Item = String> + Clone {
    (11..=30).map(|version| format!("{JAVA_HOMES}/java-{version}-openjdk-amd64/bin/java"))
}

/// Perl as distributions and perlbrew install it; says so where there is none.
pub(super) fn perls() -> BTreeSet<PathBuf> {
    let root = env::var_os("PERLBREW_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&env::var_os("HOME")?).join("perl5/perlbrew")));
    let brewed = root.and_then(|root| fs::read_dir(root.join("perls")).ok());
    let brewed = brewed.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/perl"));
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let all = folders.iter().map(|folder| folder.join("perl")).chain(brewed);
    let found: BTreeSet<PathBuf> = all.filter_map(|path| path.canonicalize().ok()).collect();
    if found.is_empty() {
        say("no Perl here");
    }
    found
}
