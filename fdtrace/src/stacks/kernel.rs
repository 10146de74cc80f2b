//! The kernel's half of a stack.

use crate::{kernel::Symbols, model::KernelFrame};

/// Functions that every allocation passes through; what lies inside of them is the tracer and the slab allocator.
const ALLOCATORS: [&str; 4] =
    ["alloc_empty_file", "alloc_empty_file_noaccount", "alloc_empty_backing_file", "__alloc_file"];

/// Resolves a kernel stack, innermost frame first, beginning with the allocation function.
#[must_use]
pub fn kernel_stack(addresses: &[u64], symbols: &Symbols) -> Vec<KernelFrame> {
    let first = addresses
        .iter()
        .rposition(|address| symbols.function(*address).is_some_and(|name| ALLOCATORS.contains(&base(name))))
        .unwrap_or(0);
    addresses[first..].iter().map(|address| frame(*address, symbols)).collect()
}

/// A function's name without what the compiler added.
pub(super) fn base(name: &str) -> &str {
    name.split_once('.').map_or(name, |(base, _)| base)
}

fn frame(address: u64, symbols: &Symbols) -> KernelFrame {
    match symbols.resolve(address) {
        Some(found) => KernelFrame { symbol: found.name, offset: found.offset },
        None => KernelFrame { symbol: format!("{address:#x}"), offset: 0 },
    }
}
