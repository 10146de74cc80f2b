//! User stacks by frame pointers, without the kernel's walker.
//!
//! `bpf_get_stack` reads each frame with two guarded loads, and where a chain ends in a null pointer, as it should, it
//! takes a page fault: at a dozen frames that costs more than opening a file does. Here a block of stack memory is read
//! at once, and most chains lie in one or two of them.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use fdtrace_common::{hash, wire::MAX_FRAMES};

/// Words of stack memory that are read at once. A power of two.
const BLOCK: usize = 64;
const BLOCK_BYTES: u64 = BLOCK as u64 * 8;
/// A frame: the caller's frame pointer, and the address to return to. The same on x86_64 and aarch64.
const FRAME_BYTES: u64 = 16;

/// A frame pointer further from the stack pointer is some other value: the code does not keep frame pointers.
const LARGEST_FRAME: u64 = 8 << 20;
/// Nothing can be mapped below, and a user's address has no such high bit.
const LOWEST: u64 = 1 << 16;
const HIGH_BITS: u64 = 0xff << 56;

/// Where a user stack begins.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) instruction: u64,
    pub(crate) stack: u64,
    pub(crate) frame: u64,
}

/// Stack memory as it was read, with room for a frame that begins in the last word.
pub(crate) type Memory = [u64; BLOCK + 1];

/// Fills `frames` with the address in progress and return addresses, innermost first; says how many, and their name.
#[inline(always)]
pub(crate) fn walk(start: Start, frames: &mut [u64; MAX_FRAMES], memory: &mut Memory) -> (u16, u64) {
    frames[0] = start.instruction;
    let mut hash = hash::mix(hash::SEED, start.instruction);
    let mut count = 1;
    let mut frame = start.frame;
    if frame.wrapping_sub(start.stack) > LARGEST_FRAME {
        return (1, hash::finish(hash));
    }
    // The address of the first word in `memory`: none yet.
    let mut block = 0;
    while count < MAX_FRAMES {
        if frame < LOWEST || frame & (HIGH_BITS | 7) != 0 {
            break;
        }
        if frame.wrapping_sub(block) > BLOCK_BYTES - FRAME_BYTES {
            match load(memory, frame) {
                Some(address) => block = address,
                None => break,
            }
        }
        let word = (frame.wrapping_sub(block) / 8) as usize & (BLOCK - 1);
        let caller = memory[word + 1];
        if caller == 0 {
            break;
        }
        frames[count] = caller;
        hash = hash::mix(hash, caller);
        count += 1;
        let next = memory[word];
        if next == frame {
            break;
        }
        frame = next;
    }
    (count as u16, hash::finish(hash))
}

/// Reads memory that holds the frame; says where what was read begins.
#[inline(always)]
fn load(memory: &mut Memory, frame: u64) -> Option<u64> {
    if copy(memory, 0, BLOCK_BYTES, frame) {
        return Some(frame);
    }
    // The mapping ends soon behind the frame.
    let before = BLOCK_BYTES - FRAME_BYTES;
    copy(memory, BLOCK - 2, FRAME_BYTES, frame).then(|| frame.wrapping_sub(before))
}

#[inline(always)]
fn copy(memory: &mut Memory, word: usize, bytes: u64, from: u64) -> bool {
    // SAFETY: the callers' lengths end within the block; any address may be given, the helper checks it.
    unsafe { bpf_probe_read_user(memory.as_mut_ptr().add(word).cast(), bytes as u32, from as *const _) == 0 }
}
