//! What `/proc` says of a process. A process that is gone, or that hides, leaves gaps, never errors.

pub mod around;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
mod maps;
pub(crate) mod procfs;
pub mod speed;
mod standing;
pub(crate) mod usage;
pub mod waits;

pub use maps::{Mapping, mappings, vdso};
pub use standing::Standing;

use std::{
    ffi::OsStr,
    fs,
    ops::Range,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use fdtrace_common::wire::COMM_LEN;

use crate::model::Identity;
use procfs::{Text, fields, hexadecimal, lines, number, split};

/// Reads what a process is.
#[must_use]
pub fn identity(pid: u32) -> Identity {
    let read = |name: &str| Text::of(pid, name).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_else(|_| PathBuf::new());
    Identity {
        comm: name(&read("comm")),
        exe: exe.to_string_lossy().into_owned(),
        cgroup: cgroup(&read("cgroup")),
    }
}

/// A name as a process can have it: cut where the kernel cuts it, also inside a character.
#[must_use]
pub fn kept_name(name: &OsStr) -> String {
    let bytes = name.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(COMM_LEN - 1)]).into_owned()
}

/// What `/proc/PID/comm` has, without the line's end that the kernel adds; the name itself may have others.
fn name(comm: &[u8]) -> String {
    String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(comm)).into_owned()
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
    /// How many there are; `None` when the process is gone, or may not be looked at.
    #[must_use]
    pub fn used_by(pid: u32) -> Option<u64> {
        let folder = format!("/proc/{pid}/fd");
        // From Linux 6.2 on the folder's size is the number of entries.
        match fs::metadata(&folder).ok()?.size() {
            0 => Some(fs::read_dir(&folder).ok()?.count() as u64),
            size => Some(size),
        }
    }

    /// Reads them; `None` when the process is gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { used: Self::used_by(pid)?, limit: descriptor_limits(pid)?.0 })
    }
}

/// Where a process has executable code, sorted; `None` when it is gone.
#[must_use]
pub fn code(pid: u32) -> Option<Vec<Range<u64>>> {
    Some(executable(&Text::of(pid, "maps").ok()?))
}

/// `55d0-55e0 r-xp ...`
fn executable(maps: &[u8]) -> Vec<Range<u64>> {
    let range = |line| {
        let (range, rest) = split(line, b' ')?;
        let (start, end) = split(range, b'-')?;
        (rest.get(2) == Some(&b'x')).then(|| Some(hexadecimal(start)?..hexadecimal(end)?)).flatten()
    };
    lines(maps).filter_map(range).collect()
}

/// The user that a process runs as.
pub(crate) fn owner(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
}

/// Whether a process has this name, which the kernel cuts to 15 bytes.
pub(crate) fn is_named(pid: u32, name: &OsStr) -> bool {
    let found = Text::of(pid, "comm").unwrap_or_default();
    let wanted = name.as_encoded_bytes();
    found.strip_suffix(b"\n").unwrap_or(&found) == &wanted[..wanted.len().min(COMM_LEN - 1)]
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
    // The 22nd field.
    let started: u64 = number(Text::of(pid, "stat").ok()?.behind_the_name()?.nth(19)?)?;
    Some(started.saturating_mul(1_000_000_000 / ticks))
}

/// The limits of a process's descriptors, soft and hard; `u64::MAX` for none.
pub(crate) fn descriptor_limits(pid: u32) -> Option<(u64, u64)> {
    limits(&Text::of(pid, "limits").ok()?)
}

/// All processes.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    number(Text::of(pid, "stat").ok()?.behind_the_name()?.nth(1)?)
}

/// The paths of all cgroups of a process; of a machine that mixes both versions, those of the first one too.
#[must_use]
pub fn cgroups(pid: u32) -> Vec<String> {
    lines(&Text::of(pid, "cgroup").unwrap_or_default()).filter_map(cgroup_path).collect()
}

/// `0::/path`, `3:cpu,cpuacct:/path`
fn cgroup_path(line: &[u8]) -> Option<String> {
    let path = line.splitn(3, |byte| *byte == b':').nth(2)?;
    Some(String::from_utf8_lossy(path).into_owned())
}

fn cgroup(text: &[u8]) -> String {
    let unified = lines(text).find(|line| line.starts_with(b"0::"));
    unified.or_else(|| lines(text).next()).and_then(cgroup_path).unwrap_or_default()
}

fn limits(text: &Text) -> Option<(u64, u64)> {
    let limit = |word: &[u8]| match word {
        b"unlimited" => Some(u64::MAX),
        digits => number(digits),
    };
    let mut words = fields(text.line("Max open files")?);
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
    fn a_child_of_any_name_is_a_descendant() {
        for name in [&b"\xd0\xbe\xd0\xb1\xd1"[..], b") S 1 (", b"\xff\n7 (x) S 1"] {
            let mut child = named(name);
            let (own, pid) = (std::process::id(), child.id());
            let found = with_descendants(&[own]);
            let (parent, started, comm) = (parent(pid), started(pid), identity(pid).comm);
            child.kill().and_then(|()| child.wait()).expect("an end");
            assert!(found.contains(&pid), "{name:?}");
            assert_eq!((parent, comm), (Some(own), String::from_utf8_lossy(name).into_owned()));
            assert!(started.is_some_and(|started| started > 0), "{name:?}");
        }
    }

    /// A child of this name that waits.
    fn named(name: &[u8]) -> std::process::Child {
        use std::os::unix::process::CommandExt as _;
        let folder = std::env::temp_dir().join(format!("fdtrace-names-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(OsStr::from_bytes(name));
        std::os::unix::fs::symlink("/bin/sleep", &path).expect("a link");
        let child = std::process::Command::new(&path).arg0("sleep").arg("600").spawn().expect("a child");
        fs::remove_dir_all(folder).expect("its end");
        child
    }

    #[test]
    fn a_name_is_cut_as_the_kernel_cuts_it() {
        assert_eq!(kept_name(OsStr::new("обработчик")), "обработ\u{fffd}");
        assert_eq!(kept_name(OsStr::new("short")), "short");
    }

    #[test]
    fn code_is_what_may_be_executed() {
        let maps =
            b"5000-6000 r-xp 0 08:01 1 /\xff\n6000-7000 rw-p 0 08:01 1 /bin/x\nbad\n7000-8000 r-xp 0 0:0 0\n";
        assert_eq!(executable(maps), [0x5000..0x6000, 0x7000..0x8000]);
    }

    #[test]
    fn parses_limits_and_cgroups() {
        let limits = |text: &[u8]| limits(&Text::from(text));
        let text = b"Max processes 1 2 x\nMax open files            1024    4096   files\n";
        assert_eq!(limits(text), Some((1024, 4096)));
        assert_eq!(limits(b"Max open files            unlimited    4096   files\n"), Some((u64::MAX, 4096)));
        assert_eq!(cgroup(b"3:cpu:/a\n0::/system.slice/x.service\n"), "/system.slice/x.service");
        assert_eq!(cgroup(b"3:cpu:/a:b\n"), "/a:b");
        assert_eq!(cgroup(b"0::/\xff\n"), "/\u{fffd}");
    }
}
