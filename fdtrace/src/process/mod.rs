//! What `/proc` says of a process. A process that is gone, or that hides, leaves gaps, never errors.

pub mod around;
mod maps;

pub use maps::{Mapping, mappings, vdso};

use std::{fs, ops::Range, os::unix::fs::MetadataExt as _, path::PathBuf};

use crate::stream::Identity;

/// Reads what a process is.
#[must_use]
pub fn identity(pid: u32) -> Identity {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_else(|_| PathBuf::new());
    Identity {
        comm: String::from_utf8_lossy(&read("comm")).trim_end_matches('\n').to_owned(),
        exe: exe.to_string_lossy().into_owned(),
        cgroup: cgroup(&String::from_utf8_lossy(&read("cgroup"))),
    }
}

/// The path of what a descriptor points to. The file itself is not asked for anything.
#[must_use]
pub fn descriptor_path(pid: u32, fd: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()
}

/// The path of what is mapped there, likewise.
#[must_use]
pub fn mapping_path(pid: u32, start: u64, end: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/map_files/{start:x}-{end:x}")).ok()
}

/// How near a process is to the end of its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Entries in its table.
    pub used: u64,
    /// The soft limit (RLIMIT_NOFILE): the next one fails with EMFILE.
    pub limit: u64,
}

impl Descriptors {
    /// Reads them; `None` when the process is gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}/fd");
        // From Linux 6.2 on the folder's size is the number of entries.
        let used = match fs::metadata(&folder).ok()?.size() {
            0 => fs::read_dir(&folder).ok()?.count() as u64,
            size => size,
        };
        Some(Self { used, limit: soft_limit(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)? })
    }
}

/// Where a process has executable code, sorted; `None` when it is gone.
#[must_use]
pub fn code(pid: u32) -> Option<Vec<Range<u64>>> {
    Some(executable(&fs::read_to_string(format!("/proc/{pid}/maps")).ok()?))
}

/// `55d0-55e0 r-xp ...`
fn executable(maps: &str) -> Vec<Range<u64>> {
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        (rest.as_bytes().get(2) == Some(&b'x')).then(|| Some(hex(start)?..hex(end)?)).flatten()
    };
    maps.lines().filter_map(range).collect()
}

/// Whether there is such a process.
#[must_use]
pub fn exists(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

/// The descendants of some processes, those included.
#[must_use]
pub fn with_descendants(roots: &[u32]) -> Vec<u32> {
    let mut found = roots.to_vec();
    let parents: Vec<(u32, u32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid);
        let new: Vec<u32> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        next += 1;
    }
    found
}

/// When a process was started, in ns since the machine was, to the next hundredth of a second below.
pub(crate) fn started(pid: u32) -> Option<u64> {
    // SAFETY: takes a number and returns one.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|ticks| *ticks > 0)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The 22nd field; the name is the second, and the third comes behind its parenthesis.
    let started: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(started.saturating_mul(1_000_000_000 / ticks))
}

/// The limits of a process's descriptors, soft and hard; `u64::MAX` for none.
pub(crate) fn descriptor_limits(pid: u32) -> Option<(u64, u64)> {
    limits(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

/// All processes.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    parent_in_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in parentheses may hold anything, parentheses too; the last one ends it.
fn parent_in_stat(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The paths of all cgroups of a process; of a machine that mixes both versions, those of the first one too.
#[must_use]
pub fn cgroups(pid: u32) -> Vec<String> {
    let lines = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    String::from_utf8_lossy(&lines).lines().filter_map(cgroup_path).collect()
}

/// `0::/path`, `3:cpu,cpuacct:/path`
fn cgroup_path(line: &str) -> Option<String> {
    line.splitn(3, ':').nth(2).map(str::to_owned)
}

fn cgroup(lines: &str) -> String {
    lines
        .lines()
        .find(|line| line.starts_with("0::"))
        .or_else(|| lines.lines().next())
        .and_then(cgroup_path)
        .unwrap_or_default()
}

fn soft_limit(text: &str) -> Option<u64> {
    limits(text).map(|(soft, _)| soft)
}

fn limits(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = |word: &str| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    let mut words = line.split_ascii_whitespace();
    Some((limit(words.next()?)?, limit(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_name_and_a_limit() {
        let pid = std::process::id();
        assert!(!identity(pid).comm.is_empty() && !identity(pid).exe.is_empty());
        let descriptors = Descriptors::of(pid).expect("its own descriptors");
        assert!(descriptors.used >= 3 && descriptors.limit >= descriptors.used);
        assert!(exists(pid));
        assert!(with_descendants(&[1]).contains(&1));
    }

    #[test]
    fn a_process_that_is_gone_is_no_error() {
        assert_eq!(identity(u32::MAX >> 1), Identity::default());
        assert_eq!(Descriptors::of(u32::MAX >> 1), None);
    }

    #[test]
    fn hostile_names_do_not_shift_fields() {
        assert_eq!(parent_in_stat("7 (a) S 99 (b) S 3 7 7"), Some(3));
        assert_eq!(parent_in_stat("7 (a"), None);
    }

    #[test]
    fn code_is_what_may_be_executed() {
        let maps =
            "5000-6000 r-xp 0 08:01 1 /bin/x\n6000-7000 rw-p 0 08:01 1 /bin/x\nbad\n7000-8000 r-xp 0 0:0 0\n";
        assert_eq!(executable(maps), [0x5000..0x6000, 0x7000..0x8000]);
    }

    #[test]
    fn parses_limits_and_cgroups() {
        assert_eq!(
            soft_limit("Max processes 1 2 x\nMax open files            1024    4096   files\n"),
            Some(1024)
        );
        assert_eq!(soft_limit("Max open files            unlimited    4096   files\n"), Some(u64::MAX));
        assert_eq!(cgroup("3:cpu:/a\n0::/system.slice/x.service\n"), "/system.slice/x.service");
        assert_eq!(cgroup("3:cpu:/a:b\n"), "/a:b");
    }
}
