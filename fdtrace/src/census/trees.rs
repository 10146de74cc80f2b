//! Mappings of kernels that have no iterator over them (before 5.12): the red-black trees of all address spaces, level by
//! level side by side. Nothing holds them still.

use std::{collections::HashSet, io};

use super::{
    Census, Mapping, Memory, Owner,
    memory::{is_address, word},
};
use crate::kernel::TreeLayout;

/// A tree of 2^31 nodes is no deeper; this ends a walk through memory that is something else by now.
const DEEPEST: usize = 64;

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
pub(super) fn find(census: &mut Census, memory: &mut impl Memory, layout: &TreeLayout) -> io::Result<()> {
    let spaces = spaces(census);
    let roots: Vec<u64> = spaces.iter().map(|(mm, _)| mm + layout.root).collect();
    let mut level: Vec<(usize, u64)> = memory.words(&roots)?.into_iter().enumerate().collect();
    let mut found: Vec<Vec<Node>> = vec![Vec::new(); spaces.len()];
    for _ in 0..DEEPEST {
        level.retain(|(_, node)| is_address(*node));
        if level.is_empty() {
            break;
        }
        level = next(memory, layout, &level, &mut found)?;
    }
    describe(census, memory, &found)?;
    for ((address, tgid), mut mappings) in spaces.into_iter().zip(found) {
        mappings.sort_unstable_by_key(|node| node.start);
        keep(census, address, tgid, &mappings);
    }
    Ok(())
}

fn spaces(census: &Census) -> Vec<(u64, u32)> {
    let mut known = HashSet::new();
    let tasks = census.tasks.iter().filter(|task| is_address(task.mm) && known.insert(task.mm));
    tasks.map(|task| (task.mm, task.tgid)).collect()
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
    let wanted: Vec<(u64, usize)> = level.iter().map(|(_, node)| (node - layout.node, at(last))).collect();
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

fn describe(census: &mut Census, memory: &mut impl Memory, found: &[Vec<Node>]) -> io::Result<()> {
    let mut unknown: Vec<u64> = found.iter().flatten().map(|node| node.file).collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown.retain(|file| census.place(*file).is_none());
    for file in memory.describe(&unknown)? {
        census.add(&file);
    }
    Ok(())
}

fn keep(census: &mut Census, address: u64, tgid: u32, mappings: &[Node]) {
    let start = u32::try_from(census.mappings.len()).unwrap_or(u32::MAX);
    for node in mappings {
        if let Some(handle) = census.place(node.file) {
            census.map(Mapping { handle, start: node.start, end: node.end }, node.flags);
        }
    }
    let end = u32::try_from(census.mappings.len()).unwrap_or(u32::MAX);
    if end > start {
        census.spaces.push(Owner { address, tgid, part: start..end });
    }
}
