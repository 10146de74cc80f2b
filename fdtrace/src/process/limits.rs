//! Limits of the machine that are no limits of descriptors, and how much of each is used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::procfs::{Text, fields, lines, number, split};

/// What is used of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What the limit is called.
    pub name: &'static str,
    /// The user that it is for, if it is for one.
    pub user: Option<u32>,
    /// How much is used.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// The tasks of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path below the hierarchy.
    pub path: String,
    /// Tasks in it, those of its children included.
    pub tasks: u64,
    /// `pids.max`
    pub limit: u64,
    folder: PathBuf,
}

/// Where a hierarchy that counts tasks may be mounted: of its own in version 1, with all others in version 2.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
/// The most cgroups that are looked at, and how deep.
const MAX_CGROUPS: usize = 4096;
const DEEPEST: usize = 16;

/// A setting of the kernel; `None` where it does not have it.
#[must_use]
pub fn setting(name: &str) -> Option<u64> {
    number(&Text::read(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?)
}

/// What the kernel itself says how much is used of.
#[must_use]
pub fn of_system() -> Vec<Used> {
    let used = |name, used: &str, limit: &str| {
        Some(Used { name, user: None, used: setting(used)?, limit: setting(limit)? })
    };
    [
        used("kernel.pty.max", "kernel.pty.nr", "kernel.pty.max"),
        used("fs.aio-max-nr", "fs.aio-nr", "fs.aio-max-nr"),
    ]
    .into_iter()
    .flatten()
    .chain(keys(&Text::or_empty("/proc/key-users")))
    .collect()
}

/// `    0:     9 8/8 3/1000000 40/25000000`: the user, and what its keys and their bytes are of how many.
fn keys(text: &[u8]) -> Vec<Used> {
    let line = |line: &[u8]| {
        let (user, rest) = split(line, b':')?;
        let user: u32 = number(user)?;
        let mut parts = fields(rest).skip(2);
        let mut used = |name| {
            let (used, limit) = split(parts.next()?, b'/')?;
            Some(Used { name, user: Some(user), used: number(used)?, limit: number(limit)? })
        };
        Some([used("kernel.keys.maxkeys")?, used("kernel.keys.maxbytes")?])
    };
    lines(text).filter_map(line).flatten().collect()
}

/// Cgroups that may have only so many tasks.
#[must_use]
pub fn cgroups() -> Vec<Cgroup> {
    let Some(root) = HIERARCHIES.map(Path::new).into_iter().find(|root| root.is_dir()) else {
        return Vec::new();
    };
    below(root).iter().filter_map(|folder| cgroup(root, folder)).collect()
}

fn cgroup(root: &Path, folder: &Path) -> Option<Cgroup> {
    let of = |file: &str| number(&Text::read(folder.join(file)).ok()?);
    // One without a limit says `max`.
    let (limit, tasks) = (of("pids.max")?, of("pids.current")?);
    let path = Path::new("/").join(folder.strip_prefix(root).ok()?).to_string_lossy().into_owned();
    Some(Cgroup { path, tasks, limit, folder: folder.to_owned() })
}

/// A folder and what is below it, as far as is looked.
fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut level = 0..1;
    for _ in 0..DEEPEST {
        for at in level.clone() {
            let inside = fs::read_dir(&found[at]).into_iter().flatten().flatten();
            let folders = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            found.extend(folders.map(|entry| entry.path()));
            if found.len() >= MAX_CGROUPS {
                return found;
            }
        }
        level = level.end..found.len();
    }
    found
}

impl Cgroup {
    /// The processes in it and below it.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let of = |folder: &PathBuf| -> Vec<u32> {
            let text = Text::or_empty(folder.join("cgroup.procs"));
            lines(&text).filter_map(number).collect()
        };
        below(&self.folder).iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_users() {
        let found =
            keys(b"    0:     9 8/8 3/1000000 40/25000000\n 1000:    2 2/2 190/200 70/20000\nbad\n 7: 1\n");
        let used = |name, user, used, limit| Used { name, user: Some(user), used, limit };
        let expected = [
            used("kernel.keys.maxkeys", 0, 3, 1_000_000),
            used("kernel.keys.maxbytes", 0, 40, 25_000_000),
            used("kernel.keys.maxkeys", 1000, 190, 200),
            used("kernel.keys.maxbytes", 1000, 70, 20_000),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn settings() {
        assert!(setting("fs.file-max").is_some_and(|most| most > 0));
        assert_eq!(setting("no.such.setting"), None);
    }

    #[test]
    fn folders_below_a_folder() {
        let found = below(Path::new("/proc/self/task"));
        assert!(found.len() > 1 && found[0] == Path::new("/proc/self/task"));
        assert_eq!(below(Path::new("/no/such/folder")).len(), 1);
    }
}
