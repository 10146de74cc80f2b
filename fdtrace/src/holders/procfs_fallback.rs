//! The walk that `/proc` allows, for kernels without iterators and users without rights.
//!
//! No address tells handles apart here. A socket is one handle by its inode; every other descriptor counts as one, so
//! what dup and fork share counts twice. Of mappings, each attach of a segment and each shared anonymous one is a handle,
//! and so is each file that a process maps, however often.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

use fdtrace_common::{
    holder_walk::{Task, VM_EXEC},
    wire::COMM_LEN,
};

use super::{Descriptor, Handle, HolderSnapshot, Mapping, Owner, segments};
use crate::{
    kinds::{DELETED, is_segment, is_shared_memory, of_link},
    model::Kind,
    process::{
        self,
        procfs::{Text, lines},
    },
};

/// Reads it. What cannot be read is left out; nothing of a file behind a link is asked for.
pub(super) fn read() -> HolderSnapshot {
    let mut snapshot = HolderSnapshot { by_proc: true, ..HolderSnapshot::default() };
    let mut sockets = HashMap::new();
    for pid in process::all() {
        // There are no addresses, so the process id stands for its table and its memory.
        let Some(task) = task(pid) else { continue };
        snapshot.tasks.push(task);
        // A folder that cannot be read is found by whoever compares.
        if let Ok(links) = links(pid) {
            descriptors(&mut snapshot, pid, links, &mut sockets);
            mappings(&mut snapshot, pid);
        }
    }
    snapshot.segments = segments::parse(0, &Text::or_empty("/proc/sysvipc/shm"));
    segments::without_memory(&mut snapshot);
    snapshot
}

fn task(pid: u32) -> Option<Task> {
    let mut comm = [0; COMM_LEN];
    let name = Text::of(pid, "comm").ok()?;
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    let length = name.len().min(COMM_LEN - 1);
    comm[..length].copy_from_slice(&name[..length]);
    let (soft_limit, hard_limit) = process::descriptor_limits(pid).unwrap_or_default();
    let parent = process::parent(pid).unwrap_or(0);
    let (files, mm) = (u64::from(pid), u64::from(pid));
    let started = process::started(pid).unwrap_or(0);
    Some(Task { files, mm, pid, tgid: pid, parent, started, soft_limit, hard_limit, comm, ..Task::default() })
}

/// Every descriptor and what its link says: `socket:[7]`, `pipe:[9]`, `anon_inode:[eventfd]`, a path.
fn links(pid: u32) -> io::Result<Vec<(u32, Vec<u8>)>> {
    let folder = format!("/proc/{pid}/fd");
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(link) = fs::read_link(Path::new(&folder).join(&name)) {
            all.push((fd, std::os::unix::ffi::OsStringExt::into_vec(link.into_os_string())));
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn descriptors(
    snapshot: &mut HolderSnapshot,
    pid: u32,
    links: Vec<(u32, Vec<u8>)>,
    sockets: &mut HashMap<Vec<u8>, u32>,
) {
    let start = place(snapshot.descriptors.len());
    for (fd, link) in links {
        let handle = match sockets.get(&link) {
            Some(known) => *known,
            None => {
                let handle = by_link(snapshot, &link);
                if link.starts_with(b"socket:") {
                    sockets.insert(link, handle);
                }
                handle
            }
        };
        snapshot.descriptors.push(Descriptor { handle, fd, close_on_exec: None });
    }
    let part = start..place(snapshot.descriptors.len());
    snapshot.tables.push(Owner { address: pid.into(), tgid: pid, thread: pid, part });
}

fn by_link(snapshot: &mut HolderSnapshot, link: &[u8]) -> u32 {
    let number = |prefix: &[u8]| {
        let digits = link.strip_prefix(prefix)?.strip_suffix(b"]")?;
        std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    };
    let kind = of_link(link);
    let (ino, links, name) = match kind {
        Kind::Socket => (number(b"socket:[").unwrap_or(0), 1, link),
        Kind::Fifo => (number(b"pipe:[").unwrap_or(0), 1, link),
        Kind::Anon => (0, 1, &link[b"anon_inode:".len()..]),
        Kind::Memfd => (0, 0, &link[1..]),
        Kind::Shm => (0, 0, link),
        Kind::Char => (0, 1, link),
        _ => (0, u32::from(!link.ends_with(DELETED)), link),
    };
    let place = place(snapshot.handles.len());
    let handle = Handle::by_link(kind, ino, links, name, &mut snapshot.names);
    snapshot.handles.push(handle);
    place
}

/// What a process maps and holds by no descriptor, as far as the path tells.
fn mappings(snapshot: &mut HolderSnapshot, pid: u32) {
    let text = Text::of(pid, "maps").unwrap_or_default();
    let start = place(snapshot.mappings.len());
    let open = open_names(snapshot, pid);
    let mut mapped: HashMap<Vec<u8>, u32> = HashMap::new();
    for line in lines(&text) {
        let Some((from, end, path)) = file_mapping(line) else { continue };
        if open.contains(kept(path)) {
            continue;
        }
        // Each of these is a handle, whatever it is called.
        let known = mapped.get(path).filter(|_| !is_segment(path) && !is_shared_memory(path));
        let handle = known.copied().unwrap_or_else(|| by_link(snapshot, path));
        mapped.insert(path.to_vec(), handle);
        if is_segment(path) {
            snapshot.handles[handle as usize].marks |= super::mark::ATTACH;
        }
        snapshot.map(Mapping { handle, start: from, end }, if is_code(line) { VM_EXEC } else { 0 });
    }
    let part = start..place(snapshot.mappings.len());
    snapshot.spaces.push(Owner { address: pid.into(), tgid: pid, thread: pid, part });
}

fn open_names(snapshot: &HolderSnapshot, pid: u32) -> HashSet<Vec<u8>> {
    let table = snapshot.tables.last().filter(|table| table.tgid == pid);
    let descriptors = table.map_or(&[][..], |table| table.of(&snapshot.descriptors));
    let name =
        |descriptor: &Descriptor| snapshot.handles[descriptor.handle as usize].raw_name(&snapshot.names);
    descriptors.iter().map(|descriptor| name(descriptor).to_vec()).collect()
}

/// What is kept of a path as a name.
fn kept(path: &[u8]) -> &[u8] {
    let path = if path.starts_with(b"/memfd:") { &path[1..] } else { path };
    &path[path.len().saturating_sub(usize::from(u8::MAX))..]
}

/// `start-end perms offset dev inode   /path`; a name in brackets is that of other memory, and may have slashes.
fn file_mapping(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    const FIELDS: usize = 5;
    let mut rest = line;
    for _ in 0..FIELDS {
        let end = rest.iter().position(|byte| *byte == b' ')?;
        rest = rest[end..].trim_ascii_start();
    }
    let text = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let (from, end) = text.split_once('-')?;
    let path = Some(rest).filter(|path| path.starts_with(b"/"))?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(end, 16).ok()?, path))
}

/// Takes in a line as a link, and as a line of `maps`.
#[cfg(any(test, fuzzing))]
pub(super) fn one(snapshot: &mut HolderSnapshot, line: &[u8]) {
    let handle = by_link(snapshot, line);
    snapshot.descriptors.push(Descriptor { handle, fd: 0, close_on_exec: None });
    if let Some((start, end, path)) = file_mapping(line) {
        let handle = by_link(snapshot, path);
        snapshot.map(Mapping { handle, start, end }, if is_code(line) { VM_EXEC } else { 0 });
    }
}

/// Whether a line is of code.
fn is_code(line: &[u8]) -> bool {
    line.split(|byte| *byte == b' ').nth(1).is_some_and(|permissions| permissions.contains(&b'x'))
}

fn place(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_what_it_opens() {
        let file = fs::File::open("/proc/self/status").expect("a file");
        let snapshot = read();
        let table =
            snapshot.tables.iter().find(|table| table.tgid == std::process::id()).expect("its own table");
        let fd = u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).expect("a descriptor");
        let found = table.of(&snapshot.descriptors).iter().find(|descriptor| descriptor.fd == fd);
        let handle = found.expect("its descriptor").handle;
        assert!(snapshot.name(handle).ends_with("/status"), "{}", snapshot.name(handle));
    }

    #[test]
    fn lines_of_maps() {
        let line = b"7f00-7f10 rw-s 00000000 00:01 32769                      /SYSV00000000 (deleted)";
        assert_eq!(file_mapping(line), Some((0x7f00, 0x7f10, &b"/SYSV00000000 (deleted)"[..])));
        assert_eq!(file_mapping(b"7f00-7f10 rw-s 00000000 00:00 0 [heap]"), None);
        assert_eq!(
            file_mapping(b"7f00-7f10 rw-p 00000000 00:00 0                          [anon:a/b c]"),
            None
        );
        assert_eq!(file_mapping(b"7f00-7f10 rw-p 00000000 00:00 0 "), None);
        assert_eq!(
            file_mapping(b"7f00-7f10 r--p 0 08:01 5 /a  b ").map(|found| found.2),
            Some(&b"/a  b "[..])
        );
        for wrong in ["", "7f00", "7f00-", "7f00-7f10 r 0 0 0", "-7f10 r 0 0 0 /a", "7f00-zz r 0 0 0 /a"] {
            assert_eq!(file_mapping(wrong.as_bytes()), None, "{wrong}");
        }
        assert!(is_code(b"7f00-7f10 r-xp 0 0 0 /a") && !is_code(b"7f00-7f10 r--p 0 0 0 /x"));
    }

    #[test]
    fn what_links_say() {
        let kind = |link: &str| {
            let mut snapshot = HolderSnapshot::default();
            let place = by_link(&mut snapshot, link.as_bytes());
            (
                snapshot.handles[place as usize].kind,
                snapshot.handles[place as usize].ino,
                snapshot.name(place),
            )
        };
        assert_eq!(kind("socket:[77]"), (Kind::Socket, 77, "socket:[77]".to_owned()));
        assert_eq!(kind("pipe:[x]"), (Kind::Fifo, 0, "pipe:[x]".to_owned()));
        assert_eq!(kind("anon_inode:[eventfd]"), (Kind::Anon, 0, "[eventfd]".to_owned()));
        assert_eq!(kind("/memfd:a (deleted)"), (Kind::Memfd, 0, "memfd:a (deleted)".to_owned()));
        let kinds = [
            "/dev/null",
            "/dev/shm/x",
            "/SYSV00000000",
            "/SYSV00000000 (deleted)",
            "/dev/zero (deleted)",
            "",
        ];
        let expected = [Kind::Char, Kind::Regular, Kind::Regular, Kind::Shm, Kind::Shm, Kind::Regular];
        assert_eq!(kinds.map(|link| kind(link).0), expected);
    }

    #[test]
    fn what_is_open_is_not_mapped_again() {
        let long = format!("/{}", "n".repeat(300));
        for path in ["/memfd:a (deleted)", long.as_str(), "/a"] {
            let mut snapshot = HolderSnapshot::default();
            let mut sockets = HashMap::new();
            descriptors(&mut snapshot, 7, vec![(3, path.as_bytes().to_vec())], &mut sockets);
            assert!(open_names(&snapshot, 7).contains(kept(path.as_bytes())), "{path}");
        }
    }

    #[test]
    fn a_socket_that_processes_share_is_one() {
        let (mut snapshot, mut sockets) = (HolderSnapshot::default(), HashMap::new());
        for pid in [7, 8] {
            let links = vec![(3, b"socket:[5]".to_vec()), (4, b"/a".to_vec())];
            descriptors(&mut snapshot, pid, links, &mut sockets);
        }
        assert_eq!((snapshot.handles.len(), snapshot.descriptors.len(), snapshot.tables.len()), (3, 4, 2));
    }
}
