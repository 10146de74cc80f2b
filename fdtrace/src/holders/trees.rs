//! Mappings of kernels that have no iterator over them (before 5.12): the red-black trees of all address spaces, level by
//! level side by side. Nothing holds them still.

use std::{collections::HashSet, io};

use super::{
    HolderSnapshot, Mapping, Memory, Owner,
    memory::{is_address, word},
};
use crate::kernel::TreeLayout;

/// A tree of 2^31 nodes is no deeper; this ends a walk through memory that is something else by now.
const DEEPEST: usize = 64;
/// So does this: `vm.max_map_count` is 65,530 unless somebody has raised it, but of each process.
const MAX_NODES: usize = 1 << 23;

/// A mapping as the tree has it.
#[derive(Clone, Copy)]
struct Node {
    file: u64,
    start: u64,
    end: u64,
    flags: u64,
}

/// Reads every mapping of a file.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: &TreeLayout,
) -> io::Result<()> {
    let spaces = spaces(snapshot);
    let roots: Vec<u64> = spaces.iter().map(|(mm, ..)| mm.wrapping_add(layout.root)).collect();
    let mut level: Vec<(usize, u64)> = memory.words(&roots)?.into_iter().enumerate().collect();
    let mut found: Vec<Vec<Node>> = vec![Vec::new(); spaces.len()];
    // A tree that changes may lead back to where the walk has been.
    let mut known = HashSet::new();
    for _ in 0..DEEPEST {
        level.retain(|(_, node)| is_address(*node) && known.len() < MAX_NODES && known.insert(*node));
        if level.is_empty() {
            break;
        }
        level = next(memory, layout, &level, &mut found)?;
    }
    snapshot.learn(memory, found.iter().flatten().map(|node| node.file))?;
    for ((address, tgid, thread), mut mappings) in spaces.into_iter().zip(found) {
        mappings.sort_unstable_by_key(|node| node.start);
        keep(snapshot, (address, tgid, thread), &mappings);
    }
    Ok(())
}

/// Each address space, and the process and the thread that it was found with.
fn spaces(snapshot: &HolderSnapshot) -> Vec<(u64, u32, u32)> {
    let mut known = HashSet::new();
    let tasks = snapshot.tasks.iter().filter(|task| is_address(task.mm) && known.insert(task.mm));
    tasks.map(|task| (task.mm, task.tgid, task.pid)).collect()
}

/// Takes in the mappings of one level; says where the next one is.
fn next(
    memory: &mut impl Memory,
    layout: &TreeLayout,
    level: &[(usize, u64)],
    found: &mut [Vec<Node>],
) -> io::Result<Vec<(usize, u64)>> {
    let last = [layout.node + 24, layout.file + 8, layout.start + 8, layout.end + 8, layout.flags + 8]
        .into_iter()
        .max()
        .unwrap_or(0);
    let at = |offset: u64| usize::try_from(offset).unwrap_or(0);
    let wanted: Vec<(u64, usize)> =
        level.iter().map(|(_, node)| (node.wrapping_sub(layout.node), at(last))).collect();
    let mut below = Vec::new();
    for ((space, _), bytes) in level.iter().zip(memory.read(&wanted)?) {
        let Some(bytes) = bytes else { continue };
        below.extend([8, 16].map(|side| (*space, word(&bytes, at(layout.node) + side))));
        let file = word(&bytes, at(layout.file));
        if is_address(file) {
            let of = |offset: u64| word(&bytes, at(offset));
            found[*space].push(Node {
                file,
                start: of(layout.start),
                end: of(layout.end),
                flags: of(layout.flags),
            });
        }
    }
    Ok(below)
}

fn keep(snapshot: &mut HolderSnapshot, (address, tgid, thread): (u64, u32, u32), mappings: &[Node]) {
    let start = u32::try_from(snapshot.mappings.len()).unwrap_or(u32::MAX);
    for node in mappings {
        if let Some(handle) = snapshot.place(node.file) {
            snapshot.map(Mapping { handle, start: node.start, end: node.end }, node.flags);
        }
    }
    let end = u32::try_from(snapshot.mappings.len()).unwrap_or(u32::MAX);
    if end > start {
        snapshot.spaces.push(Owner { address, tgid, thread, part: start..end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, task};

    const LAYOUT: TreeLayout =
        TreeLayout { root: 0x40, node: 0x20, file: 0xa0, start: 0, end: 8, flags: 0x50 };

    fn mapping(number: u64) -> u64 {
        KERNEL + 0x10_0000 + number * 0x1000
    }

    /// A mapping in a tree, and what lies right and left of it.
    fn node(memory: &mut Pages, number: u64, file: u64, right: u64, left: u64) {
        let at = mapping(number);
        let link = |other: u64| if other == 0 { 0 } else { mapping(other) + LAYOUT.node };
        memory.word(at, number << 12).word(at + 8, (number + 1) << 12).word(at + LAYOUT.file, file);
        memory.word(at + LAYOUT.node + 8, link(right)).word(at + LAYOUT.node + 16, link(left));
    }

    fn walk(memory: &mut Pages, pids: &[u32]) -> HolderSnapshot {
        let mut records = Records::default();
        for pid in pids {
            let task = task(*pid, "app");
            memory.word(task.mm + LAYOUT.root, mapping(u64::from(*pid) * 100) + LAYOUT.node);
            records.task(1, &task);
        }
        let mut snapshot = records.snapshot();
        find(&mut snapshot, memory, &LAYOUT).expect("memory");
        snapshot
    }

    #[test]
    fn mappings_of_each_space_in_their_order() {
        let mut memory = Pages::default();
        let files = [1, 2].map(|number| memory.file(file(KERNEL + number * 256, b"f")));
        node(&mut memory, 100, files[0], 103, 101);
        node(&mut memory, 101, 0, 102, 0);
        node(&mut memory, 102, files[1], 0, 0);
        node(&mut memory, 103, files[0], 0, 0);
        node(&mut memory, 200, files[1], 0, 0);
        let snapshot = walk(&mut memory, &[1, 2]);
        let starts = |space: &Owner| {
            space.of(&snapshot.mappings).iter().map(|mapping| mapping.start >> 12).collect::<Vec<_>>()
        };
        assert_eq!(snapshot.spaces.iter().map(starts).collect::<Vec<_>>(), [vec![100, 102, 103], vec![200]]);
        assert_eq!(snapshot.handles.len(), 2);
    }

    #[test]
    fn a_tree_that_leads_round_or_nowhere_ends() {
        let mut memory = Pages::default();
        let file = memory.file(file(KERNEL + 256, b"f"));
        node(&mut memory, 100, file, 101, 101);
        node(&mut memory, 101, file, 100, 100);
        memory.word(mapping(101) + LAYOUT.node + 16, u64::MAX - 7);
        let snapshot = walk(&mut memory, &[1]);
        assert_eq!(snapshot.mappings.len(), 2);
        assert!(memory.reads < 10, "{} reads", memory.reads);
    }

    #[test]
    fn a_space_without_files_is_none() {
        let mut memory = Pages::default();
        node(&mut memory, 100, 0, 0, 0);
        assert!(walk(&mut memory, &[1]).spaces.is_empty());
    }
}
