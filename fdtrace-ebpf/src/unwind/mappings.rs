//! Which file lies at an address of a process.
//!
//! The kernel's own look-up (`bpf_find_vma`, 5.17) takes a lock that may be held, and a callback that older verifiers
//! refuse to read past. What is needed is a search in a tree that is read under RCU: what is read may be out of date,
//! so what is found is checked against the address before it is believed.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use fdtrace_common::config::ABSENT;

use crate::{config, task::read};

/// A node of a maple tree in words: its parent, then pivots, then slots (include/linux/maple_tree.h).
pub(crate) type Node = [u64; 32];
const NODE_MASK: u64 = 0xff;
/// What `ma_root` has in its low bits when it is a node.
const ROOT: u64 = 2;
const ROOT_MASK: u64 = 3;
const TYPE_SHIFT: u64 = 3;
const TYPE_MASK: u64 = 0xf;
/// `maple_leaf_64`, and all below.
const LEAF: u64 = 1;
/// `maple_arange_64`
const WITH_GAPS: u64 = 3;
/// The first slot in words, and the number of pivots, of a node without and with gaps.
const SLOTS: usize = 16;
const SLOTS_WITH_GAPS: usize = 10;
const PIVOTS: usize = 15;
const PIVOTS_WITH_GAPS: usize = 9;
/// The tree of a process with 65,530 mappings (`vm.max_map_count`) has no more, even if its nodes are but half full.
const MAPLE_LEVELS: usize = 6;
const RED_BLACK_LEVELS: usize = 32;

/// A mapping.
#[derive(Clone, Copy)]
pub(crate) struct Mapping {
    /// Its first address.
    pub(crate) start: u64,
    /// The first address behind it.
    pub(crate) end: u64,
    /// `VM_*` bits.
    pub(crate) flags: u64,
    /// The page of the file that is mapped there.
    pub(crate) page: u64,
    /// The `struct file`; 0 for none.
    pub(crate) file: u64,
}

/// The mapping that an address lies in.
#[inline(always)]
pub(crate) fn find(mm: u64, address: u64, node: &mut Node) -> Option<Mapping> {
    let area = if config::get!(offsets.mm_tree) != ABSENT {
        in_maple_tree(mm, address, node)
    } else if config::get!(offsets.mm_nodes) != ABSENT {
        in_red_black_tree(mm, address)
    } else {
        return None;
    };
    let start: u64 = read(area, config::get!(offsets.vma_start));
    let end: u64 = read(area, config::get!(offsets.vma_end));
    if address < start || address >= end {
        return None;
    }
    Some(Mapping {
        start,
        end,
        flags: read(area, config::get!(offsets.vma_flags)),
        page: read(area, config::get!(offsets.vma_page)),
        file: read(area, config::get!(offsets.vma_file)),
    })
}

#[inline(always)]
fn in_maple_tree(mm: u64, address: u64, node: &mut Node) -> u64 {
    let mut entry: u64 = read(mm, config::get!(offsets.mm_tree));
    // A tree with one entry has no node.
    if entry & ROOT_MASK != ROOT {
        return entry;
    }
    let mut level = 0;
    while level < MAPLE_LEVELS {
        let kind = (entry >> TYPE_SHIFT) & TYPE_MASK;
        // SAFETY: the node is as long as the buffer; a probe read never faults.
        let failed = unsafe {
            bpf_probe_read_kernel(
                node.as_mut_ptr().cast(),
                size_of::<Node>() as u32,
                (entry & !NODE_MASK) as *const _,
            )
        };
        if failed != 0 {
            return 0;
        }
        let slot = if kind == WITH_GAPS {
            SLOTS_WITH_GAPS + below(node, address, PIVOTS_WITH_GAPS)
        } else {
            SLOTS + below(node, address, PIVOTS)
        };
        entry = node[slot & 31];
        if kind <= LEAF {
            return entry;
        }
        level += 1;
    }
    0
}

/// How many pivots lie below an address, up to the first one that does not. Without branches, for the verifier follows
/// each of them: addresses are below 2^63, so that the difference's highest bit tells. The last range of all ends at 2^64.
#[inline(always)]
fn below(node: &Node, address: u64, pivots: usize) -> usize {
    let mut all_below = 1;
    let mut count = 0;
    let mut index = 0;
    while index < pivots {
        all_below &= (node[1 + index] & (u64::MAX >> 1)).wrapping_sub(address) >> 63;
        count += all_below;
        index += 1;
    }
    count as usize
}

#[inline(always)]
fn in_red_black_tree(mm: u64, address: u64) -> u64 {
    let (start_of, end_of) = (config::get!(offsets.vma_start), config::get!(offsets.vma_end));
    let within = u64::from(config::get!(offsets.vma_node));
    let mut node: u64 = read(mm, config::get!(offsets.mm_nodes));
    let mut level = 0;
    while level < RED_BLACK_LEVELS {
        if node == 0 {
            return 0;
        }
        let area = node.wrapping_sub(within);
        let start: u64 = read(area, start_of);
        let end: u64 = read(area, end_of);
        if address >= start && address < end {
            return area;
        }
        // `struct rb_node`: the parent, the right child, the left child.
        node = read(node, if address < start { 16 } else { 8 });
        level += 1;
    }
    0
}
