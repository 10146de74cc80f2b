//! How large the maps of the table are.

use fdtrace_common::handle_slots::SLOTS;

use crate::kernel::bpf;

/// What fits into the parts of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Size {
    /// Buckets of slots; 0 where there are none.
    pub(in crate::kernel) buckets: u32,
    /// Elements of the hash map.
    pub(in crate::kernel) map: u32,
}

/// Bytes of an entry, and of a handle's address.
const ENTRY: u64 = 40;
const KEY: u64 = 8;

/// What the kernel has for an element of a preallocated hash map besides: its header, and its bucket.
const ELEMENT: u64 = 48 + 16;

impl Size {
    /// For so many handles on this kernel.
    pub(in crate::kernel) fn of(max_handles: u32) -> Self {
        Self::with(max_handles, bpf::has_exchanges())
    }

    /// There are as many slots; when all are taken, one handle in seven finds its bucket full, and the
    /// hash map has room for one in four.
    fn with(max_handles: u32, has_exchanges: bool) -> Self {
        if has_exchanges {
            Self { buckets: max_handles.div_ceil(SLOTS), map: max_handles.div_ceil(4) }
        } else {
            Self { buckets: 0, map: max_handles }
        }
    }

    /// Slots.
    pub(in crate::kernel) fn slots(self) -> u32 {
        self.buckets.saturating_mul(SLOTS)
    }

    /// Bytes of kernel memory.
    pub(in crate::kernel) fn bytes(self) -> u64 {
        u64::from(self.slots()) * (KEY + ENTRY) + u64::from(self.map) * (ELEMENT + KEY + ENTRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_all() {
        assert_eq!(Size::with(1000, false), Size { buckets: 0, map: 1000 });
        let size = Size::with(1001, true);
        assert_eq!((size.slots(), size.map), (1008, 251));
        assert!(size.bytes() < Size::with(1001, false).bytes());
    }
}
