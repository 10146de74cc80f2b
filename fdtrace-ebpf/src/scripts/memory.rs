//! Memory of a process, of which nothing is believed.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use fdtrace_common::wire::MAX_FRAMES;

/// The word at so many bytes behind an address; 0 where it cannot be read.
#[inline(always)]
pub(super) fn word(base: u64, offset: u32) -> u64 {
    let mut word = 0_u64;
    let from = base.wrapping_add(u64::from(offset));
    // SAFETY: the length is the word's; any address may be given, the helper checks it, and fills with zeros what it cannot read.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), size_of::<u64>() as u32, from as *const _) };
    word
}

/// Fills so many bytes of a block, at most all of it.
#[inline(always)]
pub(super) fn read<const WORDS: usize>(block: &mut [u64; WORDS], bytes: u32, from: u64) -> bool {
    let room = (WORDS * 8) as u32;
    let bytes = if bytes > room { room } else { bytes };
    // SAFETY: the length is the block's at most; the address as above.
    unsafe { bpf_probe_read_user(block.as_mut_ptr().cast(), bytes, from as *const _) == 0 }
}

/// The word at so many bytes in a block of 16 words.
#[inline(always)]
pub(super) fn block(block: &[u64; 16], offset: u32) -> u64 {
    block[(offset >> 3) as usize & 15]
}

/// Copies stack pointers from one map's value to another's.
#[inline(always)]
pub(super) fn copy(to: &mut [u64; MAX_FRAMES], from: &[u64; MAX_FRAMES + 1]) {
    // SAFETY: no more bytes than either has.
    unsafe {
        bpf_probe_read_kernel(to.as_mut_ptr().cast(), (MAX_FRAMES * 8) as u32, from.as_ptr().cast());
    }
}
