//! Segments of IPC namespaces that no process lives in: a descriptor of the namespace keeps them. Nothing lists them but
//! the namespace itself, by an array of arrays (`struct xarray`, include/linux/xarray.h).

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use super::{
    HolderSnapshot, Link, Linked, Memory, Segment,
    memory::{half, is_address, word},
};
use crate::kernel::NamespaceLayout;

/// Entries of a node (`XA_CHUNK_SIZE`).
const SLOTS: usize = 64;
/// The two lowest bits of an entry say that it is a node.
const NODE: u64 = 2;
/// Ids have 31 bits, six for each level.
const DEEPEST: usize = 6;
/// No namespace has more segments (`IPCMNI_EXTEND`); this ends a walk through memory that is something else by now.
const MAX: usize = 1 << 20;

/// A namespace, and the place of a handle that keeps it.
struct Namespace {
    handle: u32,
    number: u32,
    /// The first entry of its segments.
    head: u64,
}

/// Finds the segments of namespaces that are kept by handles only.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &NamespaceLayout,
) -> io::Result<()> {
    for namespace in kept(snapshot, memory, layout)? {
        let segments = leaves(memory, layout, namespace.head)?;
        keep(snapshot, memory, layout, &namespace, &segments)?;
    }
    Ok(())
}

/// IPC namespaces that handles name and no task lives in, each once.
fn kept(
    snapshot: &HolderSnapshot,
    memory: &mut impl Memory,
    layout: &NamespaceLayout,
) -> io::Result<Vec<Namespace>> {
    let inhabited: HashSet<u32> = snapshot.tasks.iter().map(|task| task.ipc_namespace).collect();
    let handles: Vec<(u32, u64)> = (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.is_on_nsfs())
        .map(|(place, handle)| (place, handle.inode.wrapping_add(layout.of_inode)))
        .collect();
    let addresses: Vec<u64> = handles.iter().map(|(_, address)| *address).collect();
    let common = memory.words(&addresses)?;
    let each: Vec<u64> = common
        .iter()
        .flat_map(|ns| {
            let head = ns.wrapping_sub(layout.common).wrapping_add(layout.head);
            [ns.wrapping_add(layout.number), ns.wrapping_add(layout.operations), head]
        })
        .collect();
    let words = memory.words(&each)?;
    let names: Vec<u64> = words.chunks_exact(3).map(|words| words[1].wrapping_add(layout.name)).collect();
    let names = memory.words(&names)?;
    let texts = memory.read(&names.iter().map(|name| (*name, 4)).collect::<Vec<_>>())?;
    let mut found = BTreeMap::new();
    for (((handle, _), words), text) in handles.into_iter().zip(words.chunks_exact(3)).zip(texts) {
        // The number has 32 bits.
        let number = u32::try_from(words[0] & u64::from(u32::MAX)).unwrap_or(0);
        if text.as_deref() == Some(b"ipc\0") && !inhabited.contains(&number) {
            found.entry(number).or_insert(Namespace { handle, number, head: words[2] });
        }
    }
    Ok(found.into_values().collect())
}

/// What an array holds.
fn leaves(memory: &mut impl Memory, layout: &NamespaceLayout, head: u64) -> io::Result<Vec<u64>> {
    let (mut level, mut leaves) = (vec![head], Vec::new());
    let mut known = HashSet::new();
    for _ in 0..=DEEPEST {
        let (nodes, entries): (Vec<u64>, Vec<u64>) =
            level.into_iter().partition(|entry| is_address(entry ^ NODE));
        leaves.extend(entries.into_iter().filter(|entry| is_address(*entry)));
        let nodes = nodes.into_iter().map(|node| node ^ NODE);
        let wanted: Vec<(u64, usize)> = nodes
            .filter(|node| known.len() < MAX / SLOTS && known.insert(*node))
            .map(|node| (node.wrapping_add(layout.slots), SLOTS * 8))
            .collect();
        if wanted.is_empty() {
            break;
        }
        let words = |bytes: Vec<u8>| (0..SLOTS).map(move |slot| word(&bytes, slot * 8));
        level = memory.read(&wanted)?.into_iter().flatten().flat_map(words).collect();
    }
    Ok(leaves)
}

fn keep(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &NamespaceLayout,
    namespace: &Namespace,
    segments: &[u64],
) -> io::Result<()> {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(0);
    let length = at(layout.id.max(layout.key).max(layout.file).max(layout.attaches).max(layout.size)) + 8;
    let wanted: Vec<(u64, usize)> = segments.iter().map(|segment| (*segment, length)).collect();
    let read: Vec<Vec<u8>> = memory.read(&wanted)?.into_iter().flatten().collect();
    snapshot.learn(memory, read.iter().map(|bytes| word(bytes, at(layout.file))))?;
    for bytes in read {
        let Some(handle) = snapshot.place(word(&bytes, at(layout.file))) else { continue };
        snapshot.linked.push(Linked { handle, through: namespace.handle, link: Link::Namespace });
        snapshot.segments.push(Segment {
            id: half(&bytes, at(layout.id)),
            key: half(&bytes, at(layout.key)),
            creator: 0,
            last: 0,
            attaches: word(&bytes, at(layout.attaches)),
            bytes: word(&bytes, at(layout.size)),
            namespace: namespace.number,
            is_removed: false,
            handle,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, segment_file, task};

    const LAYOUT: NamespaceLayout = NamespaceLayout {
        of_inode: 0x100,
        common: 0x40,
        number: 0x18,
        operations: 0x10,
        name: 0,
        head: 0x20,
        slots: 0x28,
        id: 8,
        key: 12,
        file: 0x80,
        attaches: 0x88,
        size: 0x90,
    };
    const NSFS: u64 = 0x6e73_6673;
    const NAMESPACE: u64 = KERNEL + 0x10_0000;
    const OPERATIONS: u64 = KERNEL + 0x20_0000;
    const TREE: u64 = KERNEL + 0x30_0000;
    const SEGMENT: u64 = KERNEL + 0x40_0000;
    const NUMBER: u32 = 4_026_532_500;

    fn handle(number: u64) -> File {
        let (handle, inode) = (KERNEL + number * 256, KERNEL + 0x50_0000 + number * 0x1000);
        File { magic: NSFS, inode, ..file(handle, b"ipc:[1]") }
    }

    /// A namespace of this kind behind a handle.
    fn namespace(memory: &mut Pages, of: &File, number: u64, kind: &[u8], head: u64) {
        let (at, operations) = (NAMESPACE + number * 0x1000, OPERATIONS + number * 0x100);
        memory
            .word(of.inode + 0x100, at + 0x40)
            .word(at + 0x40 + 0x18, (u64::from(NUMBER) + number) | 7 << 32);
        memory.word(at + 0x50, operations).word(operations, operations + 0x40);
        memory.bytes(operations + 0x40, kind).word(at + 0x20, head);
    }

    fn segment(memory: &mut Pages, number: u64) -> u64 {
        let at = SEGMENT + number * 0x1000;
        let id = u32::try_from(number).expect("small");
        let own = memory.file(segment_file(KERNEL + 0x60_0000 + number * 256, id, 5, 0));
        memory.word(at + 8, number | 5 << 32).word(at + 0x80, own).word(at + 0x88, 2).word(at + 0x90, 4096);
        at
    }

    fn walk(memory: &mut Pages, files: &[File], inhabited: u32) -> HolderSnapshot {
        let mut records = Records::default();
        records.task(1, &fdtrace_common::holder_walk::Task { ipc_namespace: inhabited, ..task(7, "app") });
        files.iter().for_each(|file| _ = records.file(file));
        let mut snapshot = records.snapshot();
        find(&mut snapshot, memory, &LAYOUT).expect("memory");
        snapshot
    }

    #[test]
    fn segments_of_a_namespace_that_a_handle_keeps() {
        let (mut memory, of) = (Pages::default(), handle(1));
        let [first, second] = [3, 900].map(|number| segment(&mut memory, number));
        // A node of nodes, one with nothing, one with both.
        memory.word(TREE + 0x28 + 8, TREE + 0x1002).word(TREE + 0x28 + 16, TREE + 0x2002);
        memory.word(TREE + 0x1028, first).word(TREE + 0x1028 + 63 * 8, second).word(TREE + 0x2028, 0);
        namespace(&mut memory, &of, 0, b"ipc\0", TREE + 2);
        let snapshot = walk(&mut memory, &[of, handle(2)], 1);
        let of =
            |segment: &Segment| (segment.id, segment.key, segment.attaches, segment.bytes, segment.namespace);
        let found: Vec<_> = snapshot.segments.iter().map(of).collect();
        assert_eq!(found, [(3, 5, 2, 4096, NUMBER), (900, 5, 2, 4096, NUMBER)]);
        let through: Vec<_> = snapshot.linked.iter().map(|linked| (linked.through, linked.link)).collect();
        assert_eq!(through, [(0, Link::Namespace); 2]);
    }

    #[test]
    fn a_single_segment_needs_no_node() {
        let (mut memory, of) = (Pages::default(), handle(1));
        let only = segment(&mut memory, 0);
        namespace(&mut memory, &of, 0, b"ipc\0", only);
        assert_eq!(walk(&mut memory, &[of], 1).segments.len(), 1);
    }

    #[test]
    fn other_namespaces_are_left_alone() {
        let (mut memory, of) = (Pages::default(), handle(1));
        let only = segment(&mut memory, 0);
        namespace(&mut memory, &of, 0, b"net\0", only);
        assert!(walk(&mut memory, &[of], 1).segments.is_empty());
        namespace(&mut memory, &of, 0, b"ipc\0", only);
        assert!(walk(&mut memory, &[of], NUMBER).segments.is_empty(), "a process lives there: it was asked");
    }

    #[test]
    fn an_array_that_leads_round_ends() {
        let (mut memory, of) = (Pages::default(), handle(1));
        for slot in 0..64 {
            memory.word(TREE + 0x28 + slot * 8, TREE + 2);
        }
        namespace(&mut memory, &of, 0, b"ipc\0", TREE + 2);
        assert!(walk(&mut memory, &[of], 1).segments.is_empty());
        assert!(memory.reads < 20, "{} reads", memory.reads);
    }
}
