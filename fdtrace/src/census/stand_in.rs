//! The census that `/proc` allows, for kernels without iterators and users without rights.
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
    census::{Task, VM_EXEC},
    wire::COMM_LEN,
};

use super::{Census, Descriptor, Handle, Mapping, Owner, segments};
use crate::{kinds::Kind, process};

/// Reads it. What cannot be read is left out; nothing of a file behind a link is asked for.
pub(super) fn read() -> Census {
    let mut census = Census { by_proc: true, ..Census::default() };
    let mut sockets = HashMap::new();
    for pid in process::all() {
        // There are no addresses, so the process id stands for its table and its memory.
        let Some(task) = task(pid) else { continue };
        census.tasks.push(task);
        // A folder that cannot be read is found by whoever compares.
        if let Ok(links) = links(pid) {
            descriptors(&mut census, pid, links, &mut sockets);
            mappings(&mut census, pid);
        }
    }
    let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    census.segments = segments::parse(0, &text);
    segments::without_memory(&mut census);
    census
}

fn task(pid: u32) -> Option<Task> {
    let mut comm = [0; COMM_LEN];
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
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
    census: &mut Census,
    pid: u32,
    links: Vec<(u32, Vec<u8>)>,
    sockets: &mut HashMap<Vec<u8>, u32>,
) {
    let start = place(census.descriptors.len());
    for (fd, link) in links {
        let handle = match sockets.get(&link) {
            Some(known) => *known,
            None => {
                let handle = by_link(census, &link);
                if link.starts_with(b"socket:") {
                    sockets.insert(link, handle);
                }
                handle
            }
        };
        census.descriptors.push(Descriptor { handle, fd, close_on_exec: None });
    }
    let part = start..place(census.descriptors.len());
    census.tables.push(Owner { address: pid.into(), tgid: pid, part });
}

fn by_link(census: &mut Census, link: &[u8]) -> u32 {
    const DELETED: &[u8] = b" (deleted)";
    let number = |prefix: &[u8]| {
        let digits = link.strip_prefix(prefix)?.strip_suffix(b"]")?;
        std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    };
    let (kind, ino, links, name) = match link {
        _ if link.starts_with(b"socket:[") => (Kind::Socket, number(b"socket:[").unwrap_or(0), 1, link),
        _ if link.starts_with(b"pipe:[") => (Kind::Fifo, number(b"pipe:[").unwrap_or(0), 1, link),
        _ if link.starts_with(b"anon_inode:") => (Kind::Anon, 0, 1, &link[b"anon_inode:".len()..]),
        _ if link.starts_with(b"/memfd:") => (Kind::Memfd, 0, 0, &link[1..]),
        _ if link.starts_with(b"/SYSV") || link.starts_with(b"/dev/zero") && link.ends_with(DELETED) => {
            (Kind::Shm, 0, 0, link)
        }
        _ if link.starts_with(b"/dev/") => (Kind::Char, 0, 1, link),
        _ => (Kind::Regular, 0, u32::from(!link.ends_with(DELETED)), link),
    };
    let place = place(census.handles.len());
    let handle = Handle::by_link(kind, ino, links, name, &mut census.names);
    census.handles.push(handle);
    place
}

/// What a process maps and holds by no descriptor, as far as the path tells.
fn mappings(census: &mut Census, pid: u32) {
    let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let start = place(census.mappings.len());
    let open: HashSet<Vec<u8>> = open_names(census, pid);
    let mut mapped: HashMap<Vec<u8>, u32> = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some((from, end, path)) = file_mapping(line) else { continue };
        let is_own = path.starts_with(b"/SYSV") || path.starts_with(b"/dev/zero");
        if open.contains(path) {
            continue;
        }
        let known = mapped.get(path).copied().filter(|_| !is_own);
        let handle = known.unwrap_or_else(|| by_link(census, path));
        mapped.insert(path.to_vec(), handle);
        if path.starts_with(b"/SYSV") {
            census.handles[handle as usize].marks |= super::mark::ATTACH;
        }
        census.map(Mapping { handle, start: from, end }, if is_code(line) { VM_EXEC } else { 0 });
    }
    let part = start..place(census.mappings.len());
    census.spaces.push(Owner { address: pid.into(), tgid: pid, part });
}

fn open_names(census: &Census, pid: u32) -> HashSet<Vec<u8>> {
    let table = census.tables.last().filter(|table| table.tgid == pid);
    let descriptors = table.map_or(&[][..], |table| table.of(&census.descriptors));
    let name = |descriptor: &Descriptor| census.handles[descriptor.handle as usize].raw_name(&census.names);
    descriptors.iter().map(|descriptor| name(descriptor).to_vec()).collect()
}

/// `start-end perms offset dev inode   /path`
fn file_mapping(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let text = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let (from, end) = text.split_once('-')?;
    let path = line.iter().position(|byte| *byte == b'/').map(|at| &line[at..])?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(end, 16).ok()?, path))
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
        let census = read();
        let table =
            census.tables.iter().find(|table| table.tgid == std::process::id()).expect("its own table");
        let fd = u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).expect("a descriptor");
        let found = table.of(&census.descriptors).iter().find(|descriptor| descriptor.fd == fd);
        let handle = found.expect("its descriptor").handle;
        assert!(census.name(handle).ends_with("/status"), "{}", census.name(handle));
    }

    #[test]
    fn lines_of_maps() {
        let line = b"7f00-7f10 rw-s 00000000 00:01 32769                      /SYSV00000000 (deleted)";
        assert_eq!(file_mapping(line), Some((0x7f00, 0x7f10, &b"/SYSV00000000 (deleted)"[..])));
        assert_eq!(file_mapping(b"7f00-7f10 rw-s 00000000 00:00 0 [heap]"), None);
        assert_eq!(file_mapping(b""), None);
    }
}
