//! Memory of a process, of which nothing is believed.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user, bpf_probe_read_user_str};
use fdtrace_common::{scripts::Text, wire::MAX_FRAMES};

/// The word at so many bytes behind an address; 0 where it cannot be read.
#[inline(always)]
pub(super) fn word(base: u64, offset: u32) -> u64 {
    let mut word = 0_u64;
    let from = base.wrapping_add(u64::from(offset));
    // SAFETY: the length is the word's; any address may be given, the helper checks it, and fills with zeros what it cannot read.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), size_of::<u64>() as u32, from as *const _) };
    word
}

/// Whether there is a word.
#[inline(always)]
pub(super) fn is_there(at: u64) -> bool {
    read(&mut [0_u64; 1], size_of::<u64>() as u32, at)
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

/// The same of a block of 32 words, which a code object is.
#[inline(always)]
pub(super) fn part(object: &[u64; 32], offset: u32) -> u64 {
    object[(offset >> 3) as usize & 31]
}

/// A number of four bytes in one, with what may lie behind it.
#[inline(always)]
pub(super) fn number(object: &[u64; 32], offset: u32) -> u64 {
    part(object, offset) >> ((offset & 4) * 8)
}

/// As much of a text as there is room for; behind its end are zeros up to the next word.
#[inline(always)]
pub(super) fn copy_text<const WORDS: usize>(into: &mut Text<WORDS>, from: u64, wanted: u64) -> bool {
    let room = (WORDS as u64 - 1) * 8;
    into.cut = u16::from(wanted > room);
    let bytes = (if wanted > room { room } else { wanted }) as usize & (WORDS * 8 - 1);
    into.bytes = bytes as u32;
    into.words[(bytes >> 3) & (WORDS - 1)] = 0;
    if bytes == 0 {
        return true;
    }
    // SAFETY: less than the words' bytes; any address may be given, the helper checks it.
    unsafe { bpf_probe_read_user(into.words.as_mut_ptr().cast(), bytes as u32, from as *const _) == 0 }
}

/// The same of a text that ends with a zero.
#[inline(always)]
pub(super) fn copy_string<const WORDS: usize>(into: &mut Text<WORDS>, from: u64) -> bool {
    let room = (WORDS - 1) * 8;
    // SAFETY: no more than the words' bytes; any address may be given, the helper checks it.
    let taken =
        unsafe { bpf_probe_read_user_str(into.words.as_mut_ptr().cast(), room as u32 + 1, from as *const _) };
    if taken <= 0 {
        return false;
    }
    let bytes = (taken as usize - 1) & (WORDS * 8 - 1);
    into.cut = u16::from(bytes == room);
    into.bytes = bytes as u32;
    // Behind the zero is what was there before.
    into.words[(bytes >> 3) & (WORDS - 1)] &= (1 << ((bytes & 7) * 8)) - 1;
    true
}

/// Fills so many bytes, of which there is `room` for that many.
#[inline(always)]
pub(super) fn fill(into: *mut u64, bytes: u32, room: u32, from: u64) -> bool {
    let bytes = if bytes > room { room } else { bytes };
    // SAFETY: the caller has room; any address may be given, the helper checks it.
    bytes == 0 || unsafe { bpf_probe_read_user(into.cast(), bytes, from as *const _) == 0 }
}

/// Copies stack pointers from one map's value to another's.
#[inline(always)]
pub(super) fn copy(to: &mut [u64; MAX_FRAMES], from: &[u64; MAX_FRAMES + 1]) {
    // SAFETY: no more bytes than either has.
    unsafe {
        bpf_probe_read_kernel(to.as_mut_ptr().cast(), (MAX_FRAMES * 8) as u32, from.as_ptr().cast());
    }
}
