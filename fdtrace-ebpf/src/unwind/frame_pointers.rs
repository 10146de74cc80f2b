//! User stacks by frame pointers, without the kernel's walker.
//!
//! `bpf_get_stack` reads each frame with two guarded loads, and where a stack ends in a null pointer, as it should, it
//! takes a page fault: at a dozen frames that costs more than opening a file does.

use fdtrace_common::{hash, unwind::Registers, wire::MAX_FRAMES};

use super::memory::{self, Memory};

/// A frame pointer further from the stack pointer is some other value: the code does not keep frame pointers.
const LARGEST_FRAME: u64 = 8 << 20;

/// Fills `frames` with the address in progress and return addresses, innermost first; says how many, and their name.
#[inline(always)]
pub(crate) fn walk(start: Registers, frames: &mut [u64], memory: &mut Memory) -> (u16, u64) {
    frames[0] = start.instruction;
    let mut hash = hash::mix(hash::SEED, start.instruction);
    let mut count = 1;
    let mut frame = start.frame;
    if frame.wrapping_sub(start.stack) > LARGEST_FRAME {
        return (1, hash::finish(hash));
    }
    let mut block = 0;
    while count < MAX_FRAMES {
        let Some((next, caller)) = memory::pair(memory, &mut block, frame, 0) else { break };
        if caller == 0 {
            break;
        }
        frames[count] = caller;
        hash = hash::mix(hash, caller);
        count += 1;
        if next == frame {
            break;
        }
        frame = next;
    }
    (count as u16, hash::finish(hash))
}
