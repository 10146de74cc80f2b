//! What a fuzzer, and the tests, throw bytes at: each takes any bytes, ends, and does not fail.

use std::{collections::HashSet, io};

use fdtrace_common::holder_walk::File;

use super::{
    HolderSnapshot, Memory, backing, decode::Decoder, directories, ends, linked, namespaces, pidfds,
    procfs_fallback, queues, rings, segments, trees,
};
use crate::{
    explain::{Around, Explanation, Focus, Paths, explain},
    kernel::{
        BpfLayout, NamespaceLayout, PathLayout, PeerLayout, PidLayout, QueueLayout, RequestLayout, RingTable,
        SegmentLayout, SocketLayout, TreeLayout,
    },
};

/// Records of the iterators. However they are cut, the answer is the same; the first byte says how.
///
/// # Panics
/// When it is not.
pub fn records(bytes: &[u8]) -> Explanation {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let whole = snapshot(std::iter::once(rest));
    let parts = snapshot(rest.chunks(usize::from(*first) + 1));
    assert_eq!(format!("{whole:?}"), format!("{parts:?}"), "cut by {first}");
    answer(&whole)
}

fn snapshot<'a>(portions: impl Iterator<Item = &'a [u8]>) -> HolderSnapshot {
    let (mut decoder, mut snapshot) = (Decoder::new(), HolderSnapshot::default());
    portions.for_each(|portion| decoder.take(portion, &mut snapshot));
    decoder.begin();
    snapshot
}

fn answer(snapshot: &HolderSnapshot) -> Explanation {
    let focus = Focus { groups: 100, peers: true, ..Focus::default() };
    let found = explain(snapshot, &Around::default(), &focus, &mut Nowhere);
    let sum: u64 = found.by_holder.iter().map(|(_, count)| count).sum();
    assert!(sum == found.total && found.accounted <= found.total && found.hidden <= found.total);
    found
}

/// Texts of `/proc`: a line of `maps`, of `sysvipc/shm`, what a link of a descriptor says.
pub fn texts(bytes: &[u8]) -> Explanation {
    let mut snapshot = HolderSnapshot { by_proc: true, ..HolderSnapshot::default() };
    for line in bytes.split(|byte| *byte == b'\n') {
        procfs_fallback::one(&mut snapshot, line);
    }
    snapshot.segments = segments::parse(7, bytes);
    segments::without_memory(&mut snapshot);
    answer(&snapshot)
}

/// Memory made of a few bytes: what is at an address depends on the address and on them, and leads to other addresses.
pub fn memory(bytes: &[u8]) -> Explanation {
    let mut snapshot = HolderSnapshot::default();
    let (mut decoder, mut memory) = (Decoder::new(), Wild { bytes, reads: 0 });
    let at = bytes.len().min(usize::from(u16::MAX)) / 2;
    decoder.take(&bytes[at..], &mut snapshot);
    memory.bytes = &bytes[..at];
    // Nothing here fails: that memory can be read says `Wild`.
    let _: io::Result<()> = walks(&mut snapshot, &mut memory);
    answer(&snapshot)
}

fn walks(snapshot: &mut HolderSnapshot, memory: &mut Wild<'_>) -> io::Result<()> {
    const QUEUE: QueueLayout =
        QueueLayout { queue: 0x80, length: 0x90, buffer_sock: 0x18, passed: 0x30, count: 0, files: 0x28 };
    const TREE: TreeLayout = TreeLayout { root: 0x40, node: 0x20, file: 0xa0, start: 0, end: 8, flags: 0x50 };
    const SEGMENT: SegmentLayout = SegmentLayout { id: 0, namespace: 8, file: 16, number: 0x88 };
    const PATH: PathLayout = PathLayout {
        parent: 0x18,
        name: 0x28,
        root: 0,
        vfsmount: 0x20,
        mount_parent: 0x10,
        mountpoint: 0x18,
    };
    let tables = [
        RingTable::Flat { length: 0x40, files: 0x48 },
        RingTable::Nodes { length: 0x50, nodes: 0x58, file: 0x10 },
    ];
    rings::descriptors(snapshot, memory, 0x20)?;
    for table in tables {
        rings::find(snapshot, memory, Some(table), &mut HashSet::new())?;
        queues::find(snapshot, memory, &QUEUE, &mut HashSet::new())?;
    }
    trees::find(snapshot, memory, &TREE)?;
    segments::find(snapshot, memory, Some(SEGMENT))?;
    ends::find(snapshot, memory, PeerLayout { socket: Some(0x18), terminal: Some((0, 0x40)) })?;
    linked::peers(snapshot, memory, SocketLayout { of_sock: 0x20, file: 0x10 })?;
    let (map_type, map_entries, link) = (0x18, 0x24, Some((0x10, 0x58)));
    let bpf = BpfLayout { map_type, map_entries, array: 0x80, entry_file: 8, link };
    linked::bpf(snapshot, memory, &bpf)?;
    let namespaces =
        NamespaceLayout { of_inode: 0x18, common: 0x40, head: 0x20, ..NamespaceLayout::default() };
    namespaces::find(snapshot, memory, &namespaces)?;
    rings::requests(snapshot, memory, RequestLayout { submitted: 0x18, completed: 0x1c })?;
    backing::find(snapshot, memory)?;
    pidfds::name(snapshot, memory, PidLayout { of_inode: 0x18, number: 0x20 })?;
    directories::find(snapshot, memory, &PATH)
}

struct Wild<'a> {
    bytes: &'a [u8],
    reads: usize,
}

impl Wild<'_> {
    /// The word at an address: one of the bytes' own, or an address near.
    fn word(&self, address: u64) -> u64 {
        let hash = (address / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let Some(choice) =
            usize::try_from(hash).ok().and_then(|hash| self.bytes.get(hash % self.bytes.len().max(1)))
        else {
            return 0;
        };
        let near = 0xffff_8880_0000_0000 + u64::from(*choice) * 64;
        match choice % 4 {
            0 => hash % 300,
            1 => near,
            2 => near + 0x100,
            _ => u64::from(*choice).wrapping_neg(),
        }
    }
}

impl Memory for Wild<'_> {
    fn read(&mut self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>> {
        self.reads += 1;
        assert!(self.reads < 1 << 16, "a walk through a few hundred structures ends");
        let read = |(address, length): &(u64, usize)| {
            let words = (0..*length as u64).step_by(8).map(|offset| self.word(address.wrapping_add(offset)));
            let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
            bytes.truncate(*length);
            (address % 7 != 0).then_some(bytes)
        };
        Ok(wanted.iter().map(read).collect())
    }

    fn describe(&mut self, handles: &[u64]) -> io::Result<Vec<File>> {
        Ok(handles.iter().filter_map(|handle| self.file(*handle)).collect())
    }
}

impl Wild<'_> {
    /// Sockets, rings and segments, as they come.
    fn file(&self, handle: u64) -> Option<File> {
        let mut bytes = [0; size_of::<File>()];
        for (part, offset) in bytes.chunks_mut(8).zip((0..).step_by(8)) {
            part.copy_from_slice(&self.word(handle.wrapping_add(offset)).to_ne_bytes()[..part.len()]);
        }
        let file: File = crate::kernel::walk_records::fixed(&bytes)?;
        let mut file = File { handle, private: self.word(handle), ..file };
        match handle / 64 % 4 {
            0 => file.family = 1,
            1 => {
                (file.magic, file.inode_mode, file.family) = (0x0904_1934, 0o600, 0);
                file.name[..11].copy_from_slice(b"[io_uring]\0");
                file.header.length = u32::try_from(bytes.len()).ok()?;
            }
            _ => {}
        }
        Some(file)
    }
}

/// No path is known.
struct Nowhere;

impl Paths for Nowhere {
    fn of_descriptor(&mut self, _: u32, _: u32) -> Option<std::path::PathBuf> {
        None
    }

    fn of_mapping(&mut self, _: u32, _: u64, _: u64) -> Option<std::path::PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::fixture::{Records, file, ring, segment_file, task, unix_socket};

    /// A xorshift.
    fn noise(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_ne_bytes()[5]
        })
    }

    /// Records with a few bytes that are others, and a first byte that says how they are cut.
    fn damaged(seed: u64) -> Vec<u8> {
        let mut records = Records::default();
        let base = 0xffff_8880_0000_0000;
        for (tag, pid) in [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
            records.task(tag, &task(pid, "app"));
            for number in 0..6 {
                let handle = base + number * 64;
                records.file(&match number {
                    0 => unix_socket(handle, handle + 256),
                    1 => ring(handle, handle + 512),
                    2 => segment_file(handle, 5, 0, handle + 1024),
                    _ => file(handle, b"name"),
                });
                records.descriptor(handle, 3, 0).mapping(handle, number << 12, 4);
            }
        }
        let mut noise = noise(seed);
        let mut bytes = vec![u8::try_from(seed % 251).unwrap_or(0)];
        bytes.append(&mut records.0);
        for _ in 0..seed % 40 {
            let mut next = || usize::from(noise.next().unwrap_or(0));
            let place = (next() << 8 | next()) % bytes.len();
            bytes[place] = noise.next().unwrap_or(0);
        }
        bytes
    }

    #[test]
    fn damaged_records() {
        for seed in 0..400 {
            records(&damaged(seed));
        }
    }

    #[test]
    fn wild_memory() {
        for seed in 0..200 {
            let mut bytes: Vec<u8> = noise(seed).take(3000).collect();
            bytes.extend(damaged(seed));
            memory(&bytes);
        }
        memory(&[]);
    }

    #[test]
    fn wild_texts() {
        let seeds = b"7f00-7f10 rw-s 00000000 00:01 32769  /SYSV00000000 (deleted)\nsocket:[5]\n-1 2 1600 4 5 6 7\n/dev/zero x";
        for seed in 0..400 {
            let mut noise = noise(seed);
            let text: Vec<u8> = seeds
                .iter()
                .filter_map(|byte| match noise.next() {
                    Some(0..8) => None,
                    Some(8..16) => noise.next(),
                    _ => Some(*byte),
                })
                .collect();
            texts(&text);
        }
    }
}
