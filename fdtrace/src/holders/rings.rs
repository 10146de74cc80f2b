//! Handles that io_uring holds: files that a ring has registered, and rings that a task has registered in place of a
//! descriptor.

use std::{collections::HashSet, io};

use super::{
    HolderSnapshot, Memory, Registered,
    memory::{half, is_address, word},
};
use crate::{
    kernel::{RING_DESCRIPTORS, RequestLayout, RingTable},
    model::Kind,
};

/// The name that `io_uring_get_file` (io_uring/io_uring.c) gives; nobody else names anonymous inodes.
const RING: &[u8] = b"[io_uring]";
/// The lowest bits of an address say what the file supports (`FFS_MASK`, `REQ_F_SUPPORT_NOWAIT_BIT`).
const MARKS: u64 = 7;
/// Addresses in one request.
const BATCH: usize = 512;
/// `IORING_MAX_FIXED_FILES` (io_uring/rsrc.c)
const MAX_FILES: usize = 1 << 20;

/// A ring whose answers are more than its requests seems to have billions.
const MAX_REQUESTS: u32 = 1 << 20;

/// Finds the files of all rings that are not in `done`. A registered file may itself be a ring.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: Option<RingTable>,
    done: &mut HashSet<u64>,
) -> io::Result<()> {
    loop {
        let rings = rings(snapshot, done);
        if rings.is_empty() {
            return Ok(());
        }
        done.extend(rings.iter().map(|(context, _)| *context));
        let Some(layout) = layout else {
            snapshot.partial.push(format!(
                "files that io_uring holds are not looked up: this kernel keeps those of its {} rings in a way that \
                 this build does not know",
                rings.len()
            ));
            return Ok(());
        };
        for (context, ring) in rings {
            let files = registered(memory, layout, context)?;
            keep(snapshot, memory, &files, ring)?;
        }
    }
}

/// How many requests there are in flight: those that were taken in and have no answer. One request may have many answers,
/// or none, so it is not exact.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn requests(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: RequestLayout,
) -> io::Result<()> {
    let mut contexts: Vec<u64> =
        rings(snapshot, &HashSet::new()).into_iter().map(|(context, _)| context).collect();
    contexts.sort_unstable();
    contexts.dedup();
    let wanted: Vec<(u64, usize)> = contexts
        .iter()
        .flat_map(|context| [layout.submitted, layout.completed].map(|at| (context.wrapping_add(at), 4)))
        .collect();
    for pair in memory.read(&wanted)?.chunks_exact(2) {
        let [Some(submitted), Some(completed)] = pair else { continue };
        let left = half(submitted, 0).wrapping_sub(half(completed, 0));
        if left > 0 && left <= MAX_REQUESTS {
            snapshot.requests.0 += u64::from(left);
            snapshot.requests.1 += 1;
        }
    }
    Ok(())
}

/// Rings that were not looked into: their context and the place of the handle.
fn rings(snapshot: &HolderSnapshot, done: &HashSet<u64>) -> Vec<(u64, u32)> {
    (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.kind == Kind::Anon && handle.raw_name(&snapshot.names) == RING)
        .filter(|(_, handle)| is_address(handle.private) && !done.contains(&handle.private))
        .map(|(place, handle)| (handle.private, place))
        .collect()
}

/// The addresses of a ring's files.
fn registered(memory: &mut impl Memory, layout: RingTable, context: u64) -> io::Result<Vec<u64>> {
    let (length, array) = match layout {
        RingTable::Flat { length, files } => (length, files),
        RingTable::Nodes { length, nodes, .. } => (length, nodes),
    };
    let words = memory.words(&[context.wrapping_add(length), context.wrapping_add(array)])?;
    // The number has 32 bits.
    let count = usize::try_from(words[0] & u64::from(u32::MAX)).unwrap_or(0).min(MAX_FILES);
    if count == 0 || !is_address(words[1]) {
        return Ok(Vec::new());
    }
    let entries = array_of(memory, words[1], count)?;
    let files = match layout {
        RingTable::Flat { .. } => entries,
        RingTable::Nodes { file, .. } => {
            let nodes: Vec<u64> = entries
                .into_iter()
                .filter(|node| is_address(*node))
                .map(|node| node.wrapping_add(file))
                .collect();
            memory.words(&nodes)?
        }
    };
    Ok(files.into_iter().map(|file| file & !MARKS).filter(|file| is_address(*file)).collect())
}

/// So many words from an address on.
fn array_of(memory: &mut impl Memory, address: u64, count: usize) -> io::Result<Vec<u64>> {
    let wanted: Vec<(u64, usize)> = (0..count)
        .step_by(BATCH)
        .map(|from| (address.wrapping_add(from as u64 * 8), BATCH.min(count - from) * 8))
        .collect();
    let parts = memory.read(&wanted)?;
    Ok(parts
        .iter()
        .flatten()
        .flat_map(|bytes| (0..bytes.len() / 8).map(|index| word(bytes, index * 8)).collect::<Vec<_>>())
        .collect())
}

fn keep(snapshot: &mut HolderSnapshot, memory: &mut impl Memory, files: &[u64], ring: u32) -> io::Result<()> {
    snapshot.learn(memory, files.iter().copied())?;
    let places = files.iter().filter_map(|file| snapshot.place(*file)).collect::<Vec<_>>();
    snapshot.registered.extend(places.into_iter().map(|handle| Registered { handle, ring }));
    Ok(())
}

/// Tasks with io_uring have a few places for rings that need no descriptor then.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn descriptors(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    offset: u64,
) -> io::Result<()> {
    // A thread comes with every walk.
    let mut known = HashSet::new();
    let owners: Vec<(u32, u64)> = (0..)
        .zip(&snapshot.tasks)
        .filter(|(_, task)| is_address(task.rings) && known.insert(task.rings))
        .map(|(place, task)| (place, task.rings))
        .collect();
    let wanted: Vec<(u64, usize)> =
        owners.iter().map(|(_, rings)| (rings.wrapping_add(offset), RING_DESCRIPTORS * 8)).collect();
    for ((task, _), bytes) in owners.into_iter().zip(memory.read(&wanted)?) {
        let Some(bytes) = bytes else { continue };
        let rings: Vec<u64> = (0..RING_DESCRIPTORS)
            .map(|index| word(&bytes, index * 8))
            .filter(|ring| is_address(*ring))
            .collect();
        snapshot.learn(memory, rings.iter().copied())?;
        let places: Vec<u32> = rings.iter().filter_map(|ring| snapshot.place(*ring)).collect();
        snapshot.ring_descriptors.extend(places.into_iter().map(|ring| (task, ring)));
    }
    snapshot.ring_descriptors.sort_unstable();
    snapshot.ring_descriptors.dedup();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, ring, task};

    const FLAT: RingTable = RingTable::Flat { length: 0x40, files: 0x48 };
    const NODES: RingTable = RingTable::Nodes { length: 0x50, nodes: 0x58, file: 0x10 };
    const CONTEXT: u64 = KERNEL + 0x10_0000;
    const ARRAY: u64 = KERNEL + 0x20_0000;
    const NODE: u64 = KERNEL + 0x30_0000;

    fn flat(memory: &mut Pages, context: u64, array: u64, entries: &[u64]) {
        memory.word(context + 0x40, entries.len() as u64).word(context + 0x48, array);
        (array..).step_by(8).zip(entries).for_each(|(at, entry)| _ = memory.word(at, *entry));
    }

    fn files<const N: usize>(memory: &mut Pages) -> [u64; N] {
        std::array::from_fn(|number| memory.file(file(KERNEL + (number as u64 + 1) * 256, b"f")))
    }

    fn found(snapshot: &HolderSnapshot) -> Vec<(u64, u64)> {
        let address = |place: u32| snapshot.handles[place as usize].address;
        snapshot.registered.iter().map(|found| (address(found.handle), address(found.ring))).collect()
    }

    fn walk(memory: &mut Pages, layout: Option<RingTable>) -> HolderSnapshot {
        let mut snapshot = Records::default().file(&ring(KERNEL, CONTEXT)).snapshot();
        find(&mut snapshot, memory, layout, &mut HashSet::new()).expect("memory");
        snapshot
    }

    #[test]
    fn a_flat_table_with_marks_and_holes() {
        let mut memory = Pages::default();
        let [first, second] = files(&mut memory);
        flat(&mut memory, CONTEXT, ARRAY, &[first | 3, 0, second | 7, 0, first]);
        // The number has 32 bits, and other fields behind it.
        memory.word(CONTEXT + 0x40, 0xdead_beef << 32 | 5);
        let snapshot = walk(&mut memory, Some(FLAT));
        assert_eq!(found(&snapshot), [(first, KERNEL), (second, KERNEL), (first, KERNEL)]);
        assert_eq!(snapshot.handles.len(), 3);
    }

    #[test]
    fn a_table_of_nodes() {
        let mut memory = Pages::default();
        let [first, second] = files(&mut memory);
        memory.word(CONTEXT + 0x50, 4).word(CONTEXT + 0x58, ARRAY);
        memory.word(ARRAY, NODE).word(ARRAY + 16, NODE + 0x1000).word(ARRAY + 24, NODE + 0x2000_0000);
        memory.word(NODE + 0x10, first | 1).word(NODE + 0x1010, second);
        assert_eq!(found(&walk(&mut memory, Some(NODES))), [(first, KERNEL), (second, KERNEL)]);
    }

    #[test]
    fn a_table_longer_than_one_request_reads() {
        let mut memory = Pages::default();
        let [file] = files(&mut memory);
        let mut entries = vec![0; 3 * BATCH + 1];
        (entries[BATCH - 1], entries[BATCH], entries[3 * BATCH]) = (file, file, file);
        flat(&mut memory, CONTEXT, ARRAY, &entries);
        assert_eq!(found(&walk(&mut memory, Some(FLAT))).len(), 3);
    }

    #[test]
    fn a_part_that_cannot_be_read_is_left_out() {
        let mut memory = Pages::default();
        let [file] = files(&mut memory);
        memory.word(CONTEXT + 0x40, 1 << 30).word(CONTEXT + 0x48, ARRAY).word(ARRAY + 8, file);
        assert_eq!(found(&walk(&mut memory, Some(FLAT))), [(file, KERNEL)]);
        for array in [0, 5, 0x1234_5678, !0xfff] {
            memory.word(CONTEXT + 0x48, array);
            assert_eq!(found(&walk(&mut memory, Some(FLAT))), []);
        }
    }

    #[test]
    fn rings_in_rings_and_in_themselves() {
        let mut memory = Pages::default();
        let [file] = files(&mut memory);
        let inner = memory.file(ring(KERNEL + 0x1000, CONTEXT + 0x1000));
        flat(&mut memory, CONTEXT, ARRAY, &[inner, KERNEL]);
        flat(&mut memory, CONTEXT + 0x1000, ARRAY + 0x1000, &[file, inner, KERNEL]);
        let expected = [(inner, KERNEL), (KERNEL, KERNEL), (file, inner), (inner, inner), (KERNEL, inner)];
        assert_eq!(found(&walk(&mut memory, Some(FLAT))), expected);
    }

    #[test]
    fn a_kernel_that_is_not_known_is_said_to_be() {
        let snapshot = walk(&mut Pages::default(), None);
        assert_eq!((snapshot.registered.len(), snapshot.partial.len()), (0, 1));
        assert!(snapshot.partial[0].contains("its 1 rings"), "{}", snapshot.partial[0]);
    }

    #[test]
    fn nobody_names_a_file_into_a_ring() {
        let mut memory = Pages::default();
        let [file] = files(&mut memory);
        flat(&mut memory, CONTEXT, ARRAY, &[file]);
        let lookalike = fdtrace_common::holder_walk::File {
            magic: 0xef53,
            inode_mode: 0o100_600,
            ..ring(KERNEL, CONTEXT)
        };
        let mut snapshot = Records::default().file(&lookalike).snapshot();
        find(&mut snapshot, &mut memory, Some(FLAT), &mut HashSet::new()).expect("memory");
        assert_eq!(found(&snapshot), []);
    }

    #[test]
    fn requests_without_an_answer() {
        let mut memory = Pages::default();
        let mut records = Records::default();
        // Five requests, round the end of the numbers; none; more answers than requests; one ring twice.
        for (number, submitted, completed) in [(0, 3u32, u32::MAX - 1), (1, 8, 8), (2, 8, 9)] {
            let context = CONTEXT + number * 0x1000;
            records.file(&ring(KERNEL + number * 256, context));
            memory
                .bytes(context + 0x60, &submitted.to_ne_bytes())
                .bytes(context + 0x64, &completed.to_ne_bytes());
        }
        records.file(&ring(KERNEL + 0x2000, CONTEXT));
        let mut snapshot = records.snapshot();
        requests(&mut snapshot, &mut memory, RequestLayout { submitted: 0x60, completed: 0x64 })
            .expect("memory");
        assert_eq!(snapshot.requests, (5, 1));
    }

    #[test]
    fn rings_without_a_descriptor_count_once_however_often_the_thread_came() {
        let mut memory = Pages::default();
        let mut task = task(7, "app");
        task.rings = KERNEL + 0x40_0000;
        let ring = memory.file(ring(KERNEL, CONTEXT));
        memory.word(task.rings + 0x20 + 8, ring).word(task.rings + 0x20 + 8 * 17, KERNEL + 8);
        let mut records = Records::default();
        for tag in 1..=3 {
            records.task(tag, &task);
        }
        let mut snapshot = records.snapshot();
        descriptors(&mut snapshot, &mut memory, 0x20).expect("memory");
        assert_eq!(snapshot.ring_descriptors, [(0, 0)]);
        assert_eq!(snapshot.handles[0].address, ring);
    }
}
