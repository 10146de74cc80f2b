//! Which file lies at an address of a process.
//!
//! The kernel's own look-up (`bpf_find_vma`, 5.17) takes a lock that may be held, and a callback that older verifiers
//! refuse to read past. What is needed is a search in a tree that is read under RCU: what is read may be out of date,
//! so what is found is checked against the address before it is believed.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::kernel::{Ptr, file, mm_struct, vm_area_struct};

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
    /// Null for none.
    pub(crate) file: Ptr<file>,
}

/// The mapping that an address lies in.
#[inline(always)]
pub(crate) fn find(mm: Ptr<mm_struct>, address: u64, node: &mut Node) -> Option<Mapping> {
    let area = if mm_struct::ma_root().exists() {
        in_maple_tree(mm, address, node)
    } else if mm_struct::mm_rb().exists() {
        in_red_black_tree(mm, address)
    } else {
        return None;
    };
    let start = area.vm_start();
    let end = area.vm_end();
    if address < start || address >= end {
        return None;
    }
    Some(Mapping { start, end, flags: area.vm_flags(), page: area.vm_pgoff(), file: area.vm_file() })
}

#[inline(always)]
fn in_maple_tree(mm: Ptr<mm_struct>, address: u64, node: &mut Node) -> Ptr<vm_area_struct> {
    let mut entry = mm.ma_root();
    // A tree with one entry has no node.
    if entry & ROOT_MASK != ROOT {
        return Ptr::at(entry);
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
            return Ptr::NULL;
        }
        let slot = if kind == WITH_GAPS {
            SLOTS_WITH_GAPS + below(node, address, PIVOTS_WITH_GAPS)
        } else {
            SLOTS + below(node, address, PIVOTS)
        };
        entry = node[slot & 31];
        if kind <= LEAF {
            return Ptr::at(entry);
        }
        level += 1;
    }
    Ptr::NULL
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
fn in_red_black_tree(mm: Ptr<mm_struct>, address: u64) -> Ptr<vm_area_struct> {
    let mut node = mm.mm_rb();
    let mut level = 0;
    while level < RED_BLACK_LEVELS {
        if node.is_null() {
            return Ptr::NULL;
        }
        let area = node.around::<vm_area_struct>(vm_area_struct::vm_rb().offset());
        let start = area.vm_start();
        if address >= start && address < area.vm_end() {
            return area;
        }
        node = if address < start { node.rb_left() } else { node.rb_right() };
        level += 1;
    }
    Ptr::NULL
}
