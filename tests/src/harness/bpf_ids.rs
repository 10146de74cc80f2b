//! What a process has in the kernel's lists of BPF programs, maps and links.

use anyhow::{Context as _, Result};
use std::{collections::BTreeSet, fs, io};

/// The three kinds of objects, as `/proc/PID/fdinfo` and the `bpf` system call name them.
const KINDS: [(&str, libc::c_long); 3] = [("prog_id", 11), ("map_id", 12), ("link_id", 31)];

/// BPF objects by kind and id.
pub type Objects = BTreeSet<(&'static str, u32)>;

/// `bpf_attr` of the `BPF_*_GET_NEXT_ID` commands.
#[repr(C)]
struct NextId {
    start: u32,
    next: u32,
    open_flags: u32,
}

/// The objects that a process holds descriptors of, or links to.
///
/// # Errors
/// When its descriptors cannot be read.
pub fn held_by(pid: u32) -> Result<Objects> {
    let mut objects = Objects::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the process is gone")? {
        // A descriptor that is closed meanwhile holds nothing.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        for (kind, _) in KINDS {
            objects.extend(number(&info, kind).map(|id| (kind, id)));
        }
    }
    Ok(objects)
}

fn number(info: &str, key: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
}

/// All objects of the running kernel.
///
/// # Errors
/// When the kernel does not say, for lack of CAP_SYS_ADMIN for instance.
pub fn all() -> Result<Objects> {
    let mut objects = Objects::new();
    for (kind, command) in KINDS {
        let mut id = 0;
        while let Some(next) = next_id(command, id)? {
            objects.insert((kind, next));
            id = next;
        }
    }
    Ok(objects)
}

fn next_id(command: libc::c_long, start: u32) -> Result<Option<u32>> {
    let mut attributes = NextId { start, next: 0, open_flags: 0 };
    let size = size_of::<NextId>();
    // SAFETY: these commands read and write one `NextId`, whose size is passed and which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size) };
    let error = io::Error::last_os_error();
    match (result, error.raw_os_error()) {
        (0, _) => Ok(Some(attributes.next)),
        (_, Some(libc::ENOENT)) => Ok(None),
        _ => Err(error).context("bpf"),
    }
}
