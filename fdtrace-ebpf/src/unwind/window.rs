//! Stack memory for user space, where a walk stopped for want of a rule.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use fdtrace_common::wire::{self, Tag, WINDOW_BYTES};

use super::tables::Stopped;
use crate::events;

/// Read at once; a power of two that divides a page, so that a block lies in one mapping or in none.
const BLOCK: usize = 1024;

/// A record as it goes through the ring.
#[repr(C)]
pub(crate) struct Window {
    header: wire::Window,
    bytes: [u8; WINDOW_BYTES],
}

/// Sends the stack from where the walk stopped, as far as it can be read; false when the ring is full.
#[inline(always)]
pub(crate) fn send(window: &mut Window, stopped: &Stopped, tgid: u32, name: u64) -> bool {
    let stack = stopped.registers.stack;
    let filled = fill(window, stack);
    let above = stopped.top.wrapping_sub(stack) as usize;
    let bytes = if above < filled { above } else { filled };
    window.header = wire::Window {
        tag: Tag::Window as u8,
        exact: stopped.exact as u8,
        reserved: 0,
        tgid,
        hash: name,
        space: stopped.space,
        module: stopped.module,
        offset: stopped.offset,
        start: stopped.start,
        registers: stopped.registers,
        bytes: bytes as u32,
        reserved2: 0,
    };
    // The compiler knows that there are few, and old verifiers do not: the bounds have to be in the code.
    // SAFETY: a field of the window.
    let bytes = unsafe { core::ptr::read_volatile(&raw const window.header.bytes) } as usize;
    let length = size_of::<wire::Window>() + (bytes & (2 * WINDOW_BYTES - 1));
    if length > size_of::<Window>() {
        return false;
    }
    // SAFETY: not longer than the window.
    let record = unsafe { core::slice::from_raw_parts((&raw const *window).cast::<u8>(), length) };
    events::send_urgently(record)
}

/// Reads stack memory in blocks that end where pages do, until one cannot be read; says how many bytes there are.
#[inline(always)]
fn fill(window: &mut Window, from: u64) -> usize {
    let first = BLOCK - (from as usize & (BLOCK - 1));
    if !copy(window, 0, first, from) {
        return 0;
    }
    let mut filled = first;
    let mut block = 1;
    while block < WINDOW_BYTES / BLOCK {
        if filled > WINDOW_BYTES - BLOCK || !copy(window, filled, BLOCK, from.wrapping_add(filled as u64)) {
            break;
        }
        filled += BLOCK;
        block += 1;
    }
    filled
}

#[inline(always)]
fn copy(window: &mut Window, at: usize, bytes: usize, from: u64) -> bool {
    // SAFETY: the callers' lengths end within the window; any address may be given, the helper checks it.
    unsafe {
        bpf_probe_read_user(window.bytes.as_mut_ptr().add(at).cast(), bytes as u32, from as *const _) == 0
    }
}
