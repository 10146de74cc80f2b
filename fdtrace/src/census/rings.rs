//! Handles that io_uring holds: files that a ring has registered, and rings that a task has registered in place of a
//! descriptor.

use std::{collections::HashSet, io};

use super::{
    Census, Memory, Registered,
    memory::{is_address, word},
};
use crate::{
    kernel::{RING_DESCRIPTORS, RingTable},
    kinds::Kind,
};

/// The name that `io_uring_get_file` (io_uring/io_uring.c) gives; nobody else names anonymous inodes.
const RING: &[u8] = b"[io_uring]";
/// The lowest bits of an address say what the file supports (`FFS_MASK`, `REQ_F_SUPPORT_NOWAIT_BIT`).
const MARKS: u64 = 7;
/// Addresses in one request.
const BATCH: usize = 512;
/// `IORING_MAX_FIXED_FILES` (io_uring/rsrc.c)
const MOST_FILES: usize = 1 << 20;

/// Finds the files of all rings that are not in `done`. A registered file may itself be a ring.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    census: &mut Census,
    memory: &mut impl Memory,
    layout: Option<RingTable>,
    done: &mut HashSet<u64>,
) -> io::Result<()> {
    loop {
        let rings = rings(census, done);
        if rings.is_empty() {
            return Ok(());
        }
        done.extend(rings.iter().map(|(context, _)| *context));
        let Some(layout) = layout else {
            census.partial.push(format!(
                "files that io_uring holds are not looked up: this kernel keeps those of its {} rings in a way that \
                 this build does not know",
                rings.len()
            ));
            return Ok(());
        };
        for (context, ring) in rings {
            let files = registered(memory, layout, context)?;
            keep(census, memory, &files, ring)?;
        }
    }
}

/// Rings that were not looked into: their context and the place of the handle.
fn rings(census: &Census, done: &HashSet<u64>) -> Vec<(u64, u32)> {
    (0..)
        .zip(&census.handles)
        .filter(|(_, handle)| handle.kind == Kind::Anon && handle.raw_name(&census.names) == RING)
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
    let words = memory.words(&[context + length, context + array])?;
    // The number has 32 bits.
    let count = usize::try_from(words[0] & u64::from(u32::MAX)).unwrap_or(0).min(MOST_FILES);
    if count == 0 || !is_address(words[1]) {
        return Ok(Vec::new());
    }
    let entries = array_of(memory, words[1], count)?;
    let files = match layout {
        RingTable::Flat { .. } => entries,
        RingTable::Nodes { file, .. } => {
            let nodes: Vec<u64> =
                entries.into_iter().filter(|node| is_address(*node)).map(|node| node + file).collect();
            memory.words(&nodes)?
        }
    };
    Ok(files.into_iter().map(|file| file & !MARKS).filter(|file| is_address(*file)).collect())
}

/// So many words from an address on.
fn array_of(memory: &mut impl Memory, address: u64, count: usize) -> io::Result<Vec<u64>> {
    let wanted: Vec<(u64, usize)> = (0..count)
        .step_by(BATCH)
        .map(|from| (address + from as u64 * 8, BATCH.min(count - from) * 8))
        .collect();
    let parts = memory.read(&wanted)?;
    Ok(parts
        .iter()
        .flatten()
        .flat_map(|bytes| (0..bytes.len() / 8).map(|index| word(bytes, index * 8)).collect::<Vec<_>>())
        .collect())
}

fn keep(census: &mut Census, memory: &mut impl Memory, files: &[u64], ring: u32) -> io::Result<()> {
    let unknown: Vec<u64> = files.iter().copied().filter(|file| census.place(*file).is_none()).collect();
    for file in memory.describe(&unknown)? {
        census.add(&file);
    }
    let places = files.iter().filter_map(|file| census.place(*file)).collect::<Vec<_>>();
    census.registered.extend(places.into_iter().map(|handle| Registered { handle, ring }));
    Ok(())
}

/// Tasks with io_uring have a few places for rings that need no descriptor then.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn descriptors(census: &mut Census, memory: &mut impl Memory, offset: u64) -> io::Result<()> {
    let owners: Vec<(u32, u64)> = (0..)
        .zip(&census.tasks)
        .filter(|(_, task)| is_address(task.rings))
        .map(|(place, task)| (place, task.rings))
        .collect();
    let wanted: Vec<(u64, usize)> =
        owners.iter().map(|(_, rings)| (rings + offset, RING_DESCRIPTORS * 8)).collect();
    for ((task, _), bytes) in owners.into_iter().zip(memory.read(&wanted)?) {
        let Some(bytes) = bytes else { continue };
        let rings: Vec<u64> = (0..RING_DESCRIPTORS)
            .map(|index| word(&bytes, index * 8))
            .filter(|ring| is_address(*ring))
            .collect();
        let unknown: Vec<u64> = rings.iter().copied().filter(|ring| census.place(*ring).is_none()).collect();
        for file in memory.describe(&unknown)? {
            census.add(&file);
        }
        let places: Vec<u32> = rings.iter().filter_map(|ring| census.place(*ring)).collect();
        census.ring_descriptors.extend(places.into_iter().map(|ring| (task, ring)));
    }
    census.ring_descriptors.sort_unstable();
    census.ring_descriptors.dedup();
    Ok(())
}
