//! Stack memory, read in blocks: most stacks lie in one or two of them.

use aya_ebpf::helpers::generated::bpf_probe_read_user;

/// Words of stack memory that are read at once. A power of two.
const BLOCK: usize = 64;
const BLOCK_BYTES: u64 = BLOCK as u64 * 8;
/// Two words: a frame with its frame pointer. They are read together.
const PAIR_BYTES: u64 = 16;

/// Nothing can be mapped below, and a user's address has no such high bit.
const LOWEST: u64 = 1 << 16;
const HIGH_BITS: u64 = 0xff << 56;

/// Stack memory as it was read, with room for a pair that begins in the last word.
pub(crate) type Memory = [u64; BLOCK + 1];

/// Reads the two words at `address`. `block` is the address of the first word in `memory`, 0 for none yet; the next one
/// begins so many bytes `below` what is read, where more may be wanted.
#[inline(always)]
pub(crate) fn pair(memory: &mut Memory, block: &mut u64, address: u64, below: u64) -> Option<(u64, u64)> {
    if address < LOWEST || address & (HIGH_BITS | 7) != 0 {
        return None;
    }
    if address.wrapping_sub(*block) > BLOCK_BYTES - PAIR_BYTES {
        *block = load(memory, address, below)?;
    }
    let word = (address.wrapping_sub(*block) / 8) as usize & (BLOCK - 1);
    Some((memory[word], memory[word + 1]))
}

/// Reads memory that holds the pair; says where what was read begins.
#[inline(always)]
fn load(memory: &mut Memory, address: u64, below: u64) -> Option<u64> {
    let start = address.wrapping_sub(below);
    if copy(memory, 0, BLOCK_BYTES, start) {
        return Some(start);
    }
    // The mapping ends soon behind the pair.
    let before = BLOCK_BYTES - PAIR_BYTES;
    copy(memory, BLOCK - 2, PAIR_BYTES, address).then(|| address.wrapping_sub(before))
}

#[inline(always)]
fn copy(memory: &mut Memory, word: usize, bytes: u64, from: u64) -> bool {
    // SAFETY: the callers' lengths end within the block; any address may be given, the helper checks it.
    unsafe { bpf_probe_read_user(memory.as_mut_ptr().add(word).cast(), bytes as u32, from as *const _) == 0 }
}
