//! Handles that only another handle leads to: what BPF maps and links keep, and unix sockets of which nothing in sight
//! but the other end knows: of a system call in progress, of the kernel, of a process that cannot be looked into.

use std::{collections::HashSet, io};

use super::{
    Handle, HolderSnapshot, Link, Linked, Memory,
    memory::{half, is_address},
};
use crate::{
    kernel::{BpfLayout, SocketLayout},
    model::Kind,
};

const AF_UNIX: u8 = 1;
/// The names that `bpf_map_new_fd` and `bpf_link_prime` (kernel/bpf/syscall.c) give.
const MAP: &[u8] = b"bpf-map";
const LINK: &[u8] = b"bpf_link";
/// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`, `BPF_LINK_TYPE_PERF_EVENT` (include/uapi/linux/bpf.h)
const PERF_EVENT_ARRAY: u32 = 4;
const PERF_EVENT_LINK: u32 = 7;
/// There is one event for each CPU, as a rule.
const MAX_EVENTS: u32 = 1 << 16;

/// Finds the files behind the other ends of unix sockets.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn peers(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: SocketLayout,
) -> io::Result<()> {
    let is_unix = |handle: &&Handle| handle.family == AF_UNIX;
    let known: HashSet<u64> = snapshot.handles.iter().filter(is_unix).map(|handle| handle.private).collect();
    let ends: Vec<(u32, u64)> = (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| is_unix(handle) && is_address(handle.parent) && !known.contains(&handle.parent))
        .map(|(place, handle)| (place, handle.parent))
        .collect();
    let sockets = follow(memory, ends, layout.of_sock)?;
    let files = follow(memory, sockets, layout.file)?;
    keep(snapshot, memory, &files, Link::Peer)
}

/// Finds the perf events that BPF maps and links keep.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn bpf(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &BpfLayout,
) -> io::Result<()> {
    if let Some((kind, file)) = layout.link {
        let events = of_type(memory, named(snapshot, LINK), kind, PERF_EVENT_LINK)?;
        let files = follow(memory, events, file)?;
        keep(snapshot, memory, &files, Link::Bpf)?;
    }
    let maps = of_type(memory, named(snapshot, MAP), layout.map_type, PERF_EVENT_ARRAY)?;
    let entries = entries(memory, &maps, layout)?;
    let files = follow(memory, entries, layout.entry_file)?;
    keep(snapshot, memory, &files, Link::Bpf)
}

/// Handles of anonymous inodes with this name, and their private data. Each object once: a map may have many handles.
fn named(snapshot: &HolderSnapshot, name: &[u8]) -> Vec<(u32, u64)> {
    let mut known = HashSet::new();
    (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.kind == Kind::Anon && handle.raw_name(&snapshot.names) == name)
        .filter(|(_, handle)| is_address(handle.private) && known.insert(handle.private))
        .map(|(place, handle)| (place, handle.private))
        .collect()
}

/// Those objects whose type is this.
fn of_type(
    memory: &mut impl Memory,
    objects: Vec<(u32, u64)>,
    offset: u64,
    wanted: u32,
) -> io::Result<Vec<(u32, u64)>> {
    let types = halves(memory, &objects, offset)?;
    Ok(objects
        .into_iter()
        .zip(types)
        .filter(|(_, found)| *found == wanted)
        .map(|(object, _)| object)
        .collect())
}

/// The entries of arrays.
fn entries(memory: &mut impl Memory, maps: &[(u32, u64)], layout: &BpfLayout) -> io::Result<Vec<(u32, u64)>> {
    let lengths = halves(memory, maps, layout.map_entries)?;
    let slots: Vec<(u32, u64)> = maps
        .iter()
        .zip(lengths)
        .flat_map(|((place, map), length)| {
            let first = map.wrapping_add(layout.array);
            (0..length.min(MAX_EVENTS)).map(move |index| (*place, first.wrapping_add(u64::from(index) * 8)))
        })
        .collect();
    follow(memory, slots, 0)
}

/// What lies so far behind each address, where it is an address itself.
fn follow(memory: &mut impl Memory, from: Vec<(u32, u64)>, offset: u64) -> io::Result<Vec<(u32, u64)>> {
    let addresses: Vec<u64> = from.iter().map(|(_, address)| address.wrapping_add(offset)).collect();
    let found = memory.words(&addresses)?;
    let pairs = from.into_iter().zip(found).map(|((place, _), found)| (place, found));
    Ok(pairs.filter(|(_, found)| is_address(*found)).collect())
}

/// A number of 32 bits so far behind each address; 0 where it cannot be read.
fn halves(memory: &mut impl Memory, from: &[(u32, u64)], offset: u64) -> io::Result<Vec<u32>> {
    let wanted: Vec<(u64, usize)> =
        from.iter().map(|(_, address)| (address.wrapping_add(offset), size_of::<u32>())).collect();
    let found = memory.read(&wanted)?;
    Ok(found.iter().map(|bytes| bytes.as_deref().map_or(0, |bytes| half(bytes, 0))).collect())
}

fn keep(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    files: &[(u32, u64)],
    link: Link,
) -> io::Result<()> {
    snapshot.learn(memory, files.iter().map(|(_, file)| *file))?;
    for (through, file) in files {
        if let Some(handle) = snapshot.place(*file) {
            snapshot.linked.push(Linked { handle, through: *through, link });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, unix_socket};

    const SOCKET: SocketLayout = SocketLayout { of_sock: 0x20, file: 0x10 };
    const BPF: BpfLayout =
        BpfLayout { map_type: 0x18, map_entries: 0x24, array: 0x80, entry_file: 8, link: Some((0x10, 0x58)) };
    const OBJECT: u64 = KERNEL + 0x10_0000;
    const FILE: u64 = KERNEL + 0x20_0000;

    fn snapshot(files: &[File]) -> HolderSnapshot {
        let mut records = Records::default();
        files.iter().for_each(|file| _ = records.file(file));
        records.snapshot()
    }

    fn found(snapshot: &HolderSnapshot) -> Vec<(u64, u64, Link)> {
        let address = |place: u32| snapshot.handles[place as usize].address;
        snapshot
            .linked
            .iter()
            .map(|linked| (address(linked.handle), address(linked.through), linked.link))
            .collect()
    }

    #[test]
    fn a_socket_that_only_its_peer_leads_to() {
        let sock = |number: u64| OBJECT + number * 0x1000;
        let end = |number: u64, peer: u64| File {
            parent: peer,
            ..unix_socket(KERNEL + number * 256, sock(number))
        };
        let mut memory = Pages::default();
        memory.file(unix_socket(FILE, sock(9)));
        memory.word(sock(9) + 0x20, OBJECT + 0x100).word(OBJECT + 0x110, FILE);
        // One that waits to be accepted has no file, and one that is closed has none any more.
        memory.word(sock(8) + 0x20, 0);
        let mut snapshot =
            snapshot(&[end(1, sock(2)), end(2, sock(1)), end(3, sock(9)), end(4, sock(8)), end(5, 0)]);
        peers(&mut snapshot, &mut memory, SOCKET).expect("memory");
        assert_eq!(found(&snapshot), [(FILE, KERNEL + 3 * 256, Link::Peer)]);
        peers(&mut snapshot, &mut memory, SOCKET).expect("memory");
        assert_eq!(snapshot.linked.len(), 1, "it is known now");
    }

    fn object(number: u64, name: &[u8]) -> File {
        let bare = file(KERNEL + number * 256, name);
        File { private: OBJECT + number * 0x1000, magic: 0x0904_1934, inode_mode: 0o600, ..bare }
    }

    #[test]
    fn perf_events_of_maps_and_links() {
        let mut memory = Pages::default();
        let event = |number: u64| file(FILE + number * 256, b"[perf_event]");
        let events: [u64; 3] = [1, 2, 3].map(|number| memory.file(event(number)));
        let objects = [object(1, MAP), object(2, MAP), object(3, LINK), object(4, LINK)];
        let [array, hash, link, other] = objects.map(|object| object.private);
        let entries = [OBJECT + 0x9000, OBJECT + 0x9100];
        memory.word(array + 0x18, 4).word(array + 0x20, 3 << 32);
        memory.word(array + 0x80, entries[0]).word(array + 0x90, entries[1]);
        memory.word(entries[0] + 8, events[0]).word(entries[1] + 8, events[1]);
        memory.word(hash + 0x18, 1).word(hash + 0x20, 3 << 32).word(hash + 0x80, entries[0]);
        memory.word(link + 0x10, 7).word(link + 0x58, events[2]);
        memory.word(other + 0x10, 2).word(other + 0x58, events[0]);
        let mut snapshot = snapshot(&objects);
        bpf(&mut snapshot, &mut memory, &BPF).expect("memory");
        let [array, _, link, _] = objects.map(|object| object.handle);
        let expected = [(events[2], link), (events[0], array), (events[1], array)];
        assert_eq!(found(&snapshot), expected.map(|(event, through)| (event, through, Link::Bpf)));
    }
}
